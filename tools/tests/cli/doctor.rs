//! `cargo relay doctor` finds what is wrong, finds nothing where nothing is, and never shows a secret.
//!
//! Resources are the emulator's, read by the real AWS CLI. It detects no drift: those three operations
//! are answered from files, in the shapes of the AWS CLI's reference.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use testkit::emulator;
use testkit::harness::{ACCOUNT_ID, PASSCODE, SHARED_SECRET, World, secret_value};
use testkit::process::{built, free_port, plain_client, repository, tool};
use testkit::sockets::Server;
use testkit::sockets::tls::Authority;
use testkit::world::Ending;
use testkit::world::backend::Backend;
use testkit::world::clevertap::{CleverTap, Reply};
use testkit::world::secrets_manager::SecretsManager;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::process::Command;
use tools::doctor::{CHECKS, Level};

const SANDBOX_ACCOUNT: &str = "TEST-123-4567";
const SANDBOX_PASSCODE: &str = "sandbox-passcode-of-the-tests";
const UNAUTHORIZED: &str = r#"{"error":"unauthorized"}"#;
/// Answers from a file of the same folder if there is one for the operation, else runs the real AWS CLI.
const AWS: &str = r#"#!/bin/sh
answer="${0%/*}/$2"
if [ -f "$answer.first" ]; then /bin/cat "$answer.first"; exec /bin/rm "$answer.first"; fi
if [ -f "$answer" ]; then exec /bin/cat "$answer"; fi
exec "$REAL_AWS" "$@"
"#;
const DENIED: &str = "#!/bin/sh\necho 'An error occurred (AccessDenied) when calling the X operation: no' >&2; exit 254";
/// Makes a deployment without a fault, and an alarm of another stack.
const DEPLOY: [&str; 8] = [
    "aws cloudformation create-stack --stack-name relay --template-body file://stack.json --capabilities CAPABILITY_IAM --parameters ParameterKey=ClevertapApiUrl,ParameterValue=$CLEVERTAP ParameterKey=WebhookUrl,ParameterValue=$WEBHOOK ParameterKey=AlarmEmail,ParameterValue=a@example.com ParameterKey=NoticeTopicArn,ParameterValue=$TOPIC",
    "aws cloudformation wait stack-create-complete --stack-name relay",
    "aws secretsmanager create-secret --name relay --secret-string file://secret.json",
    "aws dynamodb update-time-to-live --table-name relay --time-to-live-specification AttributeName=expires_at,Enabled=true",
    "aws sns create-topic --name relay",
    "aws sns subscribe --topic-arn $TOPIC --protocol email --notification-endpoint a@example.com",
    "$ALARM-Claims --alarm-actions $TOPIC",
    "$ALARM-test-Claims",
];
const CHANGE: [&str; 7] = [
    "aws lambda update-function-configuration --function-name relay --timeout 3 --memory-size 128 --runtime provided.al2",
    "aws lambda update-event-source-mapping --uuid $MAPPING --no-enabled",
    "aws sqs set-queue-attributes --queue-url $QUEUE-events.fifo --attributes '{\"VisibilityTimeout\":\"30\",\"RedrivePolicy\":\"\"}'",
    "aws sqs send-message --queue-url $QUEUE-dead.fifo --message-body x --message-group-id g --message-deduplication-id d",
    "aws dynamodb update-time-to-live --table-name relay --time-to-live-specification AttributeName=expires_at,Enabled=false",
    "aws secretsmanager put-secret-value --secret-id relay --secret-string '{}'",
    "$ALARM-Secret --no-actions-enabled",
];
const DELETE: [&str; 5] = [
    "aws lambda delete-event-source-mapping --uuid $MAPPING",
    "aws lambda create-function-url-config --function-name relay --auth-type AWS_IAM",
    "aws dynamodb delete-table --table-name relay",
    "aws sqs delete-queue --queue-url $QUEUE-dead.fifo",
    "aws secretsmanager delete-secret --force-delete-without-recovery --secret-id relay",
];

