//! `cargo relay doctor` finds what is wrong, finds nothing where nothing is, and never shows a secret.
//!
//! Resources are moto's, read by the real AWS CLI. moto has no drift detection: those three operations
//! are answered from files, in the shapes of the AWS CLI's reference.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use testkit::clevertap::{CleverTap, Reply};
use testkit::connections::{Connections, Ending};
use testkit::harness::{ACCOUNT_ID, PASSCODE, SHARED_SECRET, World, listen, secret_value};
use testkit::hyper::header::DATE;
use testkit::process::{built, free_port, tool};
use testkit::secrets_manager::SecretsManager;
use testkit::webhook::{Front, Webhook};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::process::Command;
use tools::doctor::{CHECKS, Level};

const SANDBOX_ACCOUNT: &str = "TEST-123-4567";
const SANDBOX_PASSCODE: &str = "sandbox-passcode-of-the-tests";
const TIMEOUT: Duration = Duration::from_mins(10);

/// A run of the doctor in a folder of its own, with nothing in its environment but what is set here.
struct Doctor {
    folder: TempDir,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
}

struct Report {
    code: i32,
    /// Id, and the rest of the finding as text.
    findings: Vec<(String, String)>,
    fixes: Vec<String>,
}

impl Doctor {
    fn new(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        Self {
            folder,
            arguments: arguments.iter().map(ToString::to_string).collect(),
            variables: [("PATH".to_owned(), path)].into(),
        }
    }

    fn set(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    fn relaying_to(self, clevertap_url: &str) -> Self {
        self.set("CLEVERTAP_REGION", "in1")
            .set("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID)
            .set("CLEVERTAP_API_URL", clevertap_url)
            .set("SECRET_ID", "relay")
    }

    fn file(self, name: &str, content: &str) -> Self {
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self
    }

    fn program(self, name: &str, script: &str) -> Self {
        let doctor = self.file(name, &format!("#!/bin/sh\n{script}\n"));
        let file = doctor.folder.path().join(name);
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o755)).unwrap();
        doctor
    }

    /// The real AWS CLI against moto, but for the operations whose answer is a file of the folder.
    async fn with_aws(self) -> Self {
        let real = tool("AWS_CLI", "aws");
        let script = format!(
            r#"answer="$(/usr/bin/dirname "$0")/$2"
if [ -f "$answer.first" ]; then /bin/cat "$answer.first"; /bin/rm "$answer.first"
elif [ -f "$answer" ]; then /bin/cat "$answer"
else exec {} "$@"; fi"#,
            real.display()
        );
        self.program("aws", &script)
            .set("AWS_ENDPOINT_URL", &testkit::moto::endpoint().await)
            .set("AWS_REGION", "eu-west-1")
            .set("AWS_ACCESS_KEY_ID", "test")
            .set("AWS_SECRET_ACCESS_KEY", "test")
    }

    async fn output(&self, arguments: &[&str]) -> (i32, String) {
        let run = Command::new(built("examples/relay"))
            .arg("doctor")
            .args(&self.arguments)
            .args(arguments)
            .env_clear()
            .envs(&self.variables)
            .current_dir(self.folder.path())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(TIMEOUT, run).await.unwrap().unwrap();
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8(text).unwrap();
        for secret in [PASSCODE, SHARED_SECRET, SANDBOX_PASSCODE] {
            assert!(!text.contains(secret), "{text}");
        }
        (output.status.code().unwrap(), text)
    }

    async fn run(&self) -> Report {
        let (code, output) = self.output(&["--json"]).await;
        let report: Value = serde_json::from_str(&output).expect(&output);
        let findings = report["findings"].as_array().unwrap();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rest = |found: &Value| format!("{}: {}", text(&found["name"]), text(&found["what"]));
        Report {
            code,
            findings: findings
                .iter()
                .map(|found| (text(&found["id"]), rest(found)))
                .collect(),
            fixes: findings.iter().map(|found| text(&found["fix"])).collect(),
        }
    }

