//! Holds `cargo run --example doctor` to its word: each check fails where something is wrong and passes
//! where it is not, and no value of the secret is ever shown.

#[path = "../../examples/doctor/env_file.rs"]
mod env_file;
#[path = "../../examples/doctor/finding.rs"]
mod finding;
#[path = "../../examples/doctor/template.rs"]
pub mod template;

use crate::clevertap::{CleverTap, Reply};
use crate::connections::{Connections, Ending};
use crate::local_run::{free_port, tool};
use crate::secrets_manager::SecretsManager;
use crate::webhook::{Front, Webhook};
use crate::world::{ACCOUNT_ID, PASSCODE, SHARED_SECRET, World, listen, secret_value};
use bytes::Bytes;
use env_file::{Problem, Unreadable};
use finding::CHECKS;
use http::Request;
use hyper::header::DATE;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};
use tempfile::TempDir;
use template::{Difference, Stack};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};
use tokio::process::Command;
use tokio::sync::OnceCell;

const SANDBOX_PASSCODE: &str = "sandbox-passcode-of-the-tests";
/// Whatever holds one of these gives a value of the secret away.
const VALUES: [&str; 3] = [PASSCODE, SHARED_SECRET, SANDBOX_PASSCODE];
const WORKING: Duration = Duration::from_mins(5);

static COMPILED: OnceCell<PathBuf> = OnceCell::const_new();
static STACKS: AtomicU32 = AtomicU32::new(0);

/// The example, compiled by the cargo and in the profile that compiled this test.
async fn compiled() -> PathBuf {
    let compile = || async {
        let test = std::env::current_exe().unwrap();
        let folder = test.ancestors().nth(2).unwrap();
        let profile = folder.file_name().unwrap().to_str().unwrap();
        let profile = if profile == "debug" { "dev" } else { profile };
        // What cargo tells a test of its package would make it compile some dependencies anew.
        let told =
            |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
        let environment = std::env::vars().filter(|(name, _)| !told(name));
        let built = Command::new(env!("CARGO"))
            .env_clear()
            .envs(environment)
            .args(["build", "--quiet", "--locked", "--example", "doctor"])
            .args(["--profile", profile])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .await
            .unwrap();
        assert!(built.success());
        folder.join("examples/doctor")
    };
    COMPILED.get_or_init(compile).await.clone()
}

/// A run of the doctor, in a folder of its own and an environment with nothing else in it.
struct Doctor {
    folder: TempDir,
    arguments: Vec<String>,
    variables: BTreeMap<String, String>,
}

/// What it ended with.
#[derive(Debug)]
struct Told {
    code: i32,
    answer: Value,
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

    fn set(mut self, variables: &[(&str, &str)]) -> Self {
        let owned = variables.iter().map(|&(n, v)| (n.to_owned(), v.to_owned()));
        self.variables.extend(owned);
        self
    }

    /// The settings that are required, with CleverTap at this address.
    fn relaying_to(self, clevertap_url: &str) -> Self {
        self.set(&[
            ("CLEVERTAP_REGION", "in1"),
            ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
            ("CLEVERTAP_API_URL", clevertap_url),
            ("SECRET_ID", "relay"),
        ])
    }

    /// AWS as moto plays it.
    async fn with_aws(self) -> Self {
        let endpoint = crate::aws::endpoint().await;
        let cli = tool("AWS_CLI", "aws");
        self.set(&[
            ("AWS_CLI", cli.to_str().unwrap()),
            ("AWS_ENDPOINT_URL", &endpoint),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
        ])
    }

    /// A file in its folder, named by an option.
    fn file(mut self, option: &str, name: &str, content: &str) -> Self {
        std::fs::write(self.folder.path().join(name), content).unwrap();
        self.arguments.extend([option.to_owned(), name.to_owned()]);
        self
    }

    fn and(mut self, arguments: &[&str]) -> Self {
        self.arguments
            .extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// A program in its path that says this.
    fn program(self, name: &str, says: &str) -> Self {
        let file = self.folder.path().join(name);
        std::fs::write(&file, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).unwrap();
        self
    }

    async fn output(&self, arguments: &[&str]) -> (i32, String) {
        let run = Command::new(compiled().await)
            .args(&self.arguments)
            .args(arguments)
            .env_clear()
            .envs(&self.variables)
            .current_dir(self.folder.path())
            .kill_on_drop(true)
            .output();
        let output = tokio::time::timeout(WORKING, run).await.unwrap().unwrap();
        let out = String::from_utf8(output.stdout).unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        for value in VALUES {
            assert!(!out.contains(value) && !err.contains(value), "{out}{err}");
        }
        assert_eq!(err, "", "nothing but progress on a terminal");
        (output.status.code().unwrap(), out)
    }

    /// For a command line that cannot be used: clap's words go to standard error.
    async fn output_of_usage(&self, arguments: &[&str]) -> (i32, String) {
        let run = Command::new(compiled().await)
            .args(&self.arguments)
            .args(arguments)
            .env_clear()
            .output();
        let output = run.await.unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    }

    async fn run(&self) -> Told {
        let (code, out) = self.output(&["--json"]).await;
        let answer: Value = serde_json::from_str(&out).unwrap();
        for finding in answer["findings"].as_array().unwrap() {
            let is_ok = finding["level"] == "ok";
            assert_eq!(finding["fix"].is_null(), is_ok, "a fix for each: {finding}");
        }
        Told { code, answer }
    }
}

impl Told {
    /// Level and sentence of each finding of this kind.
    fn of(&self, id: &str) -> Vec<(&str, &str)> {
        let findings = self.answer["findings"].as_array().unwrap().iter();
        let of = findings.filter(|finding| finding["id"] == id);
        of.map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap();
            (text("level"), text("what"))
        })
        .collect()
    }

    /// The only finding of this kind, by its level, holds these words.
    #[track_caller]
    fn check(&self, id: &str, level: &str, words: &str) {
        match self.of(id)[..] {
            [(found, what)] if found == level && what.contains(words) => {}
            ref other => panic!("{id}: {other:?}, not {level}: {words}"),
        }
    }

    /// One of the findings of this kind, by its level, holds these words.
    #[track_caller]
    fn check_among(&self, id: &str, level: &str, words: &str) {
        let found = self.of(id);
        let is = |&(found, what): &(&str, &str)| found == level && what.contains(words);
        assert!(
            found.iter().any(is),
            "{id}: {found:?}, not {level}: {words}"
        );
    }

    fn fix(&self, id: &str, words: &str) -> String {
        let findings = self.answer["findings"].as_array().unwrap().iter();
        let mut of = findings.filter(|finding| {
            finding["id"] == id && finding["what"].as_str().unwrap().contains(words)
        });
        of.next().expect(words)["fix"].as_str().unwrap().to_owned()
    }
}