/// A run in a folder of its own, with nothing in its environment but what is set here.
struct Doctor {
    folder: TempDir,
    arguments: String,
    variables: BTreeMap<String, String>,
}

struct Report {
    code: i32,
    /// Id, name and what, fix.
    findings: Vec<[String; 3]>,
}

impl Doctor {
    fn new(arguments: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        Self {
            folder,
            arguments: arguments.to_owned(),
            variables: [("PATH".to_owned(), path)].into(),
        }
    }

    fn set(mut self, variables: &[(&str, &str)]) -> Self {
        let variables = variables.iter().map(|&(n, v)| (n.to_owned(), v.to_owned()));
        self.variables.extend(variables);
        self
    }

    fn relaying_to(self, clevertap_url: &str) -> Self {
        self.set(&[
            ("CLEVERTAP_REGION", "in1"),
            ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
            ("CLEVERTAP_API_URL", clevertap_url),
            ("SECRET_ID", "relay"),
        ])
    }

    /// Executable, so that it may also be a program.
    fn file(self, name: &str, content: impl ToString) -> Self {
        let file = self.folder.path().join(name);
        std::fs::write(&file, content.to_string()).unwrap();
        std::fs::set_permissions(file, PermissionsExt::from_mode(0o755)).unwrap();
        self
    }

    async fn with_aws(self) -> Self {
        let real = tool("AWS_CLI", "aws");
        self.file("aws", AWS)
            .set(&[
                ("REAL_AWS", real.to_str().unwrap()),
                ("AWS_ENDPOINT_URL", &emulator::endpoint().await),
            ])
            .set(&emulator::VARIABLES)
    }

    async fn output(&self, arguments: &str) -> (i32, String) {
        let mut relay = Command::new(built("examples/relay"));
        let arguments = format!("doctor {} {arguments}", self.arguments);
        relay.args(arguments.split_whitespace()).env_clear().envs(&self.variables);
        let output = relay.current_dir(self.folder.path()).output().await.unwrap();
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        for secret in [PASSCODE, SHARED_SECRET, SANDBOX_PASSCODE] {
            assert!(!text.contains(secret), "{text}");
        }
        (output.status.code().unwrap(), text)
    }

    async fn run(&self) -> Report {
        let (code, output) = self.output("--json").await;
        let report: Value = serde_json::from_str(&output).expect(&output);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let findings = report["findings"].as_array().unwrap().iter().map(|found| {
            let what = format!("{}: {}", text(&found["name"]), text(&found["what"]));
            [text(&found["id"]), what, text(&found["fix"])]
        });
        Report { code, findings: findings.collect() }
    }

    /// Runs commands of the AWS CLI, as a person would.
    async fn shell<'c>(&self, commands: impl IntoIterator<Item = &'c str>) {
        for command in commands {
            let mut shell = Command::new("/bin/sh");
            let run = shell.args(["-c", &format!("{command} --endpoint-url $AWS_ENDPOINT_URL")]);
            let run = run.env_clear().envs(&self.variables).current_dir(self.folder.path());
            let output = run.output().await.unwrap();
            assert!(output.status.success(), "{command}: {output:?}");
        }
    }
}

impl Report {
    /// One of the findings of this id has these words.
    #[track_caller]
    fn has(&self, id: &str, words: &str) {
        let mut findings = self.findings.iter();
        let is_found = findings.any(|[found, what, _]| found == id && what.contains(words));
        assert!(is_found, "{id}: {words}: {:?}", self.findings);
    }

    /// The ids that are not `ok`, but for tools and absent settings, which these tests never set up.
    fn problems(&self) -> BTreeSet<&str> {
        let ids = self.findings.iter().map(|[id, ..]| id.as_str());
        let problems = CHECKS.iter().filter(|check| check.level > Level::Ok);
        let problems: BTreeSet<_> = problems.map(|check| check.id).collect();
        ids.filter(|id| problems.contains(id) && !["tool_missing", "settings_absent"].contains(id))
            .collect()
    }
}

