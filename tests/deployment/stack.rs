//! A stack of the real template and zip in an emulator of AWS, with a CleverTap of its own.
//! It does not know what is expected of it.

use crate::step;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::{NamedTempFile, TempDir};
use testkit::emulator::{self, VARIABLES};
use testkit::harness::{
    ACCOUNT_ID, Answer, PASSCODE, SHARED_SECRET, answered, secret_value, signed,
};
use testkit::process::tool;
use testkit::sockets::Server;
use testkit::sockets::tls::Authority;
use testkit::tool::run;
use testkit::webhook::http_client_trusting;
use testkit::world::clevertap::CleverTap;
use tokio::process::Command;
use tokio::sync::OnceCell;

static CLOUD: OnceCell<Cloud> = OnceCell::const_new();
/// The name that the template gives the role's policy.
const POLICY: &str = "relay";
const JSON: &str = "application/json";

/// One for all stacks.
struct Cloud {
    endpoint: String,
    authority: Authority,
    roots: NamedTempFile,
}

pub struct Stack {
    pub clevertap: Server<CleverTap>,
    name: &'static str,
    cloud: &'static Cloud,
    /// With params.yaml and secret.json.
    folder: TempDir,
    http: reqwest::Client,
    /// The address of the webhook.
    url: String,
    outputs: BTreeMap<String, String>,
    resources: BTreeMap<String, String>,
}

impl Cloud {
    async fn start() -> Self {
        let authority = Authority::default();
        let roots = authority.pem_file();
        let path = roots.path().to_str().expect("UTF-8");
        let endpoint = emulator::start_under_tls(&authority, path).await;
        Self { endpoint, authority, roots }
    }
}

impl Stack {
    /// Deploys it; the secret has no values yet.
    pub async fn create(name: &'static str, delivery: &str) -> Self {
        let cloud = CLOUD.get_or_init(Cloud::start).await;
        let clevertap = cloud.authority.serve(CleverTap::new(ACCOUNT_ID, PASSCODE)).await;
        let roots = purchasely_clevertap::http::roots(Some(cloud.roots.path())).unwrap();
        let http = http_client_trusting(roots).unwrap().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (url, outputs, resources) = Default::default();
        let mut stack = Self {
            clevertap,
            name,
            cloud,
            folder,
            http,
            url,
            outputs,
            resources,
        };
        stack.deploy(delivery).await;
        let of_stack = |what: &str| format!("cloudformation {what} --stack-name {name}");
        let described = stack.aws(&of_stack("describe-stacks"), &[]).await;
        let outputs = &described["Stacks"][0]["Outputs"];
        stack.outputs = pairs(outputs, "OutputKey", "OutputValue");
        let described = stack.aws(&of_stack("describe-stack-resources"), &[]).await;
        let resources = &described["StackResources"];
        stack.resources = pairs(resources, "LogicalResourceId", "PhysicalResourceId");
        let output = stack.outputs["WebhookUrl"].trim_start_matches("https://");
        let (host, path) = output.split_once('/').unwrap();
        let (api, _) = host.split_once('.').unwrap();
        // The emulator has one host for all APIs.
        stack.url = format!("{}/_aws/execute-api/{api}/{path}", cloud.endpoint);
        stack
    }

    /// Deploys what params.yaml says, and returns what was printed.
    pub async fn deploy(&self, delivery: &str) -> String {
        step(self.name, &format!("deploys, {delivery}"));
        let parameters = [
            ("ClevertapRegion", "in1"),
            ("ClevertapAccountId", ACCOUNT_ID),
            ("ClevertapApiUrl", &self.clevertap.url),
            ("RevenueEvent", "none"),
            ("AnonymousUserIdAs", "ignore"),
            ("Delivery", delivery),
            // The emulator lacks AWS::Logs::QueryDefinition and alarms on expressions.
            ("Monitoring", "false"),
        ];
        let lines: Vec<_> =
            parameters.iter().map(|(name, value)| format!("{name}={value}")).collect();
        std::fs::write(self.folder.path().join("params.json"), json!(lines).to_string()).unwrap();
        let template = package().with_file_name(template_name());
        let template = template.to_str().unwrap();
        let bucket = format!("zips-{}", self.name);
        let _ = self.run(&format!("s3 mb s3://{bucket}"), &[]).await;
        self.run(&format!("cloudformation package --template-file {template} --s3-bucket {bucket} --output-template-file packed.yaml"), &[]).await.unwrap();
        self.run(&format!("cloudformation deploy --template-file packed.yaml --s3-bucket {bucket} --stack-name {} --parameter-overrides file://params.json --capabilities CAPABILITY_IAM --no-fail-on-empty-changeset", self.name), &[]).await.unwrap()
    }