    /// Runs a command line of the AWS CLI, as a person would.
    async fn shell(&self, command: &str) {
        let endpoint = &self.variables["AWS_ENDPOINT_URL"];
        let output = Command::new("/bin/sh")
            .args(["-c", &format!("{command} --endpoint-url {endpoint}")])
            .env_clear()
            .envs(&self.variables)
            .env("AWS_DEFAULT_REGION", "eu-west-1")
            .output();
        let output = output.await.unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

impl Report {
    /// The only finding of this id, with these words.
    #[track_caller]
    fn has(&self, id: &str, words: &str) {
        let mut found = self.findings.iter().filter(|(other, _)| other == id);
        let is_found = found.next().is_some_and(|(_, what)| what.contains(words));
        assert!(
            is_found && found.next().is_none(),
            "{id}: {words}: {:?}",
            self.findings
        );
    }

    /// The ids that are not `ok`, but for tools and absent settings, which depend on the machine.
    fn problems(&self) -> BTreeSet<&str> {
        let ids = self.findings.iter().map(|(id, _)| id.as_str());
        let is_problem = |id: &&str| {
            CHECKS
                .iter()
                .any(|check| check.id == *id && check.level > Level::Ok)
        };
        let ids = ids.filter(is_problem).filter(|id| !id.starts_with("tool_"));
        ids.filter(|id| *id != "settings_absent").collect()
    }
}

/// Serves one answer, dated this far ahead.
async fn serve(status: u16, body: &'static str, ahead: Duration) -> String {
    let (listener, url) = listen().await;
    let handle = move |_| async move {
        let mut answer = Ending::answer(status, "application/json", body);
        if let Ending::Answer(response) = &mut answer {
            let date = OffsetDateTime::from(SystemTime::now() + ahead).format(&Rfc2822);
            let date = date.unwrap().replace("+0000", "GMT");
            response.headers_mut().insert(DATE, date.parse().unwrap());
        }
        answer
    };
    tokio::spawn(async move { Connections::new().serve_listener(listener, handle).await });
    format!("{url}/webhooks/purchasely")
}

/// Puts an address before the real function, as API Gateway would.
async fn publish(world: &World) -> String {
    let (listener, url) = listen().await;
    let api = world.api.clone();
    let handle = move |request: testkit::hyper::Request<bytes::Bytes>| {
        let api = api.clone();
        let headers = request.headers().iter();
        let headers =
            headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().into()));
        let headers: serde_json::Map<_, _> = headers.collect();
        let mut envelope =
            Webhook::new(request.into_body().to_vec(), "", 0).envelope(Front::HttpApi);
        envelope["headers"] = headers.into();
        async move {
            let answer = api.invoke(envelope).await.unwrap();
            let status = answer["statusCode"].as_u64().unwrap().try_into().unwrap();
            let body = answer["body"].as_str().unwrap().to_owned();
            Ending::answer(status, "application/json", body)
        }
    };
    tokio::spawn(async move { Connections::new().serve_listener(listener, handle).await });
    format!("{url}/webhooks/purchasely")
}

async fn clevertap() -> (CleverTap, String) {
    let clevertap = CleverTap::new(ACCOUNT_ID, PASSCODE);
    let (listener, url) = listen().await;
    tokio::spawn(clevertap.clone().serve(listener));
    (clevertap, url)
}

#[test]
fn every_check_has_an_id_of_its_own_and_every_problem_a_fix() {
    let ids: BTreeSet<_> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), CHECKS.len());
    for check in CHECKS {
        assert_eq!(
            check.fix.is_empty(),
            check.level == Level::Ok,
            "{}",
            check.id
        );
    }
}