/// Serves one answer, dated this far ahead.
async fn serve(status: u16, body: &'static str, ahead: Duration) -> String {
    let answer = move |_| async move {
        let date = OffsetDateTime::from(SystemTime::now() + ahead).format(&Rfc2822);
        let date = date.unwrap().replace("+0000", "GMT");
        Ending::answer(status, "application/json", body).with_header("date", &date)
    };
    format!("{}/webhooks/purchasely", Server::start(answer).await.url)
}

async fn clevertap() -> (Server<CleverTap>, String) {
    let clevertap = Server::start(CleverTap::new(ACCOUNT_ID, PASSCODE)).await;
    let url = clevertap.url.clone();
    (clevertap, url)
}

fn secret_with_sandbox(passcode: &str) -> Value {
    json!({ "clevertap_passcode": passcode, "purchasely_shared_secret": SHARED_SECRET, "clevertap_sandbox_passcode": SANDBOX_PASSCODE })
}

#[test]
fn every_check_has_an_id_of_its_own_and_every_problem_a_fix() {
    let ids: BTreeSet<_> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), CHECKS.len());
    for check in CHECKS {
        assert_eq!(check.fix.is_empty(), check.level == Level::Ok, "{}", check.id);
    }
}

#[tokio::test]
async fn tools_are_found_and_old_ones_are_errors() {
    let doctor = Doctor::new("")
        .file("cargo-lambda", "#!/bin/sh\necho 'cargo-lambda 1.9.1 (abc 2026-01-01Z)'")
        .file("sam", "#!/bin/sh\necho 'SAM CLI, version 1.170.0'");
    let report = doctor.run().await;
    report.has("tool_outdated", "cargo-lambda: 1.9.1 is older than 1.9.2");
    report.has("tool", "sam: 1.170.0");
    report.has("tool_missing", "aws: is not found");
    report.has("settings_absent", "");
    assert_eq!(report.code, 1);

    let doctor = doctor.file("cargo-lambda", "#!/bin/sh\necho cargo-lambda 1.9.2");
    let (code, text) = doctor.output("").await;
    assert!(text.starts_with("Tools\n  ok       tool  "), "{text}");
    assert!(text.ends_with("\n\n2 ok, 2 warnings, 0 errors\n"), "{text}");
    assert_eq!(code, 0, "warnings alone are no failure");
    assert_eq!(doctor.output("--strict").await.0, 1);
    assert_eq!(doctor.output("--url ftp://x").await.0, 2);
}

#[tokio::test]
async fn settings_are_read_as_cargo_lambda_and_the_function_read_them() {
    const VALID: &str = "CLEVERTAP_REGION = eu1 # why\nexport CLEVERTAP_ACCOUNT_ID=ABC-123-4567\n\n# more\nSECRET_ID='relay'\n";
    #[rustfmt::skip]
    let cases = [
        ("EVENT_NAMES=\"A=B;C=D\"", "settings", "relay.env: uploads to https://api.clevertap.com (eu1 (Europe)); account ABC-123-4567"),
        ("REVENUE_EVENT=", "guarantee_missing", "DEDUPLICATION_TABLE"),
        ("EVENT_NAMES=A=B", "env_file_invalid", "line 6 "),
        ("EVENTS_ENABLED=a b", "env_file_invalid", "line 6 "),
        ("EVENTS_ENABLED=it's", "env_file_invalid", "line 6 "),
        ("EVENTS_ENABLED='a", "env_file_invalid", "line 6 "),
        ("EVENTS_ENABLED= \nA=1", "env_file_invalid", "line 6 "),
        ("EVENTS_ENABLED", "env_file_invalid", "line 6 "),
        ("CLEVERTAP_REGION=mars", "setting_invalid", "CLEVERTAP_REGION: `mars`"),
        ("SSL_CERT_FILE=relay.env", "setting_invalid", "SSL_CERT_FILE: "),
        ("CLEVERTAP_DRY_RUN=true", "setting_doubtful", "CLEVERTAP_DRY_RUN"),
        ("EVENT_NAME=x", "setting_unknown", "EVENT_NAME"),
    ];
    for (line, id, words) in cases {
        let doctor =
            Doctor::new("--env-file relay.env").file("relay.env", format!("{VALID}{line}"));
        let report = doctor.run().await;
        report.has(id, words);
        assert_eq!(report.code, i32::from(id.ends_with("_invalid")), "{line}");
    }
    let report = Doctor::new("--env-file none.env").run().await;
    report.has("env_file_invalid", "none.env: No such file");
}