/// A server that answers everything alike; with a `Date` so far ahead of the time.
async fn always(status: u16, body: &'static str, ahead: Duration) -> String {
    let (listener, url) = listen().await;
    let handle = move |_| async move {
        let mut answer = Ending::answer(status, "application/json", body);
        if let Ending::Answer(response) = &mut answer {
            let date: OffsetDateTime = (SystemTime::now() + ahead).into();
            let date = date.format(&Rfc2822).unwrap().replace("+0000", "GMT");
            response.headers_mut().insert(DATE, date.parse().unwrap());
        }
        answer
    };
    tokio::spawn(async move { Connections::new().serve_listener(listener, handle).await });
    format!("{url}/webhooks/purchasely")
}

/// The real function behind an address, as API Gateway would put it there.
async fn behind_an_address(world: &World) -> String {
    let (listener, url) = listen().await;
    let api = world.api.clone();
    let handle = move |request: Request<Bytes>| {
        let api = api.clone();
        async move {
            let headers: serde_json::Map<_, _> = request
                .headers()
                .iter()
                .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())))
                .collect();
            let mut envelope =
                Webhook::new(request.into_body().to_vec(), "", 0).envelope(Front::HttpApi);
            envelope["headers"] = headers.into();
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
fn the_documents_list_every_check() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let page = std::fs::read_to_string(page).unwrap();
    let rows = page
        .lines()
        .skip_while(|line| *line != "| id | what is checked | fails if |")
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let told: Vec<_> = rows
        .flat_map(|row| {
            let cell = row.split('|').nth(1).unwrap();
            cell.split('`').skip(1).step_by(2).map(str::to_owned)
        })
        .collect();
    let known: Vec<_> = CHECKS
        .iter()
        .map(|(_, word, _)| (*word).to_owned())
        .collect();
    assert_eq!(told, known);
    let distinct: BTreeSet<_> = known.iter().collect();
    assert_eq!(distinct.len(), known.len());
}

#[track_caller]
fn check_file(text: &str, expected: Result<&[(&str, &str)], Unreadable>) {
    let expected = expected.map(|pairs| {
        let owned = pairs.iter().map(|&(n, v)| (n.to_owned(), v.to_owned()));
        owned.collect::<BTreeMap<_, _>>()
    });
    assert_eq!(
        env_file::read(text).map(|read| read.values),
        expected,
        "{text}"
    );
}

#[test]
fn a_file_of_variables_is_read_as_cargo_lambda_reads_it() {
    check_file(
        "# a comment\nA=in1\n\n  export B = ABC-1 # why\nC=\nD=\"x=1;y #2\"\nE='it \"is\"'\nF=\"a \\\"b\\\" \\n c\"",
        Ok(&[
            ("A", "in1"),
            ("B", "ABC-1"),
            ("C", ""),
            ("D", "x=1;y #2"),
            ("E", "it \"is\""),
            ("F", "a \"b\" \n c"),
        ]),
    );
    check_file("A=1\r\nA=2\r\n", Ok(&[("A", "2")]));
    check_file("A=1 B=2", Ok(&[("A", "1"), ("B", "2")]));
    // White space takes the end of the line along, and so the next word.
    check_file("A= \nB", Ok(&[("A", "B")]));
    for (text, line, problem) in [
        ("A=1\nB", 2, Problem::NoAssignment),
        ("A B=1", 1, Problem::NoAssignment),
        ("A=a b", 1, Problem::Loose),
        ("A=B=c", 1, Problem::Loose),
        ("A=1 # x\nB=c;d e", 2, Problem::Loose),
        ("A=it's", 1, Problem::OpenQuote),
    ] {
        check_file(text, Err(Unreadable { line, problem }));
    }
    assert_eq!(env_file::read("A=b#c\nD=e # f").unwrap().cut, ["A"]);
}

fn local_template() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("template.yaml");
    template::read(&std::fs::read_to_string(path).unwrap()).unwrap()
}

#[test]
fn short_tags_mean_the_long_form() {
    let read = template::read(
        "Resources: {}\nA: !Ref X\nB: !If [C, !GetAtt X.Arn.Y, !Sub '${X}']\nD: { Fn::GetAtt: X.Arn }\nE: !Not [!Condition F]",
    );
    assert_eq!(
        read.unwrap(),
        json!({
            "Resources": {},
            "A": { "Ref": "X" },
            "B": { "Fn::If": ["C", { "Fn::GetAtt": ["X", "Arn.Y"] }, { "Fn::Sub": "${X}" }] },
            "D": { "Fn::GetAtt": ["X", "Arn"] },
            "E": { "Fn::Not": [{ "Condition": "F" }] },
        })
    );
    assert!(template::read("A: [").is_err());
    assert!(template::read("A: 1").is_err());
}