    /// Stores the values of the secret with the command that the stack itself names.
    pub async fn store_secret(&self) {
        let secret = secret_value(PASSCODE, SHARED_SECRET);
        std::fs::write(self.folder.path().join("secret.json"), secret).unwrap();
        let command = &self.outputs["PutSecretCommand"];
        self.aws(&command["aws ".len()..].replace('\'', ""), &[]).await;
    }

    /// Posts an event as Purchasely does.
    pub async fn post(&self, event: &Value) -> Answer {
        self.post_with(event, SHARED_SECRET, JSON).await
    }

    pub async fn post_with(&self, event: &Value, secret: &str, content_type: &str) -> Answer {
        let body = event.to_string();
        let webhook = signed(body.as_bytes(), secret);
        let mut request = self.http.post(&self.url).header("content-type", content_type);
        for (name, value) in webhook.headers() {
            request = request.header(name, value);
        }
        let response = request.body(body).send().await.expect("an answer");
        let status = response.status().as_u16().into();
        let body = response.bytes().await.expect("a body");
        answered(status, serde_json::from_slice(&body).unwrap_or_default())
    }

    /// The ids of the events that CleverTap accepted, in their order, without the profiles.
    pub fn accepted(&self) -> Vec<String> {
        let records = self.clevertap.accepted().into_iter();
        let id = |record: Value| Some(record["evtData"]["event_id"].as_str()?.to_owned());
        records.filter_map(id).collect()
    }

    /// Waits until a line of the log contains this.
    pub async fn expect_line(&self, text: &str) {
        let group = self.resource("FunctionLogGroup");
        let command = format!("logs filter-log-events --log-group-name {group}");
        until(text, async || self.aws(&command, &[]).await.to_string().contains(text)).await;
    }

    /// How many messages of a queue are visible, and how many are not.
    pub async fn messages(&self, queue: &str) -> [String; 2] {
        let url = self.resource(queue);
        let names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"];
        let command = format!("sqs get-queue-attributes --queue-url {url} --attribute-names");
        let found = self.aws(&command, &names).await;
        names.map(|name| found["Attributes"][name].as_str().expect(name).to_owned())
    }

    /// The name that AWS gave a resource of the template.
    pub fn resource(&self, name: &str) -> &str {
        &self.resources[name]
    }

    /// Awaits what is posted while the function's role lacks an action on a resource of the template.
    pub async fn without<T>(
        &self,
        action: &str,
        resource: &str,
        posted: impl Future<Output = T>,
    ) -> T {
        step(self.name, &format!("lacks {action} on {resource}"));
        let role = self.resource("FunctionRole");
        let read = format!("iam get-role-policy --role-name {role} --policy-name {POLICY}");
        let write = read.replace("get", "put") + " --policy-document";
        let granted = self.aws(&read, &[]).await["PolicyDocument"].take();
        let mut reduced = granted.clone();
        let statements = reduced["Statement"].as_array_mut().expect("statements");
        let of_resource = format!("{}-{resource}-", self.name);
        let is_of = |statement: &Value| statement["Resource"].to_string().contains(&of_resource);
        for statement in statements.iter_mut().filter(|statement| is_of(statement)) {
            let actions = std::mem::take(&mut statement["Action"]);
            let actions = actions.as_array().cloned().unwrap_or_else(|| vec![actions]);
            statement["Action"] = actions.into_iter().filter(|one| one != action).collect();
        }
        statements.retain(|statement| statement["Action"] != json!([]));
        assert_ne!(reduced, granted, "the role does not grant {action} on {resource}");
        self.aws(&write, &[&reduced.to_string()]).await;
        let answer = posted.await;
        self.aws(&write, &[&granted.to_string()]).await;
        answer
    }