#[tokio::test]
async fn tools_are_found_and_old_ones_are_errors() {
    let doctor = Doctor::new(&[])
        .program(
            "cargo-lambda",
            "echo cargo-lambda 1.9.1 '(abc 2026-01-01Z)'",
        )
        .program("sam", "echo SAM CLI, version 1.170.0");
    let report = doctor.run().await;
    report.has("tool_outdated", "cargo-lambda: 1.9.1 is older than 1.9.2");
    report.has("tool", "sam: 1.170.0");
    report.has("tool_missing", "aws: is not found");
    report.has("settings_absent", "");
    assert_eq!(report.code, 1);

    let doctor = doctor.program("cargo-lambda", "echo cargo-lambda 1.9.2");
    let (code, text) = doctor.output(&[]).await;
    assert!(
        text.starts_with("Tools\n  ok       tool  ")
            && text.ends_with("\n\n2 ok, 2 warnings, 0 errors\n"),
        "{text}"
    );
    assert_eq!(code, 0, "warnings alone are no failure");
    assert_eq!(doctor.output(&["--strict"]).await.0, 1);
    assert_eq!(doctor.output(&["--url", "ftp://x"]).await.0, 2);
}

#[tokio::test]
async fn settings_are_read_as_cargo_lambda_and_the_function_read_them() {
    let valid = "CLEVERTAP_REGION = eu1 # why\nexport CLEVERTAP_ACCOUNT_ID=ABC-123-4567\n\n# more\nSECRET_ID='relay'\n";
    for (more, problem, words) in [
        ("EVENT_NAMES=\"A=B;C=D\"", "guarantee_missing", ""),
        ("REVENUE_EVENT=", "guarantee_missing", ""),
        ("EVENT_NAMES=A=B", "env_file_invalid", "line 6 needs quotes"),
        (
            "EVENTS_ENABLED=a b",
            "env_file_invalid",
            "line 6 needs quotes",
        ),
        (
            "EVENTS_ENABLED=it's",
            "env_file_invalid",
            "line 6 needs quotes",
        ),
        (
            "EVENTS_ENABLED='a",
            "env_file_invalid",
            "line 6 opens a quote",
        ),
        (
            "EVENTS_ENABLED= \nA=1",
            "env_file_invalid",
            "line 6 ends in white space",
        ),
        (
            "EVENTS_ENABLED",
            "env_file_invalid",
            "line 6 is not NAME=value",
        ),
        (
            "CLEVERTAP_REGION=mars",
            "setting_invalid",
            "CLEVERTAP_REGION: is `mars`",
        ),
        (
            "SSL_CERT_FILE=relay.env",
            "setting_invalid",
            "SSL_CERT_FILE: it has no certificate",
        ),
        (
            "CLEVERTAP_DRY_RUN=true",
            "setting_doubtful",
            "CLEVERTAP_DRY_RUN",
        ),
        ("EVENT_NAME=x", "setting_unknown", "EVENT_NAME"),
    ] {
        let doctor = Doctor::new(&["--env-file", "relay.env"]);
        let report = doctor
            .file("relay.env", &format!("{valid}{more}"))
            .run()
            .await;
        let found = report.findings.iter();
        let mut found = found.filter(|(id, what)| id == problem && what.contains(words));
        assert!(found.next().is_some(), "{more}: {:?}", report.findings);
        let is_error = problem.ends_with("_invalid");
        assert_eq!(report.code, i32::from(is_error), "{more}");
        if !is_error {
            report.has("settings", "relay.env: uploads to https://api.clevertap.com (eu1 (Europe)); account ABC-123-4567");
        }
    }
    let report = Doctor::new(&["--env-file", "none.env"]).run().await;
    report.has("env_file_invalid", "none.env: No such file");
}