#[test]
fn a_property_is_what_the_stacks_parameters_make_of_it() {
    let template = local_template();
    let of = |keep: &str, secret: &str| {
        let stack = Stack {
            parameters: [
                ("KeepEvents", keep),
                ("SecretArn", secret),
                ("MemorySize", "512"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            names: [("EventQueue".to_owned(), "https://queue".to_owned())].into(),
        };
        let function = template::properties(&template, "Function", &stack).unwrap();
        let mapping = template::properties(&template, "EventQueueMapping", &stack);
        (function, mapping)
    };
    let (function, mapping) = of("true", "arn:secret");
    assert_eq!(function["MemorySize"], "512");
    assert_eq!(function["Timeout"], 9);
    let variables = &function["Environment"]["Variables"];
    assert_eq!(variables["SECRET_ID"], "arn:secret");
    assert_eq!(variables["EVENT_QUEUE_URL"], "https://queue");
    assert_eq!(
        variables["DEDUPLICATION_TABLE"],
        Value::Null,
        "it is not known"
    );
    assert_eq!(mapping.unwrap()["Enabled"], true);
    let (function, mapping) = of("false", "");
    assert_eq!(function["Environment"]["Variables"]["EVENT_QUEUE_URL"], "");
    assert_eq!(mapping, None, "its condition does not hold");
}

#[test]
fn what_is_not_as_the_template_says_is_told_by_its_path() {
    let properties = template::properties(&local_template(), "Function", &Stack::default());
    let mut expected = properties.unwrap();
    expected.as_object_mut().unwrap().retain(|name, _| {
        ["Timeout", "Runtime", "Tracing", "LoggingConfig"].contains(&name.as_str())
    });
    let right = json!({
        "Timeout": 9,
        "Runtime": "provided.al2023",
        "Tracing": "Active",
        "LoggingConfig": { "LogFormat": "JSON", "LogGroup": "/aws/lambda/x" },
        "CodeSize": 1,
    });
    assert_eq!(template::unmet(&expected, &right), []);
    let mut wrong = right;
    wrong["Timeout"] = json!("3");
    wrong["LoggingConfig"].take();
    let differs = |path: &str, expected: Value, actual: Option<Value>| Difference {
        path: path.to_owned(),
        expected: Some(expected),
        actual,
    };
    assert_eq!(
        template::unmet(&expected, &wrong),
        [
            differs("LoggingConfig.LogFormat", json!("JSON"), None),
            differs("Timeout", json!(9), Some(json!("3"))),
        ]
    );
}

#[tokio::test]
async fn a_template_is_the_same_after_sam_has_packaged_it() {
    let doctor = Doctor::new(&[]).with_aws().await;
    aws(&doctor, &["s3", "mb", "s3://packaged-templates"]).await;
    let folder = doctor.folder.path();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("template.yaml");
    std::fs::copy(source, folder.join("template.yaml")).unwrap();
    let sam = tool("MOTO_SERVER", "moto_server").with_file_name("sam");
    let packaged = Command::new(sam)
        .args(["package", "--s3-bucket", "packaged-templates"])
        .args(["--output-template-file", "packaged.yaml"])
        .current_dir(folder)
        .envs(&doctor.variables)
        .env("AWS_DEFAULT_REGION", "eu-west-1")
        .env("SAM_CLI_TELEMETRY", "0")
        .output()
        .await
        .unwrap();
    assert!(packaged.status.success(), "{packaged:?}");
    let text = std::fs::read_to_string(folder.join("packaged.yaml")).unwrap();
    assert!(text.contains("SamResourceId") && text.contains("s3://packaged-templates/"));
    let mut packaged = template::read(&text).unwrap();
    assert_eq!(template::differences(&local_template(), &packaged), []);

    packaged["Resources"]["Function"]["Properties"]["Timeout"] = json!(3);
    packaged["Parameters"]
        .as_object_mut()
        .unwrap()
        .remove("KeepEvents");
    let differences = template::differences(&local_template(), &packaged);
    let paths: Vec<_> = differences
        .iter()
        .map(|found| found.path.as_str())
        .collect();
    assert_eq!(
        paths,
        [
            "Parameters.KeepEvents",
            "Resources.Function.Properties.Timeout"
        ]
    );
}

#[tokio::test]
async fn a_missing_tool_is_a_warning_and_an_old_one_an_error() {
    let told = Doctor::new(&[]).run().await;
    for id in ["rustc", "cargo_lambda", "sam", "aws_cli", "python3", "zig"] {
        told.check(id, "warning", "not found");
    }
    told.check("rust_target", "warning", "aarch64-unknown-linux-gnu");
    told.check("settings", "warning", "none is set");
    assert_eq!(told.code, 0, "warnings alone are no failure");
    assert_eq!(
        told.answer["summary"],
        json!({ "ok": 0, "warning": 8, "error": 0 })
    );
    assert_eq!(Doctor::new(&["--strict"]).run().await.code, 1);

    let told = Doctor::new(&[])
        .program("rustc", "rustc 1.80.1 (3f5fd8dd4 2024-08-06)")
        .program("cargo-lambda", "cargo-lambda 1.9.1 (abc 2026-01-01Z)")
        .program("sam", "SAM CLI, version 1.170.0")
        .program("aws", "aws-cli/2.31.0 Python/3.13.7 Linux/6.1 exe/x86_64")
        .program("python3", "Python 3.9.2")
        .program("zig", "0.15.1")
        .run()
        .await;
    told.check("rustc", "error", "1.80.1 is older than 1.94.1");
    told.check("cargo_lambda", "error", "1.9.1 is older than 1.9.2");
    told.check("python3", "error", "3.9.2 is older than 3.10.0");
    told.check("sam", "ok", "1.170.0");
    told.check("aws_cli", "ok", "2.31.0");
    told.check("zig", "ok", "0.15.1");
    assert_eq!(told.code, 1);
}

#[tokio::test]
async fn the_tools_of_this_machine_are_found() {
    let path = std::env::var("PATH").unwrap();
    let tools = tool("MOTO_SERVER", "moto_server");
    let path = format!("{}:{path}", tools.parent().unwrap().display());
    let told = Doctor::new(&[])
        .set(&[("PATH", &path), ("HOME", &std::env::var("HOME").unwrap())])
        .run()
        .await;
    for id in ["rustc", "cargo_lambda", "sam", "python3"] {
        told.check(id, "ok", ".");
    }
}

#[tokio::test]
async fn every_mistake_in_the_settings_is_told() {
    let told = Doctor::new(&[])
        .file(
            "--env-file",
            "relay.env",
            "CLEVERTAP_REGION=mars\nCLEVERTAP_ACCOUNT_ID=ABC-123-4567\nEVENT_NAME=x\nSANDBOX_EVENTS=maybe\nAWS_LAMBDA_LOG_LEVEL=DEBUG",
        )
        .run()
        .await;
    let mistakes: Vec<_> = told.of("setting").iter().map(|(_, what)| *what).collect();
    assert_eq!(mistakes.len(), 3, "{mistakes:?}");
    told.check_among("setting", "error", "CLEVERTAP_REGION: is `mars`");
    told.check_among("setting", "error", "SECRET_ID: is not set");
    told.check_among("setting", "error", "SANDBOX_EVENTS: is `maybe`");
    told.check("unknown_variable", "warning", "EVENT_NAME ");
    told.check("env_file", "ok", "relay.env can be read");
    assert!(told.of("settings").is_empty());
    assert_eq!(told.code, 1);

    let told = Doctor::new(&[])
        .file(
            "--env-file",
            "relay.env",
            "CLEVERTAP_REGION=in1 # India\nEVENT_NAMES=A=B\n",
        )
        .run()
        .await;
    told.check("env_file", "error", "line 2");
    let told = Doctor::new(&["--env-file", "none.env"]).run().await;
    told.check("env_file", "error", "none.env");
    assert_eq!(told.code, 1);
}

#[tokio::test]
async fn the_settings_are_told_in_words() {
    let told = Doctor::new(&[])
        .set(&[
            ("CLEVERTAP_REGION", "eu1"),
            ("CLEVERTAP_ACCOUNT_ID", "ABC-123-4567"),
            ("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-123-4567"),
            ("SECRET_ID", "relay"),
            ("REVENUE_EVENT", "Charged"),
            ("CLEVERTAP_DRY_RUN", "true"),
            ("DEDUPLICATION_TABLE", "claims"),
        ])
        .run()
        .await;
    told.check(
        "settings",
        "ok",
        "the environment: uploads to https://api.clevertap.com (eu1 (Europe)), account ABC-123-4567; testers' purchases go to the account TEST-123-4567; revenue as Charged, in the app's one currency; signatures required, of any age",
    );
    told.check("setting", "warning", "CLEVERTAP_DRY_RUN is true");
    let lost: Vec<_> = told.of("promise").iter().map(|(level, _)| *level).collect();
    assert_eq!(lost, ["warning", "warning"]);
    assert_eq!(told.code, 0);
}

#[tokio::test]
async fn a_secrets_shape_is_told_without_its_values() {
    let sandbox = format!(
        r#"{{"clevertap_passcode":"{PASSCODE}","purchasely_shared_secret":"{SHARED_SECRET}","clevertap_sandbox_passcode":"{SANDBOX_PASSCODE}"}}"#
    );
    let swapped = format!(
        r#"{{"{PASSCODE}":"x","clevertap_passcode":"{PASSCODE}","purchasely_shared_secret":"{SHARED_SECRET}"}}"#
    );
    for (content, level, words) in [
        (
            secret_value(PASSCODE, SHARED_SECRET),
            "ok",
            "holds clevertap_passcode, purchasely_shared_secret",
        ),
        (sandbox.clone(), "ok", "clevertap_sandbox_passcode"),
        (
            secret_value(&format!("{PASSCODE}\n"), SHARED_SECRET),
            "error",
            "white space",
        ),
        (
            secret_value(PASSCODE, ""),
            "error",
            "`purchasely_shared_secret` is empty",
        ),
        (PASSCODE.to_owned(), "error", "not a JSON object"),
    ] {
        let told = Doctor::new(&[])
            .file("--secret-file", "secret.json", &content)
            .run()
            .await;
        told.check("secret", level, words);
    }
    let told = Doctor::new(&[])
        .file("--secret-file", "secret.json", &swapped)
        .run()
        .await;
    told.check_among("secret", "warning", "1 of its keys");

    let own_account = ("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-123-4567");
    for (content, level) in [
        (secret_value(PASSCODE, SHARED_SECRET), "error"),
        (sandbox, "ok"),
    ] {
        let doctor = Doctor::new(&[])
            .relaying_to("http://127.0.0.1:9")
            .set(&[own_account]);
        let told = doctor
            .file("--secret-file", "secret.json", &content)
            .run()
            .await;
        told.check("sandbox_passcode", level, "secret.json");
    }
    let told = Doctor::new(&["--secret-file", "none.json"]).run().await;
    told.check("secret", "error", "none.json");
}

#[tokio::test]
async fn clevertap_says_whether_region_account_and_passcode_belong_together() {
    let (clevertap, url) = clevertap().await;
    let secret = secret_value(PASSCODE, SHARED_SECRET);
    let doctor =
        Doctor::new(&["--online"])
            .relaying_to(&url)
            .file("--secret-file", "secret.json", &secret);
    let told = doctor.run().await;
    told.check("clevertap", "ok", "nothing was stored");
    told.check("clock", "ok", "127.0.0.1");
    assert_eq!(told.code, 0);
    let uploads = clevertap.uploads();
    assert_eq!(uploads[0].query.as_deref(), Some("dryRun=1"));
    assert_eq!(uploads[0].status, Some(200));

    for (reply, level, words) in [
        (Reply::Status(429), "warning", "429"),
        (Reply::Status(502), "warning", "passes"),
        (Reply::Status(302), "error", "does not document"),
        (Reply::CloseBeforeAnswer, "error", "did not answer"),
        (
            Reply::RefuseRecord {
                number: 1,
                code: 528,
            },
            "warning",
            "528",
        ),
        (
            Reply::RefuseRecord {
                number: 1,
                code: 555,
            },
            "warning",
            "555",
        ),
    ] {
        clevertap.script([reply]);
        doctor.run().await.check("clevertap", level, words);
    }
    clevertap.set_passcode("another");
    let told = doctor.run().await;
    told.check(
        "clevertap",
        "error",
        "401: passcode, account ABC-123-4567 and region",
    );
    assert!(
        told.fix("clevertap", "401")
            .contains("a wrong region is answered like a wrong passcode")
    );
    assert_eq!(told.code, 1);
    assert_eq!(clevertap.accepted(), Vec::<Value>::new());

    let nobody = format!("http://127.0.0.1:{}", free_port().await);
    let told = doctor.relaying_to(&nobody).run().await;
    told.check("clevertap", "error", "no connection");
    assert!(told.of("clock").is_empty());
}

#[tokio::test]
async fn the_sandbox_account_is_asked_as_well() {
    let (clevertap, url) = clevertap().await;
    let secret = json!({
        "clevertap_passcode": PASSCODE,
        "purchasely_shared_secret": SHARED_SECRET,
        "clevertap_sandbox_passcode": SANDBOX_PASSCODE,
    });
    let sandbox = "TEST-123-4567";
    let doctor = Doctor::new(&["--online"])
        .relaying_to(&url)
        .set(&[("CLEVERTAP_SANDBOX_ACCOUNT_ID", sandbox)])
        .file("--secret-file", "secret.json", &secret.to_string());
    let told = doctor.run().await;
    told.check("clevertap", "ok", ACCOUNT_ID);
    told.check(
        "clevertap_sandbox",
        "error",
        "401: passcode, account TEST-123-4567",
    );
    clevertap.script([
        Reply::Normal,
        Reply::Answer {
            status: 200,
            body: r#"{"status":"success","processed":1,"unprocessed":[]}"#.to_owned(),
        },
    ]);
    doctor.run().await.check("clevertap_sandbox", "ok", sandbox);
    let asked: Vec<_> = clevertap
        .uploads()
        .into_iter()
        .map(|upload| upload.account_id)
        .collect();
    assert_eq!(asked[1].as_deref(), Some(sandbox));
}

#[tokio::test]
async fn root_certificates_must_be_readable() {
    let (_, url) = clevertap().await;
    let with = |content: &str| {
        let doctor = Doctor::new(&["--online"]).relaying_to(&url);
        let file = doctor.folder.path().join("roots.pem");
        std::fs::write(&file, content).unwrap();
        doctor.set(&[("SSL_CERT_FILE", file.to_str().unwrap())])
    };
    let told = with("nothing").run().await;
    told.check("root_certificates", "error", "it is empty");
    told.check("clevertap", "warning", "no usable settings");
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let secret = secret_value(PASSCODE, SHARED_SECRET);
    let told = with(&certified.cert.pem())
        .file("--secret-file", "secret.json", &secret)
        .run()
        .await;
    told.check("root_certificates", "ok", "1 in place");
    told.check("clevertap", "ok", "");
}

#[tokio::test]
async fn the_functions_own_401_is_what_an_unsigned_request_must_get() {
    let world = World::start(&[]).await;
    let url = behind_an_address(&world).await;
    let told = Doctor::new(&["--url", &url]).run().await;
    told.check("webhook", "ok", "answers an unsigned request 401");
    told.check("webhook_secret", "ok", "the function has its secret");
    told.check("clock", "ok", "127.0.0.1");
    assert_eq!(told.code, 0);

    let unread = SecretsManager::new("another", &secret_value(PASSCODE, SHARED_SECRET));
    let world = World::start_with(unread, &[]).await;
    let url = behind_an_address(&world).await;
    let told = Doctor::new(&["--url", &url]).run().await;
    told.check("webhook", "ok", "");
    told.check("webhook_secret", "error", "has no secret");
    assert_eq!(told.code, 1);

    let world = World::start(&[("PURCHASELY_SIGNATURE", "off")]).await;
    let url = behind_an_address(&world).await;
    let told = Doctor::new(&["--url", &url]).run().await;
    told.check("webhook", "error", "it takes unsigned requests");
    assert_eq!(world.clevertap.uploads().len(), 0, "and nothing came of it");
    let off = [("PURCHASELY_SIGNATURE", "off")];
    let told = Doctor::new(&["--url", &url])
        .relaying_to("http://127.0.0.1:9")
        .set(&off)
        .run()
        .await;
    told.check("webhook", "warning", "not asked");
}

#[tokio::test]
async fn every_other_answer_of_an_address_is_explained() {
    for (status, body, words) in [
        (200, r#"{"status":"ok"}"#, "this is not the function"),
        (301, "", "redirects"),
        (401, r#"{"message":"Unauthorized"}"#, "not the function"),
        (403, r#"{"Message":"Forbidden"}"#, "AWS refuses before"),
        (404, r#"{"message":"Not Found"}"#, "no such path"),
        (405, r#"{"error":"method_not_allowed"}"#, "something else"),
        (429, r#"{"message":"Too Many Requests"}"#, "throttled"),
        (
            500,
            r#"{"message":"Internal Server Error"}"#,
            "could not start",
        ),
        (502, "", "could not start"),
        (503, r#"{"error":"unavailable"}"#, "could not answer"),
        (
            503,
            r#"{"message":"Service Unavailable"}"#,
            "could not start",
        ),
        (418, "", "not the function's answer"),
    ] {
        let url = always(status, body, Duration::ZERO).await;
        let told = Doctor::new(&["--url", &url]).run().await;
        told.check("webhook", "error", words);
        assert!(told.of("webhook_secret").is_empty());
    }
    let nobody = format!("http://127.0.0.1:{}", free_port().await);
    let told = Doctor::new(&["--url", &nobody]).run().await;
    told.check("webhook", "error", "does not answer");
    let (code, _) = Doctor::new(&["--json"])
        .output_of_usage(&["--url", "ftp://x"])
        .await;
    assert_eq!(code, 2);
}

#[tokio::test]
async fn a_clock_that_is_wrong_is_told() {
    for (ahead, level, words) in [
        (Duration::from_secs(30), "ok", "agrees"),
        (Duration::from_mins(3), "warning", "s behind 127.0.0.1"),
        (
            Duration::from_mins(10),
            "error",
            "AWS refuses what it signs",
        ),
    ] {
        let url = always(401, r#"{"error":"unauthorized"}"#, ahead).await;
        let told = Doctor::new(&["--url", &url]).run().await;
        told.check("clock", level, words);
    }
}

#[tokio::test]
async fn the_text_is_grouped_and_ends_with_a_count() {
    let doctor = Doctor::new(&[])
        .program("zig", "0.15.1")
        .program("sam", "SAM CLI, version 1.170.0");
    let (code, text) = doctor.output(&[]).await;
    assert_eq!(code, 0);
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "Tools");
    assert_eq!(lines[1], "  warning  rustc              not found");
    assert!(lines[2].starts_with("                              → every way to deploy"));
    assert!(lines.contains(&"  ok       zig                0.15.1"));
    assert!(lines.contains(&"Settings"));
    assert_eq!(
        lines[lines.len() - 2..],
        ["", "2 ok, 6 to look at, 0 wrong"]
    );
}

/// Runs a command of the AWS CLI as it was told, quotes and all.
async fn run_in_a_shell(doctor: &Doctor, command: &str) {
    let words = Command::new("sh")
        .args(["-c", &format!("printf '%s\\0' {command}")])
        .output()
        .await
        .unwrap();
    let words = String::from_utf8(words.stdout).unwrap();
    let words: Vec<_> = words.split_terminator('\0').collect();
    assert_eq!(words[0], "aws");
    aws(doctor, &words[1..]).await;
}

/// Asks moto for something, as a deployer would.
async fn aws(doctor: &Doctor, arguments: &[&str]) -> Value {
    let output = Command::new(&doctor.variables["AWS_CLI"])
        .args(arguments)
        .args([
            "--output",
            "json",
            "--endpoint-url",
            &doctor.variables["AWS_ENDPOINT_URL"],
        ])
        .envs(&doctor.variables)
        .env("AWS_DEFAULT_REGION", "eu-west-1")
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{arguments:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or_default()
}

/// The local template with what moto's CloudFormation does not know taken out.
fn for_moto(webhook_url: &str) -> Value {
    let mut template = local_template();
    template.as_object_mut().unwrap().remove("Transform");
    let resources = template["Resources"].as_object_mut().unwrap();
    resources.remove("Api");
    let function = &mut resources["Function"];
    function["Type"] = json!("AWS::Lambda::Function");
    let properties = function["Properties"].as_object_mut().unwrap();
    for name in [
        "CodeUri",
        "Events",
        "Tracing",
        "LoggingConfig",
        "Architectures",
    ] {
        properties.remove(name).expect(name);
    }
    properties.insert("Code".to_owned(), json!({ "ZipFile": "x" }));
    for queue in ["EventQueue", "DeadLetterQueue"] {
        let name = format!("${{AWS::StackName}}-{queue}.fifo");
        resources[queue]["Properties"]["QueueName"] = json!({ "Fn::Sub": name });
    }
    template["Outputs"]["WebhookUrl"]["Value"] = json!(webhook_url);
    template
}

/// A stack of this project on moto.
struct Deployed {
    name: String,
    template: Value,
    secret: String,
    /// Physical ids.
    resources: BTreeMap<String, String>,
}

impl Deployed {
    async fn new(doctor: &Doctor, webhook_url: &str, parameters: &[(&str, &str)]) -> Self {
        let name = format!("doctor-{}", STACKS.fetch_add(1, Ordering::Relaxed));
        let value = secret_value(PASSCODE, SHARED_SECRET);
        let create = [
            "secretsmanager",
            "create-secret",
            "--name",
            &name,
            "--secret-string",
            &value,
        ];
        let made = aws(doctor, &create).await;
        let secret = made["ARN"].as_str().unwrap().to_owned();
        let template = for_moto(webhook_url);
        let body = template.to_string();
        let own = [
            ("ClevertapRegion", "in1"),
            ("ClevertapAccountId", ACCOUNT_ID),
            ("RevenueEvent", "none"),
            ("SecretArn", &secret),
            // Moto makes no alarm of a template.
            ("Monitoring", "false"),
        ];
        let parameters: Vec<_> = own
            .iter()
            .chain(parameters)
            .map(|(key, value)| format!("ParameterKey={key},ParameterValue={value}"))
            .collect();
        let create = [
            "cloudformation",
            "create-stack",
            "--stack-name",
            &name,
            "--template-body",
            &body,
            "--parameters",
        ];
        let create: Vec<_> = create
            .into_iter()
            .chain(parameters.iter().map(String::as_str))
            .collect();
        aws(doctor, &create).await;
        let list = [
            "cloudformation",
            "list-stack-resources",
            "--stack-name",
            &name,
        ];
        let listed = aws(doctor, &list).await;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resources = listed["StackResourceSummaries"].as_array().unwrap().iter();
        let resources = resources.map(|known| {
            let logical = text(&known["LogicalResourceId"]);
            (logical, text(&known["PhysicalResourceId"]))
        });
        Self {
            name,
            template,
            secret,
            resources: resources.collect(),
        }
    }
}

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    reason = "it is one stack, which takes long to make and to look at"
)]
async fn a_stack_is_as_its_template_says_once_the_told_commands_are_run() {
    let (clevertap, clevertap_url) = clevertap().await;
    let world = World::start(&[]).await;
    let url = behind_an_address(&world).await;
    let doctor = Doctor::new(&["--online"]).with_aws().await;
    let parameters = [("ClevertapApiUrl", clevertap_url.as_str())];
    let stack = Deployed::new(&doctor, &url, &parameters).await;
    let doctor = doctor
        .file("--template", "template.json", &stack.template.to_string())
        .and(&["--stack", &stack.name]);
    let of = |resource: &str| stack.resources[resource].as_str();
    for command in [
        &[
            "lambda",
            "update-function-configuration",
            "--function-name",
            of("Function"),
            "--timeout",
            "3",
            "--memory-size",
            "128",
        ][..],
        &[
            "lambda",
            "update-event-source-mapping",
            "--uuid",
            of("EventQueueMapping"),
            "--no-enabled",
        ],
        &[
            "sqs",
            "set-queue-attributes",
            "--queue-url",
            of("EventQueue"),
            "--attributes",
            r#"{"VisibilityTimeout":"30","RedrivePolicy":""}"#,
        ],
        &[
            "sqs",
            "send-message",
            "--queue-url",
            of("DeadLetterQueue"),
            "--message-body",
            "{}",
            "--message-group-id",
            "g",
            "--message-deduplication-id",
            "d",
        ],
        &[
            "secretsmanager",
            "put-secret-value",
            "--secret-id",
            &stack.secret,
            "--secret-string",
            r#"{"clevertap_passcode":"","purchasely_shared_secret":""}"#,
        ],
    ] {
        aws(&doctor, command).await;
    }
    let told = doctor.run().await;
    told.check("stack", "ok", "CREATE_COMPLETE");
    told.check("template", "ok", "deployed as it is here");
    told.check_among("function", "error", "Timeout is `3`, in the template `9`");
    told.check_among(
        "function",
        "warning",
        "MemorySize is `128`, in the template `256`",
    );
    told.check("event_source", "error", "Enabled is `false`");
    told.check_among("queue", "ok", "as DeadLetterQueue in the template");
    told.check_among("queue", "warning", "VisibilityTimeout is `30`");
    told.check_among(
        "queue",
        "error",
        "RedrivePolicy.deadLetterTargetArn is not set",
    );
    told.check_among("queue", "warning", "about 1 dead letters wait");
    // CloudFormation sets the expiry; moto's does not.
    told.check("claims_table", "warning", "TimeToLiveSpecification");
    told.check("settings", "ok", "the deployed function");
    told.check("secret", "error", "is empty");
    told.check("clevertap", "warning", "no passcode");
    assert_eq!(told.code, 1);

    for (id, words) in [
        ("function", "Timeout"),
        ("function", "MemorySize"),
        ("event_source", "Enabled"),
        ("queue", "VisibilityTimeout"),
        ("queue", "deadLetterTargetArn"),
        ("claims_table", "TimeToLive"),
    ] {
        let fix = told.fix(id, words);
        let command = fix.split('`').nth(1).expect("a command");
        run_in_a_shell(&doctor, command).await;
    }
    let value = secret_value(PASSCODE, SHARED_SECRET);
    let put = [
        "secretsmanager",
        "put-secret-value",
        "--secret-id",
        &stack.secret,
        "--secret-string",
        &value,
    ];
    aws(&doctor, &put).await;
    let told = doctor.run().await;
    for (id, words) in [
        ("aws_access", "arn:aws:sts::123456789012:user/moto"),
        ("stack", "CREATE_COMPLETE"),
        ("template", "deployed as it is here"),
        ("function", "timeout 9 s, 256 MiB"),
        ("event_source", "names what failed (Enabled)"),
        ("claims_table", "are right"),
        ("settings", "the deployed function"),
        ("secret", "holds clevertap_passcode"),
        ("clevertap", "nothing was stored"),
        ("webhook", "401"),
        ("webhook_secret", "has its secret"),
        ("clock", "agrees"),
    ] {
        told.check(id, "ok", words);
    }
    told.check_among("queue", "ok", "as DeadLetterQueue in the template");
    told.check_among("queue", "ok", "as EventQueue in the template");
    assert_eq!(told.code, 0);
    assert_eq!(clevertap.accepted(), Vec::<Value>::new());
}

#[tokio::test]
async fn a_stack_of_another_template_is_to_be_deployed_again() {
    let doctor = Doctor::new(&[]).with_aws().await;
    let nowhere = format!("http://127.0.0.1:{}", free_port().await);
    let stack = Deployed::new(&doctor, &nowhere, &[("KeepEvents", "false")]).await;
    let function = stack.resources["Function"].as_str();
    let variables = json!({ "Variables": {
        "CLEVERTAP_REGION": "mars",
        "SECRET_ID": stack.secret,
        "REVENUE_EVENT": "Charged",
        "SSL_CERT_FILE": "/opt/roots.pem",
    }});
    let variables = variables.to_string();
    let update = [
        "lambda",
        "update-function-configuration",
        "--function-name",
        function,
        "--environment",
        &variables,
    ];
    aws(&doctor, &update).await;
    let mut other = stack.template.clone();
    other["Resources"]["Function"]["Properties"]["Timeout"] = json!(8);
    let told = doctor
        .file("--template", "template.json", &other.to_string())
        .and(&["--stack", &stack.name])
        .run()
        .await;
    told.check(
        "template",
        "warning",
        "Resources.Function.Properties.Timeout is `9`, in the template `8`",
    );
    told.check_among("function", "error", "Timeout is `9`, in the template `8`");
    assert!(told.fix("function", "Timeout").contains("sam deploy"));
    for words in [
        "CLEVERTAP_REGION is `mars`, in the template `in1`",
        "CLEVERTAP_ACCOUNT_ID is not set",
        "REVENUE_EVENT is `Charged`, in the template `none`",
        "SSL_CERT_FILE is set, and the template does not set it",
    ] {
        told.check_among("function", "warning", words);
    }
    told.check_among("setting", "error", "CLEVERTAP_REGION: is `mars`");
    assert!(told.of("queue").is_empty() && told.of("claims_table").is_empty());
    told.check("webhook", "error", "does not answer");
}

#[tokio::test]
async fn a_function_without_a_stack_is_checked_with_what_its_variables_name() {
    let doctor = Doctor::new(&[]).with_aws().await;
    let stack = Deployed::new(&doctor, "http://127.0.0.1:9", &[]).await;
    let function = stack.resources["Function"].as_str();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("template.yaml");
    let source = std::fs::read_to_string(source).unwrap();
    let doctor = doctor
        .file("--template", "template.yaml", &source)
        .and(&["--function", function]);
    for command in [
        &[
            "lambda",
            "delete-event-source-mapping",
            "--uuid",
            &stack.resources["EventQueueMapping"],
        ][..],
        &[
            "lambda",
            "create-function-url-config",
            "--function-name",
            function,
            "--auth-type",
            "AWS_IAM",
        ],
        &[
            "dynamodb",
            "delete-table",
            "--table-name",
            &stack.resources["ClaimsTable"],
        ],
    ] {
        aws(&doctor, command).await;
    }
    let told = doctor.run().await;
    told.check("function", "ok", "timeout 9 s");
    told.check("event_source", "error", "does not read the event queue");
    told.check("webhook", "warning", "asks for AWS_IAM");
    told.check("claims_table", "error", "ResourceNotFoundException");
    told.check("secret", "ok", "holds");
    let queues: Vec<_> = told.of("queue").iter().map(|(level, _)| *level).collect();
    assert_eq!(queues, ["ok", "ok"]);
    assert!(told.of("stack").is_empty() && told.of("template").is_empty());
}

#[tokio::test]
async fn what_aws_does_not_answer_is_told_with_a_way_out() {
    let template =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("template.yaml"));
    let template = template.unwrap();
    let doctor = || async {
        let doctor = Doctor::new(&["--stack", "nowhere"]).with_aws().await;
        doctor.file("--template", "template.yaml", &template)
    };
    let told = doctor().await.run().await;
    told.check("aws_access", "ok", "moto");
    told.check("stack", "error", "nowhere");
    assert_eq!(told.code, 1);

    let told = doctor()
        .await
        .set(&[("AWS_CLI", "/nowhere/aws")])
        .run()
        .await;
    told.check("aws_access", "error", "the AWS CLI cannot be run");
    told.check("aws_cli", "warning", "not found");
    assert!(told.of("stack").is_empty());

    let mut stranger = doctor().await.set(&[("AWS_EC2_METADATA_DISABLED", "true")]);
    stranger.variables.remove("AWS_ACCESS_KEY_ID");
    let told = stranger.run().await;
    told.check("aws_access", "error", "Unable to locate credentials");
    assert!(
        told.fix("aws_access", "credentials")
            .contains("aws sso login")
    );

    let nobody = format!("http://127.0.0.1:{}", free_port().await);
    let told = doctor()
        .await
        .set(&[("AWS_ENDPOINT_URL", &nobody), ("AWS_MAX_ATTEMPTS", "1")])
        .run()
        .await;
    told.check("aws_access", "error", "Could not connect");

    let told = Doctor::new(&["--stack", "any"]).run().await;
    told.check("template", "error", "template.yaml");
    assert!(
        told.of("aws_access").is_empty(),
        "nothing is asked for nothing"
    );
}

#[tokio::test]
async fn the_secret_is_read_from_aws_where_it_is_asked_for() {
    let (_, url) = clevertap().await;
    let doctor = Doctor::new(&["--online"])
        .relaying_to(&url)
        .with_aws()
        .await;
    let value = secret_value(PASSCODE, SHARED_SECRET);
    aws(
        &doctor,
        &[
            "secretsmanager",
            "create-secret",
            "--name",
            "doctors",
            "--secret-string",
            &value,
        ],
    )
    .await;
    let told = doctor.run().await;
    told.check("secret", "error", "ResourceNotFoundException");
    told.check("clevertap", "warning", "no passcode");
    let told = doctor.set(&[("SECRET_ID", "doctors")]).run().await;
    told.check("secret", "ok", "doctors holds");
    told.check("clevertap", "ok", "");
}