#[tokio::test]
async fn a_secret_is_checked_before_it_is_stored() {
    let mut swapped = secret_with_sandbox(PASSCODE);
    swapped[PASSCODE] = json!("clevertap_passcode");
    let mut without_previous = secret_with_sandbox(PASSCODE);
    without_previous["purchasely_shared_secret_previous"] = json!(null);
    #[rustfmt::skip]
    let cases = [
        (secret_with_sandbox(PASSCODE).to_string(), "secret", "has clevertap_passcode, "),
        (swapped.to_string(), "secret_key_unknown", "1 of its keys"),
        (without_previous.to_string(), "secret_key_unusable", "`purchasely_shared_secret_previous`"),
        (secret_value(PASSCODE, SHARED_SECRET), "sandbox_passcode_missing", "secret.json"),
        (secret_value(&format!("{PASSCODE}\n"), SHARED_SECRET), "secret_invalid", "white space"),
        (secret_value(PASSCODE, ""), "secret_invalid", "`purchasely_shared_secret` is empty"),
        (PASSCODE.to_owned(), "secret_invalid", "not a JSON object"),
    ];
    let doctor = Doctor::new("--secret-file secret.json").relaying_to("http://127.0.0.1:9");
    let mut doctor = doctor.set(&[("CLEVERTAP_SANDBOX_ACCOUNT_ID", SANDBOX_ACCOUNT)]);
    for (content, id, words) in cases {
        doctor = doctor.file("secret.json", content);
        doctor.run().await.has(id, words);
    }
    let report = Doctor::new("--secret-file none.json").run().await;
    report.has("secret_unreadable", "none.json: No such file");
}

#[tokio::test]
async fn clevertap_says_whether_region_account_and_passcode_belong_together() {
    let (clevertap, url) = clevertap().await;
    let doctor = Doctor::new("--online --secret-file secret.json").relaying_to(&url);
    let doctor = doctor.file("secret.json", secret_value(PASSCODE, SHARED_SECRET));
    let page = || Reply::Answer { status: 200, body: "<html>".to_owned() };
    #[rustfmt::skip]
    let cases = [
        (Reply::Normal, "clevertap", "accepts the passcode"),
        // What CleverTap answers for an unknown user is not documented.
        (Reply::Status(404), "clevertap", "accepts the passcode"),
        (Reply::Status(429), "clevertap_busy", "429"),
        (Reply::Status(503), "clevertap_busy", "503"),
        (Reply::Status(302), "clevertap_unexpected", "302"),
        (page(), "clevertap_unexpected", "200"),
        (Reply::CloseBeforeAnswer, "clevertap_unreachable", "connection"),
    ];
    for (reply, id, words) in cases {
        clevertap.script([reply]);
        let report = doctor.run().await;
        report.has(id, &format!("account {ACCOUNT_ID} at {url}: "));
        report.has(id, words);
        report.has("clock", &url);
    }
    clevertap.set_passcode("another");
    doctor.run().await.has("clevertap_credentials", "401");
    let doctor = doctor.set(&[("CLEVERTAP_SANDBOX_ACCOUNT_ID", SANDBOX_ACCOUNT)]);
    let report = doctor.file("secret.json", secret_with_sandbox("another")).run().await;
    report.has("clevertap", ACCOUNT_ID);
    report.has("clevertap_credentials", SANDBOX_ACCOUNT);
    assert!(clevertap.uploads().is_empty());
}

