//! A stack in the emulator with the secret, the log and the function that the commands look for.
//! The real AWS CLI makes it, and reads what the commands left in it.

use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::emulator;
use testkit::process;
use testkit::tool::{self, Finished};
use tokio::process::Command;

pub struct Stack {
    pub folder: TempDir,
    pub name: &'static str,
    pub variables: Vec<(&'static str, String)>,
    pub secret: String,
    pub log_group: String,
}

impl Stack {
    pub async fn make(name: &'static str, parameters: &str) -> Self {
        let aws = process::tool("AWS_CLI", "aws").to_str().unwrap().to_owned();
        let own = [("AWS_CLI", aws), ("AWS_ENDPOINT_URL", emulator::endpoint().await)];
        let variables = emulator::VARIABLES.map(|(name, value)| (name, value.to_owned()));
        let mut stack = Self {
            folder: TempDir::new().unwrap(),
            name,
            variables: own.into_iter().chain(variables).collect(),
            secret: String::new(),
            log_group: String::new(),
        };
        let template = stack.file("stack.json", include_str!("deployed.json"));
        let create = format!(
            "cloudformation create-stack --stack-name {name} --capabilities CAPABILITY_IAM --template-body file://{template} {parameters}"
        );
        stack.aws(&create).await;
        stack
            .aws(&format!("cloudformation wait stack-create-complete --stack-name {name}"))
            .await;
        let describe = format!("cloudformation describe-stacks --stack-name {name}");
        let described = stack.aws(&describe).await;
        let mut outputs =
            emulator::pairs(&described["Stacks"][0]["Outputs"], "OutputKey", "OutputValue");
        let mut output = |key: &str| outputs.remove(key).unwrap();
        (stack.secret, stack.log_group) = (output("SecretArn"), output("Logs"));
        stack
    }

    /// Writes a file and returns its path.
    pub fn file(&self, name: &str, content: impl ToString) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content.to_string()).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs the AWS CLI. Arguments are separated by white space.
    pub async fn aws(&self, arguments: &str) -> Value {
        let answer = emulator::aws(&self.variables[1].1, arguments, &[]).await;
        answer.unwrap_or_else(|problem| panic!("{arguments}: {problem}"))
    }

    pub async fn store(&self, secret: &Value) {
        let file = self.file("stored.json", secret);
        let put = "secretsmanager put-secret-value --secret-id";
        self.aws(&format!("{put} {} --secret-string file://{file}", self.secret)).await;
    }

    pub async fn stored(&self) -> Value {
        let read = format!("secretsmanager get-secret-value --secret-id {}", self.secret);
        let answer = self.aws(&read).await;
        serde_json::from_str(answer["SecretString"].as_str().unwrap()).unwrap()
    }

    /// Writes lines to the function's log.
    pub async fn log(&self, at_ms: u64, lines: &[String]) {
        let group = &self.log_group;
        let event = |line: &String| json!({ "timestamp": at_ms, "message": line });
        let events: Value = lines.iter().map(event).collect();
        let file = self.file("events.json", events);
        let names = format!("--log-group-name {group} --log-stream-name s{at_ms}");
        self.aws(&format!("logs create-log-stream {names}")).await;
        self.aws(&format!("logs put-log-events {names} --log-events file://{file}"))
            .await;
    }

    /// Runs a command of the tool on this stack, with this standard input.
    pub async fn run(&self, arguments: &str, input: &str) -> Finished {
        tool::finish(self.relay(arguments), input).await
    }

    pub fn relay(&self, arguments: &str) -> Command {
        let arguments = format!("{arguments} --stack {}", self.name);
        let mut command = tool::relay(&arguments, &self.variables());
        command.current_dir(self.folder.path());
        command
    }

    fn variables(&self) -> Vec<(&str, &str)> {
        self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect()
    }
}
