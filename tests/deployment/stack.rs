//! A stack of the real template and zip in an emulator of AWS, with a CleverTap of its own.
//! It does not know what is expected of it.

use crate::step;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Output;
use std::time::Duration;
use tempfile::{NamedTempFile, TempDir};
use testkit::emulator::{self, VARIABLES};
use testkit::harness::{
    ACCOUNT_ID, Answer, PASSCODE, SHARED_SECRET, answered, secret_value, signed,
};
use testkit::process;
use testkit::sockets::Server;
use testkit::sockets::tls::Authority;
use testkit::webhook::http_client_trusting;
use testkit::world::clevertap::CleverTap;
use tokio::process::Command;
use tokio::sync::OnceCell;

static CLOUD: OnceCell<Cloud> = OnceCell::const_new();

/// One for all stacks.
struct Cloud {
    endpoint: String,
    authority: Authority,
    roots: NamedTempFile,
    bundle: TempDir,
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
    /// The stack's outputs, and what AWS named its resources.
    made: BTreeMap<String, String>,
}

impl Cloud {
    async fn start() -> Self {
        let authority = Authority::default();
        let roots = authority.pem_file();
        let path = roots.path().to_str().expect("UTF-8");
        let endpoint = emulator::start_under_tls(&authority, path).await;
        Self { endpoint, authority, roots, bundle: bundle() }
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
        let (url, made) = Default::default();
        let mut stack = Self { clevertap, name, cloud, folder, http, url, made };
        stack.deploy(delivery).await;
        let of_stack = |what: &str| format!("cloudformation {what} --stack-name {name}");
        let described = stack.aws(&of_stack("describe-stacks"), &[]).await;
        stack.made = pairs(&described["Stacks"][0]["Outputs"], "OutputKey", "OutputValue");
        let described = stack.aws(&of_stack("describe-stack-resources"), &[]).await;
        let resources = &described["StackResources"];
        stack.made.extend(pairs(resources, "LogicalResourceId", "PhysicalResourceId"));
        let output = stack.made["WebhookUrl"].trim_start_matches("https://");
        let (host, path) = output.split_once('/').unwrap();
        let (api, _) = host.split_once('.').unwrap();
        // The emulator has one host for all APIs.
        stack.url = format!("{}/_aws/execute-api/{api}/{path}", cloud.endpoint);
        stack
    }

    /// Deploys with `./relay deploy`, and returns what it printed.
    pub async fn deploy(&self, delivery: &str) -> String {
        step(self.name, &format!("is deployed by `relay deploy`, {delivery}"));
        let params = self.params(delivery);
        let run = self
            .relay(&format!("deploy --yes --stack {} --params {params}", self.name))
            .await;
        assert!(run.status.success(), "{run:?}");
        String::from_utf8(run.stdout).unwrap()
    }

    /// Deploys with plain `sam deploy` and the settings of samconfig.toml what `sam build` would have built.
    pub async fn deploy_with_sam(&self, delivery: &str) {
        step(self.name, &format!("is deployed by `sam deploy`, {delivery}"));
        let params = self.params(delivery);
        let options = format!("--stack-name {} --parameter-overrides file://{params}", self.name);
        let bucket = "--no-resolve-s3 --s3-bucket purchasely-clevertap-123456789012-eu-west-1";
        let template = self.cloud.bundle.path().join("template.yaml");
        let mut sam = Command::new(process::tool("SAM", "sam"));
        sam.args(["deploy", "--template-file"]).arg(template);
        sam.args(options.split(' ').chain(bucket.split(' ')));
        sam.current_dir(process::repository()).envs(self.variables());
        let run = sam.output().await.expect("sam");
        assert!(run.status.success(), "{run:?}");
    }

    /// Writes params.yaml, which serves both.
    fn params(&self, delivery: &str) -> String {
        let parameters = [
            ("ClevertapRegion", "in1"),
            ("ClevertapAccountId", ACCOUNT_ID),
            ("ClevertapApiUrl", &self.clevertap.url),
            ("RevenueEvent", "none"),
            ("AnonymousUserIdAs", "ignore"),
            ("Delivery", delivery),
            // The emulator lacks saved queries and alarms on expressions.
            ("Monitoring", "false"),
        ];
        let lines = parameters.iter().map(|(name, value)| format!("{name}: \"{value}\"\n"));
        let path = self.folder.path().join("params.yaml");
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        path.display().to_string()
    }

    /// Stores the values of the secret with the command that the stack itself names.
    pub async fn store_secret(&self) {
        let secret = secret_value(PASSCODE, SHARED_SECRET);
        std::fs::write(self.folder.path().join("secret.json"), secret).unwrap();
        let command = &self.made["PutSecretCommand"];
        self.aws(&command["aws ".len()..].replace('\'', ""), &[]).await;
    }