    /// Grants the function in the queue's own policy what AWS counts as `sqs:ChangeMessageVisibility` and the emulator
    /// calls by the operation's name.
    pub async fn permit_the_batch(&self) {
        let queue = self.resource("EventQueue");
        let attributes = format!("--queue-url {queue} --attribute");
        let command = format!("sqs get-queue-attributes {attributes}-names Policy QueueArn");
        let found = self.aws(&command, &[]).await["Attributes"].take();
        let text = |name: &str| found[name].as_str().expect(name).to_owned();
        let mut policy: Value = serde_json::from_str(&text("Policy")).expect("JSON");
        let role = self.resource("FunctionRole");
        policy["Statement"].as_array_mut().expect("statements").push(json!({
            "Effect": "Allow",
            "Principal": { "AWS": format!("arn:aws:iam::123456789012:role/{role}") },
            "Action": "sqs:ChangeMessageVisibilityBatch",
            "Resource": text("QueueArn"),
        }));
        let policy = json!({ "Policy": policy.to_string() }).to_string();
        self.aws(&format!("sqs set-queue-attributes {attributes}s"), &[&policy]).await;
    }

    /// What the doctor finds wrong.
    pub async fn doctor(&self) -> Vec<String> {
        step(self.name, "asks the doctor");
        let roots = self.cloud.roots.path().to_str().expect("UTF-8");
        let (aws, path) = (tool("AWS_CLI", "aws"), std::env::var("PATH").unwrap_or_default());
        let variables = [
            ("AWS_ENDPOINT_URL", self.cloud.endpoint.as_str()),
            ("AWS_CA_BUNDLE", roots),
            ("SSL_CERT_FILE", roots),
            ("AWS_CLI", aws.to_str().expect("UTF-8")),
            ("PATH", &path),
        ];
        let arguments = format!("doctor --online --json --stack {} --url {}", self.name, self.url);
        let run = run(&arguments, &[&VARIABLES[..], &variables].concat()).await;
        let report: Value = serde_json::from_str(&run.stdout).expect(&run.stderr);
        let findings = report["findings"].as_array().expect("findings").iter();
        // Which tools this machine has is not the stack's business.
        let wrong =
            findings.filter(|found| found["level"] != "ok" && found["id"] != "tool_missing");
        wrong.map(|found| found["id"].as_str().expect("an id").to_owned()).collect()
    }

    pub async fn delete(&self) {
        step(self.name, "is deleted");
        self.aws(&format!("cloudformation delete-stack --stack-name {}", self.name), &[])
            .await;
        let describe = format!("cloudformation describe-stacks --stack-name {}", self.name);
        until("the stack is gone", async || self.run(&describe, &[]).await.is_err()).await;
    }

    /// Runs the AWS CLI; the last arguments may contain spaces.
    pub async fn aws(&self, command: &str, last: &[&str]) -> Value {
        let printed = self
            .run(command, last)
            .await
            .unwrap_or_else(|problem| panic!("{command}: {problem}"));
        serde_json::from_str(&printed).unwrap_or_default()
    }

    pub async fn run(&self, command: &str, last: &[&str]) -> Result<String, String> {
        let output = Command::new(tool("AWS_CLI", "aws"))
            .args(command.split_whitespace())
            .args(last)
            .current_dir(self.folder.path())
            .env_clear()
            .envs(VARIABLES)
            .env("AWS_ENDPOINT_URL", &self.cloud.endpoint)
            .env("AWS_CA_BUNDLE", self.cloud.roots.path())
            .output()
            .await
            .expect("the AWS CLI");
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stderr))
        }
    }
}

/// Waits until it is so. Only a hang fails.
pub async fn until<F: Future<Output = bool>>(what: &str, is_so: impl Fn() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(2), waiting).await;
    assert!(waited.is_ok(), "never: {what}");
}

fn pairs(list: &Value, key: &str, value: &str) -> BTreeMap<String, String> {
    let text = |entry: &Value, name: &str| entry[name].as_str().expect(name).to_owned();
    let entries = list.as_array().expect("a list").iter();
    entries.map(|entry| (text(entry, key), text(entry, value))).collect()
}

fn package() -> PathBuf {
    let path = std::env::var_os("PACKAGE").map(PathBuf::from);
    path.filter(|path| path.is_file())
        .expect("PACKAGE is not the path of a zip: run `make deployment`, which builds one and runs these tests")
}

/// The name of the template that `make package` writes beside the zip.
fn template_name() -> String {
    let zip = package();
    let zip = zip.file_stem().unwrap().to_str().unwrap();
    zip.replace("purchasely-clevertap-", "template-") + ".yaml"
}