#[tokio::test]
async fn a_profile_is_compared_with_what_its_webhook_makes_of_it() {
    let (_, url) = clevertap().await;
    let file = |name: &str| std::fs::read_to_string(repository().join(name)).unwrap();
    let doctor = Doctor::new("--webhook trial.json --secret-file secret.json")
        .relaying_to(&url)
        .file("trial.json", file("events/TRIAL_STARTED.json"))
        .file("transaction.json", file("events/TRANSACTION_PROCESSED.json"))
        .file("secret.json", secret_value(PASSCODE, SHARED_SECRET));
    let report = doctor.run().await;
    report.has("profile_differs", "trial.json: CleverTap has no property of this user");

    let upload = |body: String| {
        let request = plain_client().post(format!("{url}/1/upload"));
        let request = request.header("x-clevertap-account-id", ACCOUNT_ID);
        let request = request.header("x-clevertap-passcode", PASSCODE);
        request.header("content-type", "application/json").body(body).send()
    };
    upload(file("tests/golden/TRIAL_STARTED.json")).await.unwrap();
    let report = doctor.run().await;
    report.has("profile", "trial.json: every property is the same");
    assert_eq!((report.code, report.problems().contains("profile_differs")), (0, false));

    let renewed = json!({ "identity": "u-1842", "type": "profile", "profileData": { "plan": "yearly", "active_plans": { "$remove": ["monthly"] } } });
    upload(json!({ "d": [renewed] }).to_string()).await.unwrap();
    let (code, text) = doctor.output("").await;
    let plan = |line: &&str| line.trim_start().starts_with("plan ");
    let plan: Vec<_> = text.lines().find(plan).unwrap().split_whitespace().collect();
    assert_eq!((code, &plan[..]), (1, &["plan", "\"monthly\"", "\"yearly\"", "different"][..]));
    assert!(text.contains("2 of 13 properties differ") && !text.contains("u-1842"), "{text}");

    let (code, json) = doctor.output("--user u-1 --json").await;
    let json: Value = serde_json::from_str(&json).unwrap();
    let first = json!({ "property": "active_plans", "sent": { "$add": ["monthly"] }, "clevertap": null, "same": false });
    let mut rows = json["profile"].as_array().unwrap().iter();
    let active = rows.find(|row| row["property"] == "active_plans");
    assert_eq!((code, active), (1, Some(&first)));
    // A tester's purchase is in the sandbox account.
    let sandbox = file("events/TRIAL_STARTED.json").replace("PRODUCTION", "SANDBOX");
    let passcodes = secret_with_sandbox("another").to_string().replace(SANDBOX_PASSCODE, PASSCODE);
    let doctor = doctor.file("trial.json", sandbox).file("secret.json", passcodes).set(&[
        ("CLEVERTAP_ACCOUNT_ID", "ABC-000-0000"),
        ("CLEVERTAP_SANDBOX_ACCOUNT_ID", ACCOUNT_ID),
    ]);
    let report = doctor.run().await;
    report.has("clevertap_credentials", "ABC-000-0000");
    report.has("profile_differs", "2 of 13 properties differ");

    let doctor = Doctor {
        arguments: "--webhook transaction.json --secret-file secret.json".to_owned(),
        ..doctor
    };
    let (code, text) = doctor.output("").await;
    assert_eq!(code, 2);
    assert!(
        text.contains("error: transaction.json: the webhook changes no profile: row 2"),
        "{text}"
    );
}