    /// Posts an event as Purchasely does.
    pub async fn post(&self, event: &Value) -> Answer {
        self.post_with(event, SHARED_SECRET, "application/json").await
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

    /// The name that AWS gave a resource of the template.
    pub fn resource(&self, name: &str) -> &str {
        &self.made[name]
    }

    /// Awaits what is posted while the function's role lacks an action on a resource of the template.
    pub async fn without<F: Future>(&self, action: &str, on: &str, posted: F) -> F::Output {
        step(self.name, &format!("lacks {action} on {on}"));
        let role = self.resource("FunctionRole");
        let read = format!("iam get-role-policy --role-name {role} --policy-name relay");
        let write = read.replace("get", "put") + " --policy-document";
        let granted = self.aws(&read, &[]).await["PolicyDocument"].take();
        let mut reduced = granted.clone();
        let statements = reduced["Statement"].as_array_mut().expect("statements");
        let id = format!("{}-{on}-", self.name);
        let is_of = |statement: &&mut Value| statement["Resource"].to_string().contains(&id);
        for statement in statements.iter_mut().filter(is_of) {
            let actions = std::mem::take(&mut statement["Action"]);
            let actions = actions.as_array().cloned().unwrap_or_else(|| vec![actions]);
            statement["Action"] = actions.into_iter().filter(|one| one != action).collect();
        }
        statements.retain(|statement| statement["Action"] != json!([]));
        assert_ne!(reduced, granted, "the role does not grant {action} on {on}");
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
        let arguments = format!("doctor --online --json --stack {} --url {}", self.name, self.url);
        let run = self.relay(&arguments).await;
        let report: Value = serde_json::from_slice(&run.stdout).unwrap_or_default();
        let findings = report["findings"].as_array().unwrap_or_else(|| panic!("{run:?}")).iter();
        // Which tools this machine has is not the stack's business.
        let wrong =
            findings.filter(|found| found["level"] != "ok" && found["id"] != "tool_missing");
        wrong.map(|found| found["id"].as_str().expect("an id").to_owned()).collect()
    }

    pub async fn delete(&self) {
        step(self.name, "is deleted");
        let call = |what: &str| format!("cloudformation {what} --stack-name {}", self.name);
        self.aws(&call("delete-stack"), &[]).await;
        let describe = call("describe-stacks");
        until("the stack is gone", async || self.run(&describe, &[]).await.is_err()).await;
    }

    /// Runs the AWS CLI; the last arguments may contain spaces.
    pub async fn aws(&self, command: &str, last: &[&str]) -> Value {
        let run = self.run(command, last).await;
        let printed = run.unwrap_or_else(|problem| panic!("{command}: {problem}"));
        serde_json::from_str(&printed).unwrap_or_default()
    }

    pub async fn run(&self, command: &str, last: &[&str]) -> Result<String, String> {
        let mut aws = Command::new(process::tool("AWS_CLI", "aws"));
        // Version 1 asks the variable for other services than SQS.
        aws.args(["--endpoint-url", &self.cloud.endpoint])
            .args(command.split_whitespace());
        aws.args(last).current_dir(self.folder.path());
        let run = aws.env_clear().envs(self.variables()).output().await.expect("the AWS CLI");
        let [stdout, stderr] =
            [run.stdout, run.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        if run.status.success() { Ok(stdout) } else { Err(stderr) }
    }

    /// The bundle's tool.
    async fn relay(&self, arguments: &str) -> Output {
        let mut relay = Command::new(self.cloud.bundle.path().join("relay"));
        relay.args(arguments.split(' ')).current_dir(self.folder.path());
        relay.env_clear().envs(self.variables()).output().await.expect("the tool")
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let roots = self.cloud.roots.path().display().to_string();
        let mut variables: Vec<_> = VARIABLES.map(|(name, value)| (name, value.to_owned())).into();
        variables.extend([
            ("AWS_ENDPOINT_URL", self.cloud.endpoint.clone()),
            ("AWS_CA_BUNDLE", roots.clone()),
            ("SSL_CERT_FILE", roots),
            ("AWS_CLI", process::tool("AWS_CLI", "aws").display().to_string()),
        ]);
        variables
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

/// A release's bundle, unpacked.
fn bundle() -> TempDir {
    let path = std::env::var_os("BUNDLE").filter(|path| Path::new(path).is_file()).expect(
        "BUNDLE is not the path of a bundle: run `make deployment`, which builds one and runs these tests",
    );
    let folder = tempfile::tempdir().unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.arg("-xzf")
        .arg(path)
        .args(["--strip-components", "1", "-C"])
        .arg(folder.path());
    assert!(tar.status().unwrap().success());
    folder
}