#[tokio::test]
async fn a_secret_is_checked_before_it_is_stored() {
    let valid = json!({ "clevertap_passcode": PASSCODE, "purchasely_shared_secret": SHARED_SECRET, "clevertap_sandbox_passcode": SANDBOX_PASSCODE });
    let mut swapped = valid.clone();
    swapped[PASSCODE] = json!("clevertap_passcode");
    for (content, id, words) in [
        (valid.to_string(), "secret", "has clevertap_passcode, "),
        (swapped.to_string(), "secret_key_unknown", "1 of its keys"),
        (
            secret_value(PASSCODE, SHARED_SECRET),
            "sandbox_passcode_missing",
            "",
        ),
        (
            secret_value(&format!("{PASSCODE}\n"), SHARED_SECRET),
            "secret_invalid",
            "white space",
        ),
        (
            secret_value(PASSCODE, ""),
            "secret_invalid",
            "`purchasely_shared_secret` is empty",
        ),
        (PASSCODE.to_owned(), "secret_invalid", "not a JSON object"),
    ] {
        let doctor =
            Doctor::new(&["--secret-file", "secret.json"]).relaying_to("http://127.0.0.1:9");
        let doctor = doctor.set("CLEVERTAP_SANDBOX_ACCOUNT_ID", SANDBOX_ACCOUNT);
        doctor
            .file("secret.json", &content)
            .run()
            .await
            .has(id, words);
    }
    let report = Doctor::new(&["--secret-file", "none.json"]).run().await;
    report.has("secret_unreadable", "none.json: No such file");
}

#[tokio::test]
async fn clevertap_says_whether_region_account_and_passcode_belong_together() {
    let (clevertap, url) = clevertap().await;
    let doctor = Doctor::new(&["--online", "--secret-file", "secret.json"])
        .relaying_to(&url)
        .file("secret.json", &secret_value(PASSCODE, SHARED_SECRET));
    let refuse = |code| Reply::RefuseRecord { number: 1, code };
    for (reply, id, words) in [
        (Reply::Normal, "clevertap", "nothing was stored"),
        (Reply::Status(429), "clevertap_busy", "429"),
        (refuse(555), "clevertap_busy", "555"),
        (refuse(528), "clevertap_refused", "528"),
        (Reply::Status(302), "clevertap_unexpected", "302"),
        (
            Reply::CloseBeforeAnswer,
            "clevertap_unreachable",
            "ConnectionLost",
        ),
    ] {
        clevertap.script([reply]);
        let report = doctor.run().await;
        report.has(id, &format!("account {ACCOUNT_ID} at {url}: "));
        report.has(id, words);
        report.has("clock", &url);
    }
    assert_eq!(clevertap.uploads()[0].query.as_deref(), Some("dryRun=1"));
    clevertap.set_passcode("another");
    doctor.run().await.has("clevertap_credentials", "401");
    assert!(clevertap.accepted().is_empty());

    let doctor = doctor.set("CLEVERTAP_SANDBOX_ACCOUNT_ID", SANDBOX_ACCOUNT);
    let both = json!({ "clevertap_passcode": "another", "purchasely_shared_secret": SHARED_SECRET, "clevertap_sandbox_passcode": SANDBOX_PASSCODE });
    let report = doctor.file("secret.json", &both.to_string()).run().await;
    report.has("clevertap", ACCOUNT_ID);
    report.has("clevertap_credentials", SANDBOX_ACCOUNT);
}