#[tokio::test]
async fn the_backend_is_asked_whether_it_answers_and_gets_no_webhook() {
    let (_clevertap, url) = clevertap().await;
    let backend = Server::start(Backend::new(SHARED_SECRET)).await;
    let nobody = format!("http://127.0.0.1:{}", free_port().await);
    for (forward_url, id, words) in [
        (&backend.url, "backend", "404"),
        (&nobody, "backend_unreachable", "refused"),
        (&url, "backend_own", "own"),
    ] {
        let forward_url = format!("{forward_url}/hook?token=hidden");
        let doctor = Doctor::new(&format!("--online --url {url}")).relaying_to(&url);
        let report = doctor.set(&[("FORWARD_URL", &forward_url)]).run().await;
        report.has(id, words);
        assert!(!report.findings.concat().concat().contains("hidden"), "{:?}", report.findings);
    }
    assert!(backend.received().is_empty());
}

#[tokio::test]
async fn the_address_is_judged_by_two_requests_that_the_function_must_refuse() {
    #[rustfmt::skip]
    let functions = [
        ("relay", "required", ["webhook", "webhook_secret"]),
        ("another", "required", ["webhook", "webhook_secret_missing"]),
        ("relay", "off", ["webhook_unsigned", "clock"]),
    ];
    for (secret_id, signature, ids) in functions {
        let secrets = SecretsManager::new(secret_id, &secret_value(PASSCODE, SHARED_SECRET));
        let world = World::start_with(secrets, &[("PURCHASELY_SIGNATURE", signature)]).await;
        let url = world.http_api().await;
        let report = Doctor::new(&format!("--url {url}")).run().await;
        for id in ids {
            report.has(id, &url);
        }
        assert!(world.clevertap.uploads().is_empty());
    }
    #[rustfmt::skip]
    let answers = [
        (301, "", "webhook_redirect"),
        (401, r#"{"message":"Unauthorized"}"#, "webhook_intercepted"),
        (403, r#"{"Message":"Forbidden"}"#, "webhook_forbidden"),
        (404, r#"{"message":"Not Found"}"#, "webhook_path"),
        (429, r#"{"message":"Too Many Requests"}"#, "webhook_throttled"),
        (502, "", "webhook_failing"),
        (503, r#"{"error":"unavailable"}"#, "webhook_unavailable"),
        (503, r#"{"message":"Service Unavailable"}"#, "webhook_failing"),
        (418, "", "webhook_unexpected"),
    ];
    for (status, body, id) in answers {
        let url = serve(status, body, Duration::ZERO).await;
        let report = Doctor::new(&format!("--url {url}")).run().await;
        assert_eq!(report.problems(), [id].into());
        report.has(id, &status.to_string());
    }
    for (minutes, id) in [(0, "clock"), (3, "clock_off"), (10, "clock_wrong")] {
        let url = serve(401, UNAUTHORIZED, Duration::from_mins(minutes)).await;
        let report = Doctor::new(&format!("--url {url}")).run().await;
        report.has(id, "s apart");
    }
    let nobody = format!("http://127.0.0.1:{}", free_port().await);
    let doctor = Doctor::new(&format!("--url {nobody}"));
    doctor.run().await.has("webhook_unreachable", "refused");
    let doctor = doctor.relaying_to(&nobody).set(&[("PURCHASELY_SIGNATURE", "off")]);
    doctor.run().await.has("webhook_skipped", &nobody);
}

fn drift(status: &str, drifted: &str) -> Value {
    json!({ "DetectionStatus": status, "StackDriftStatus": drifted })
}

#[tokio::test]
async fn a_deployment_is_what_the_function_needs_once_the_fixes_are_run() {
    let (_, clevertap_url) = clevertap().await;
    let world = World::start(&[]).await;
    let webhook_url = world.http_api().await;
    let doctor = Doctor::new("--online --stack relay").with_aws().await;
    let queue = format!("{}/123456789012/relay", doctor.variables["AWS_ENDPOINT_URL"]);
    let doctor = doctor
        .set(&[
            ("CLEVERTAP", &clevertap_url),
            ("WEBHOOK", &webhook_url),
            ("QUEUE", &queue),
            ("TOPIC", "arn:aws:sns:eu-west-1:123456789012:relay"),
            ("ALARM", "aws cloudwatch put-metric-alarm --namespace n --metric-name m --statistic Sum --period 60 --evaluation-periods 1 --threshold 1 --comparison-operator GreaterThanThreshold --alarm-name relay"),
        ])
        .file("stack.json", include_str!("doctor.stack.json"))
        .file("secret.json", secret_value(PASSCODE, SHARED_SECRET))
        .file("detect-stack-drift", json!({ "StackDriftDetectionId": "1" }))
        .file("describe-stack-drift-detection-status.first", drift("DETECTION_IN_PROGRESS", "NOT_CHECKED"))
        .file("describe-stack-drift-detection-status", drift("DETECTION_COMPLETE", "IN_SYNC"));
    doctor.shell(DEPLOY).await;
    let report = doctor.run().await;
    assert_eq!(report.problems(), BTreeSet::new(), "{:?}", report.findings);
    #[rustfmt::skip]
    let all = ["aws_access", "stack", "drift", "alarms", "function", "event_source", "queue", "claims_table", "settings", "secret", "clevertap", "webhook_secret"];
    for id in all {
        report.has(id, "");
    }
    assert_eq!(report.code, 0);
    for [_, what, _] in &report.findings {
        let facts: Vec<_> = what.split(", ").collect();
        let different: BTreeSet<_> = facts.iter().collect();
        let is_complete = facts.iter().all(|fact| !fact.ends_with(' '));
        assert!(is_complete && different.len() == facts.len(), "{what}");
    }

    let mut findings = report.findings.iter();
    let mapping = findings.find(|[id, ..]| id == "event_source").unwrap();
    let mapping = mapping[1].split(':').next().unwrap();
    let drifts = json!({ "StackResourceDrifts": [{
        "LogicalResourceId": "Function", "ResourceType": "AWS::Lambda::Function", "StackResourceDriftStatus": "MODIFIED",
        "PropertyDifferences": [{ "PropertyPath": "/Timeout", "ExpectedValue": "9", "ActualValue": "3", "DifferenceType": "NOT_EQUAL" }],
    }] });
    let doctor = doctor
        .set(&[("MAPPING", mapping)])
        .file("describe-stack-drift-detection-status", drift("DETECTION_FAILED", "DRIFTED"))
        .file("describe-stack-resource-drifts", drifts);
    doctor.shell(CHANGE).await;
    let report = doctor.run().await;
    report.has("drift_found", "Function: MODIFIED /Timeout");
    #[rustfmt::skip]
    let by_hand = ["clevertap_skipped", "dead_letters", "drift_found", "drift_unknown", "queue_redrive", "secret_invalid"];
    #[rustfmt::skip]
    let by_command = ["alarm_disabled", "claims_table_expiry", "event_source_disabled", "function_memory", "function_runtime", "function_timeout", "queue_attributes"];
    assert_eq!(report.problems(), by_hand.into_iter().chain(by_command).collect());
    let fixes = report.findings.iter().map(|[.., fix]| fix);
    let commands = fixes.filter_map(|fix| fix.strip_prefix('`')?.strip_suffix('`'));
    doctor.shell(commands.filter(|command| !command.contains('<'))).await;
    assert_eq!(doctor.run().await.problems(), by_hand.into());

    doctor.shell(DELETE).await;
    let doctor = Doctor { arguments: "--function relay".to_owned(), ..doctor };
    #[rustfmt::skip]
    let missing = ["claims_table_missing", "event_source_missing", "queue_missing", "queue_redrive", "secret_unreadable", "webhook_url_auth"];
    assert_eq!(doctor.run().await.problems(), missing.into());
}

#[tokio::test]
async fn each_class_of_alarms_needs_a_receiver() {
    let doctor = Doctor::new("--stack relay").with_aws().await;
    let alarms =
        json!({ "MetricAlarms": [{ "AlarmName": "relay-Secret", "ActionsEnabled": true }] });
    let doctor = doctor
        .file("detect-stack-drift", json!({ "StackDriftDetectionId": "1" }))
        .file("describe-stack-drift-detection-status", drift("DETECTION_COMPLETE", "IN_SYNC"))
        .file("describe-alarms", alarms);
    for (set, expected) in [
        (vec![], vec!["alarms_unreceived", "notices_unreceived"]),
        (vec!["AlarmEmail"], vec!["notices_unreceived"]),
        (vec!["NoticeEmail"], vec!["alarms_unreceived"]),
        (vec!["AlarmTopicArn", "NoticeTopicArn"], vec![]),
    ] {
        let parameters = ["AlarmEmail", "AlarmTopicArn", "NoticeEmail", "NoticeTopicArn"];
        let parameters = parameters.map(|name| {
            let value = if set.contains(&name) { "somebody" } else { "" };
            json!({ "ParameterKey": name, "ParameterValue": value })
        });
        let stack = json!({ "StackStatus": "CREATE_COMPLETE", "Parameters": parameters });
        let path = doctor.folder.path().join("describe-stacks");
        std::fs::write(path, json!({ "Stacks": [stack] }).to_string()).unwrap();
        let report = doctor.run().await;
        let mut problems = report.problems();
        problems.retain(|id| id.ends_with("_unreceived"));
        assert_eq!(problems, expected.into_iter().collect(), "with {set:?}");
    }
}

#[tokio::test]
async fn a_deployment_is_checked_with_the_certificates_of_this_machine() {
    let authority = Authority::default();
    let clevertap = authority.serve(CleverTap::new(ACCOUNT_ID, PASSCODE)).await;
    let output = json!({ "OutputKey": "FunctionName", "OutputValue": "relay" });
    let variables = json!({
        "CLEVERTAP_REGION": "in1", "CLEVERTAP_ACCOUNT_ID": ACCOUNT_ID, "CLEVERTAP_API_URL": clevertap.url,
        "SECRET_ID": "relay", "SSL_CERT_FILE": "/opt/roots.pem",
    });
    let doctor = Doctor::new("--online --stack relay")
        .file("aws", AWS)
        .file("denied", DENIED)
        .file("describe-stacks", json!({ "Stacks": [{ "Outputs": [output] }] }))
        .file(
            "get-function-configuration",
            json!({ "Environment": { "Variables": variables } }),
        )
        .file(
            "get-secret-value",
            json!({ "SecretString": secret_value(PASSCODE, SHARED_SECRET) }),
        );
    let denied = doctor.folder.path().join("denied");
    let doctor = doctor.set(&[("REAL_AWS", denied.to_str().unwrap())]);
    doctor.run().await.has("clevertap_unreachable", "certificate");
    let file = authority.pem_file();
    let doctor = doctor.set(&[("SSL_CERT_FILE", file.path().to_str().unwrap())]);
    doctor.run().await.has("clevertap", "accepts the passcode");
}

#[tokio::test]
async fn without_aws_nothing_more_is_tried() {
    let unreachable = format!("http://127.0.0.1:{}", free_port().await);
    #[rustfmt::skip]
    let cases = [
        ("AWS_REGION", "eu-west-2", "stack_missing", "nowhere"),
        ("AWS_CLI", "/nowhere/aws", "aws_access_failed", "cannot be run"),
        ("AWS_ENDPOINT_URL", &unreachable, "aws_access_failed", "Could not connect"),
    ];
    for (name, value, id, words) in cases {
        let doctor = Doctor::new("--stack nowhere").with_aws().await;
        let doctor = doctor.set(&[("AWS_MAX_ATTEMPTS", "1"), (name, value)]);
        let report = doctor.run().await;
        report.has(id, words);
        assert_eq!((report.problems(), report.code), ([id].into(), 1));
    }
    let report = Doctor::new("--stack relay").file("aws", DENIED).run().await;
    assert_eq!(report.problems(), ["aws_denied"].into());
}
