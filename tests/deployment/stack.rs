//! A stack of the real template and zip in an emulator of AWS, with a CleverTap of its own.
//! It does not know what is expected of it.

use crate::step;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::{NamedTempFile, TempDir};
use testkit::emulator::{self, VARIABLES, pairs};
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
/// The one that `relay deploy` creates.
const BUCKET: &str = "purchasely-clevertap-123456789012-eu-west-1";
const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") {
    "arm64"
} else {
    "x86_64"
};
/// The build of the package was the same one, so this cargo does not repeat it.
const SAM: &str = r#"
printf '#!/bin/sh\n[ "$1" = lambda ] || exec "$CARGO" "$@"\n' > "$0/cargo"
chmod +x "$0/cargo"
set -- "$1" "$2" --parameter-overrides "file://$0/params.yaml"
PATH="$0:${SAM%/*}:$PATH" "$SAM" build --build-dir "$0/built" "$3" "$4"
exec "$SAM" deploy --template-file "$0/built/template.yaml" --config-file "$PWD/samconfig.toml" \
    --stack-name "$1" --no-resolve-s3 --s3-bucket "$2" "$3" "$4"
"#;

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
    /// The stack's outputs, and what AWS named its resources.
    made: BTreeMap<String, String>,
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
        self.relay(&format!("deploy --yes --stack {} --params {params}", self.name))
            .await
    }

    /// Deploys the clone, and returns what it printed.
    pub async fn deploy_with_make(&self, delivery: &str) -> String {
        step(self.name, &format!("is deployed by `make deploy`, {delivery}"));
        let params = self.params(delivery);
        let mut make = Command::new("make");
        make.args([
            "deploy",
            "ARGS=--yes",
            &format!("STACK={}", self.name),
            &format!("PARAMS={params}"),
        ]);
        make.current_dir(process::repository()).envs(self.variables());
        // They are for the make and the cargo that run this test.
        for name in process::cargo_variables().chain(["MAKEFLAGS", "MAKELEVEL"].map(Into::into)) {
            make.env_remove(name);
        }
        let run = make.output().await.expect("make");
        assert!(run.status.success(), "{run:?}");
        String::from_utf8(run.stdout).expect("UTF-8")
    }

    /// Deploys the clone with plain SAM.
    pub async fn deploy_with_sam(&self, delivery: &str) {
        step(self.name, &format!("is deployed by SAM, {delivery}"));
        self.params(delivery);
        let mut shell = Command::new("sh");
        shell.args(["-ec", SAM]).arg(self.folder.path()).args([self.name, BUCKET]);
        shell.current_dir(process::repository()).envs(self.variables());
        let run = shell.env("SAM", process::tool("SAM", "sam")).output().await.expect("a shell");
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
            ("Architecture", ARCHITECTURE),
            ("Delivery", delivery),
            // The emulator lacks saved queries and alarms on expressions.
            ("Monitoring", "false"),
        ];
        let lines = parameters.iter().map(|(name, value)| format!("{name}: \"{value}\"\n"));
        let path = self.folder.path().join("params.yaml");
        std::fs::write(&path, lines.collect::<String>()).unwrap();
        path.display().to_string()
    }

    pub async fn store_secret(&self) {
        let secret = secret_value(PASSCODE, SHARED_SECRET);
        std::fs::write(self.folder.path().join("secret.json"), secret).unwrap();
        self.relay(&format!("secret --yes --stack {}", self.name)).await;
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

    /// Replaces the policy of the event queue by one that grants the function what AWS counts as
    /// `sqs:ChangeMessageVisibility` and the emulator calls by the operation's name.
    pub async fn permit_the_batch(&self) {
        let role = format!("arn:aws:iam::123456789012:role/{}", self.resource("FunctionRole"));
        let statement = json!({
            "Effect": "Allow",
            "Principal": { "AWS": role },
            "Action": "sqs:ChangeMessageVisibilityBatch",
            "Resource": "*",
        });
        let policy = json!({ "Version": "2012-10-17", "Statement": [statement] }).to_string();
        let queue = self.resource("EventQueue");
        let command = format!("sqs set-queue-attributes --queue-url {queue} --attributes");
        self.aws(&command, &[&json!({ "Policy": policy }).to_string()]).await;
    }

    /// What the doctor finds wrong.
    pub async fn doctor(&self) -> Vec<String> {
        step(self.name, "asks the doctor");
        let arguments = format!("doctor --online --json --stack {} --url {}", self.name, self.url);
        let report: Value = serde_json::from_str(&self.relay(&arguments).await).expect("JSON");
        let findings = report["findings"].as_array().expect("findings").iter();
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
        let gone = async || {
            self.run(&describe, &[])
                .await
                .is_err_and(|problem| problem.contains("does not exist"))
        };
        until("the stack is gone", gone).await;
    }

    /// Runs the AWS CLI; the last arguments may contain spaces.
    pub async fn aws(&self, command: &str, last: &[&str]) -> Value {
        let run = self.run(command, last).await;
        run.unwrap_or_else(|problem| panic!("{command}: {problem}"))
    }

    /// The same, or what the AWS CLI says instead.
    pub async fn run(&self, command: &str, last: &[&str]) -> Result<Value, String> {
        let roots = self.cloud.roots.path().display().to_string();
        let trusting = [last, &["--ca-bundle", &roots]].concat();
        emulator::aws(&self.cloud.endpoint, command, &trusting).await
    }

    /// Runs the bundle's tool, and returns what it printed.
    async fn relay(&self, arguments: &str) -> String {
        let mut relay = Command::new(bundle().join("relay"));
        relay.args(arguments.split(' ')).current_dir(self.folder.path());
        let run = relay.env_clear().envs(self.variables()).output().await.expect("the tool");
        assert!(run.status.success(), "{arguments}: {run:?}");
        String::from_utf8(run.stdout).expect("UTF-8")
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

/// A release's bundle, unpacked.
fn bundle() -> PathBuf {
    let path = std::env::var_os("BUNDLE").map(PathBuf::from);
    path.filter(|path| path.is_dir()).expect(
        "BUNDLE is not the path of a folder: `make deployment` makes one and runs these tests",
    )
}