#[tokio::test]
async fn the_address_is_judged_by_two_requests_that_the_function_must_refuse() {
    let unsigned = [("PURCHASELY_SIGNATURE", "off")];
    let value = secret_value(PASSCODE, SHARED_SECRET);
    for (secret_id, settings, expected) in [
        ("relay", &[][..], ["webhook", "webhook_secret"]),
        ("another", &[], ["webhook", "webhook_secret_missing"]),
        ("relay", &unsigned, ["webhook_unsigned", "clock"]),
    ] {
        let world = World::start_with(SecretsManager::new(secret_id, &value), settings).await;
        let report = Doctor::new(&["--url", &publish(&world).await]).run().await;
        for id in expected {
            report.has(id, "");
        }
        assert!(world.clevertap.uploads().is_empty());
    }
    for (status, body, id) in [
        (301, "", "webhook_redirect"),
        (401, r#"{"message":"Unauthorized"}"#, "webhook_intercepted"),
        (403, r#"{"Message":"Forbidden"}"#, "webhook_forbidden"),
        (404, r#"{"message":"Not Found"}"#, "webhook_path"),
        (
            429,
            r#"{"message":"Too Many Requests"}"#,
            "webhook_throttled",
        ),
        (502, "", "webhook_failing"),
        (503, r#"{"error":"unavailable"}"#, "webhook_unavailable"),
        (
            503,
            r#"{"message":"Service Unavailable"}"#,
            "webhook_failing",
        ),
        (418, "", "webhook_unexpected"),
    ] {
        let url = serve(status, body, Duration::ZERO).await;
        let report = Doctor::new(&["--url", &url]).run().await;
        assert_eq!(report.problems(), [id].into());
        report.has(id, &status.to_string());
    }
    let nobody = format!("http://127.0.0.1:{}", free_port().await);
    let doctor = Doctor::new(&["--url", &nobody]);
    doctor.run().await.has("webhook_unreachable", "refused");
    let doctor = doctor
        .relaying_to(&nobody)
        .set("PURCHASELY_SIGNATURE", "off");
    doctor.run().await.has("webhook_skipped", "");
}

#[tokio::test]
async fn the_clock_is_compared_with_the_answer() {
    for (minutes, id) in [(0, "clock"), (3, "clock_off"), (10, "clock_wrong")] {
        let ahead = Duration::from_mins(minutes);
        let url = serve(401, r#"{"error":"unauthorized"}"#, ahead).await;
        Doctor::new(&["--url", &url]).run().await.has(id, "s apart");
    }
}

/// A stack with the template's resources, as far as moto makes them.
fn template(clevertap_url: &str, webhook_url: &str) -> String {
    let att = |resource: &str| json!({ "Fn::GetAtt": [resource, "Arn"] });
    let queue = |name: &str| {
        json!({
            "FifoQueue": true, "QueueName": { "Fn::Sub": format!("${{AWS::StackName}}-{name}.fifo") },
            "MessageRetentionPeriod": 1_209_600, "VisibilityTimeout": 300,
        })
    };
    let mut events = queue("events");
    events["RedrivePolicy"] =
        json!({ "deadLetterTargetArn": att("DeadLetters"), "maxReceiveCount": 1000 });
    json!({
        "Resources": {
            "Role": { "Type": "AWS::IAM::Role", "Properties": { "AssumeRolePolicyDocument": {} } },
            "Secret": { "Type": "AWS::SecretsManager::Secret", "Properties": { "Name": { "Ref": "AWS::StackName" }, "SecretString": secret_value(PASSCODE, SHARED_SECRET) } },
            "DeadLetters": { "Type": "AWS::SQS::Queue", "Properties": queue("dead") },
            "Events": { "Type": "AWS::SQS::Queue", "Properties": events },
            "Claims": { "Type": "AWS::DynamoDB::Table", "Properties": {
                "TableName": { "Ref": "AWS::StackName" }, "BillingMode": "PAY_PER_REQUEST",
                "AttributeDefinitions": [{ "AttributeName": "event_id", "AttributeType": "S" }],
                "KeySchema": [{ "AttributeName": "event_id", "KeyType": "HASH" }],
            } },
            "Function": { "Type": "AWS::Lambda::Function", "Properties": {
                "FunctionName": { "Ref": "AWS::StackName" }, "Role": att("Role"), "Code": { "ZipFile": "x" },
                "Handler": "bootstrap", "Runtime": "provided.al2023", "Timeout": 9, "MemorySize": 256,
                "Environment": { "Variables": {
                    "CLEVERTAP_REGION": "in1", "CLEVERTAP_ACCOUNT_ID": ACCOUNT_ID, "CLEVERTAP_API_URL": clevertap_url,
                    "SECRET_ID": { "Ref": "Secret" }, "EVENT_QUEUE_URL": { "Ref": "Events" },
                    "DEAD_LETTER_QUEUE_URL": { "Ref": "DeadLetters" }, "DEDUPLICATION_TABLE": { "Ref": "Claims" },
                    "SSL_CERT_FILE": "/opt/roots.pem",
                } },
            } },
            "Mapping": { "Type": "AWS::Lambda::EventSourceMapping", "Properties": {
                "EventSourceArn": att("Events"), "FunctionName": { "Ref": "Function" }, "Enabled": true,
                "FunctionResponseTypes": ["ReportBatchItemFailures"],
            } },
        },
        "Outputs": { "FunctionName": { "Value": { "Ref": "Function" } }, "WebhookUrl": { "Value": webhook_url } },
    })
    .to_string()
}

#[tokio::test]
async fn a_deployment_is_what_the_function_needs_once_the_fixes_are_run() {
    let (_, clevertap_url) = clevertap().await;
    let world = World::start(&[]).await;
    let arn = "arn:aws:sns:eu-west-1:123456789012:relay";
    let alarm = "aws cloudwatch put-metric-alarm --namespace n --metric-name m --statistic Sum --period 60 --evaluation-periods 1 --threshold 1 --comparison-operator GreaterThanThreshold --alarm-name relay";
    let drift = |status: &str, drifted: &str| {
        json!({ "DetectionStatus": status, "StackDriftStatus": drifted }).to_string()
    };
    let doctor = Doctor::new(&["--online", "--stack", "relay"])
        .file(
            "template.json",
            &template(&clevertap_url, &publish(&world).await),
        )
        .with_aws()
        .await
        .file("detect-stack-drift", r#"{"StackDriftDetectionId":"1"}"#)
        .file(
            "describe-stack-drift-detection-status.first",
            &drift("DETECTION_IN_PROGRESS", "NOT_CHECKED"),
        )
        .file(
            "describe-stack-drift-detection-status",
            &drift("DETECTION_COMPLETE", "IN_SYNC"),
        );
    let file = doctor.folder.path().join("template.json");
    for command in [
        &format!(
            "aws cloudformation create-stack --stack-name relay --template-body file://{}",
            file.display()
        ),
        "aws dynamodb update-time-to-live --table-name relay --time-to-live-specification AttributeName=expires_at,Enabled=true",
        "aws sns create-topic --name relay",
        &format!(
            "aws sns subscribe --topic-arn {arn} --protocol email --notification-endpoint a@example.com"
        ),
        &format!("{alarm}-Claims --alarm-actions {arn}"),
        // It belongs to another stack.
        &format!("{alarm}-test-Claims"),
    ] {
        doctor.shell(command).await;
    }
    let report = doctor.run().await;
    assert_eq!(report.problems(), BTreeSet::new(), "{:?}", report.findings);
    for id in [
        "aws_access",
        "stack",
        "drift",
        "alarms",
        "function",
        "event_source",
        "claims_table",
        "settings",
        "secret",
        "clevertap",
        "webhook_secret",
    ] {
        report.has(id, "");
    }
    assert_eq!(report.code, 0);

    let queue = format!(
        "{}/123456789012/relay",
        doctor.variables["AWS_ENDPOINT_URL"]
    );
    let mapping = report
        .findings
        .iter()
        .find(|(id, _)| id == "event_source")
        .unwrap();
    let mapping = mapping.1.split(':').next().unwrap();
    for command in [
        "aws lambda update-function-configuration --function-name relay --timeout 3 --memory-size 128 --runtime provided.al2",
        &format!("aws lambda update-event-source-mapping --uuid {mapping} --no-enabled"),
        &format!(
            "aws sqs set-queue-attributes --queue-url {queue}-events.fifo --attributes '{{\"VisibilityTimeout\":\"30\",\"RedrivePolicy\":\"\"}}'"
        ),
        &format!(
            "aws sqs send-message --queue-url {queue}-dead.fifo --message-body x --message-group-id g --message-deduplication-id d"
        ),
        "aws dynamodb update-time-to-live --table-name relay --time-to-live-specification AttributeName=expires_at,Enabled=false",
        "aws secretsmanager put-secret-value --secret-id relay --secret-string '{}'",
        &format!("{alarm}-Secret"),
    ] {
        doctor.shell(command).await;
    }
    let drifts = json!({ "StackResourceDrifts": [{
        "LogicalResourceId": "Function", "StackResourceDriftStatus": "MODIFIED",
        "PropertyDifferences": [{ "PropertyPath": "/Timeout", "ExpectedValue": "9", "ActualValue": "3", "DifferenceType": "NOT_EQUAL" }],
    }] });
    let doctor = doctor
        .file(
            "describe-stack-drift-detection-status",
            &drift("DETECTION_FAILED", "DRIFTED"),
        )
        .file("describe-stack-resource-drifts", &drifts.to_string());
    let report = doctor.run().await;
    report.has("drift_found", "Function: MODIFIED /Timeout");
    let by_hand = [
        "alarms_unreceived",
        "clevertap_skipped",
        "dead_letters",
        "drift_found",
        "drift_unknown",
        "queue_redrive",
        "secret_invalid",
    ];
    let by_command = [
        "claims_table_expiry",
        "event_source_disabled",
        "function_memory",
        "function_runtime",
        "function_timeout",
        "queue_attributes",
    ];
    assert_eq!(
        report.problems(),
        by_hand.into_iter().chain(by_command).collect()
    );
    let commands = report
        .fixes
        .iter()
        .filter_map(|fix| fix.strip_prefix('`')?.strip_suffix('`'));
    for command in commands.filter(|command| !command.contains('<')) {
        doctor.shell(command).await;
    }
    assert_eq!(doctor.run().await.problems(), by_hand.into());

    for command in [
        &format!("aws lambda delete-event-source-mapping --uuid {mapping}"),
        "aws lambda create-function-url-config --function-name relay --auth-type AWS_IAM",
        "aws dynamodb delete-table --table-name relay",
        &format!("aws sqs delete-queue --queue-url {queue}-dead.fifo"),
        "aws secretsmanager delete-secret --force-delete-without-recovery --secret-id relay",
    ] {
        doctor.shell(command).await;
    }
    let mut doctor = doctor;
    doctor.arguments = ["--function", "relay"].map(ToOwned::to_owned).into();
    let missing = [
        "claims_table_missing",
        "event_source_missing",
        "queue_missing",
        "queue_redrive",
        "secret_unreadable",
        "webhook_url_auth",
    ];
    assert_eq!(doctor.run().await.problems(), missing.into());
}

#[tokio::test]
async fn without_aws_nothing_more_is_tried() {
    let unreachable = format!("http://127.0.0.1:{}", free_port().await);
    for (name, value, id, words) in [
        ("AWS_REGION", "eu-west-2", "stack_missing", "nowhere"),
        (
            "AWS_CLI",
            "/nowhere/aws",
            "aws_access_failed",
            "cannot be run",
        ),
        (
            "AWS_ENDPOINT_URL",
            &unreachable,
            "aws_access_failed",
            "Could not connect",
        ),
    ] {
        let doctor = Doctor::new(&["--stack", "nowhere"]).with_aws().await;
        let report = doctor
            .set("AWS_MAX_ATTEMPTS", "1")
            .set(name, value)
            .run()
            .await;
        report.has(id, words);
        assert_eq!((report.problems(), report.code), ([id].into(), 1));
    }
    let denied =
        "echo 'An error occurred (AccessDenied) when calling the X operation: no' >&2; exit 254";
    let report = Doctor::new(&["--stack", "relay"])
        .program("aws", denied)
        .run()
        .await;
    assert_eq!(report.problems(), ["aws_denied"].into());
}
