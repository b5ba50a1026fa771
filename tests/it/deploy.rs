//! The commands of the README and of docs/, run as they stand: the AWS CLI's and `cargo lambda deploy` against moto,
//! the examples against a stand-in, the template's translation. It does not know what the function relays.
//!
//! A section's shell blocks are one script, in a folder that looks like a clone. Programs that can do nothing useful
//! there are recorded, and what they were given is checked; a program without a check is not found.

use testkit::moto as aws;
use testkit::connections::{Connections, Ending};
use testkit::process::tool;
use testkit::harness::{body, listen, secret_value};
use futures_util::stream::{self, StreamExt as _};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_mins(5);

/// Moto's own account.
const AWS_ACCOUNT: &str = "123456789012";

/// One for each script, because moto keeps what is in a region apart from the others. The rest of the tests
/// works in eu-west-1.
const REGIONS: [&str; 26] = [
    "af-south-1",
    "ap-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-south-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-west-2",
    "ap-south-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ca-west-1",
    "eu-central-2",
    "eu-south-2",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "us-east-2",
];
static REGIONS_TAKEN: AtomicUsize = AtomicUsize::new(0);

const PROGRAMS_KNOWN: [&str; 8] = [
    "aws", "cargo", "git", "make", "pip", "python3", "rustup", "sam",
];

/// What a script finds under the names of the programs that it calls. Those of /usr/bin it does not see.
const PROGRAMS: &str = r#"#!/bin/bash -e
# Line, program and arguments, each ended by a null; a record by one more.
record() { { printf '%s\0' "$LINE" "$name" "$@"; printf '\0'; } >> "$RECORD"; }
name=${0##*/}
case "$name" in
aws)
  # What moto does not serve is parsed and validated by the CLI, and not sent.
  case "$1 ${2-}" in
  "sqs start-message-move-task" | "sqs list-message-move-tasks")
    exec "$AWS_CLI" "$@" --generate-cli-skeleton output ;;
  # Version 1 of the CLI, which PyPI has, lacks this one; these are the calls that version 2 makes.
  "logs tail")
    group=$3; shift 3
    exec "$AWS_CLI" logs filter-log-events --log-group-name "$group" "${@/#--follow/--no-paginate}" --endpoint-url "$AWS_ENDPOINT_URL" ;;
  # For SQS this CLI asks for the address by option, and reads no variable.
  *)
    exec "$AWS_CLI" "$@" --endpoint-url "$AWS_ENDPOINT_URL" ;;
  esac ;;
cargo)
  PATH=$PROGRAMS_PATH
  case "$1 ${2-}" in
  "lambda deploy") exec "$CARGO_LAMBDA" "$@" ;;
  "lambda build") mkdir -p "${BOOTSTRAP%/*}" && cp "$PROGRAM" "$BOOTSTRAP" ;;
  "run --example")
    # The doctor would ask CleverTap, and find fault where nothing is deployed.
    if [ "$3" != doctor ]; then shift; exec "$CARGO" run --locked --quiet --manifest-path "$CLONE/Cargo.toml" "$@"; fi ;;
  "run "*) shift; exec "$CARGO" run --locked --quiet --manifest-path "$CLONE/Cargo.toml" "$@" ;;
  esac ;;
make)
  PATH=$PROGRAMS_PATH
  case "$1 ${2-}" in
  "package ARCH="*) python3 scripts/package.py "${2#ARCH=}" "$PROGRAM" ;;
  esac ;;
esac
record "$@"
"#;

/// A folder that looks like a clone, and a region of moto's with nothing in it.
struct Place {
    folder: TempDir,
    region: &'static str,
    endpoint: String,
    webhook_url: String,
}

/// A command that was recorded instead of run.
struct Recorded {
    line: String,
    words: Vec<String>,
}

impl Place {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
        for entry in std::fs::read_dir(clone).unwrap() {
            let name = entry.unwrap().file_name();
            let kept = [".git", ".tools", ".aws-sam", "target", "secret.json"];
            if !kept.iter().any(|kept| name == *kept) {
                symlink(clone.join(&name), folder.path().join(&name)).unwrap();
            }
        }
        let write = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(".tools/venv/bin/activate", "");
        write("target/.keep", "");
        write("secret.json", &secret_value("passcode", "shared secret"));
        write("params.yaml", &yaml_block("ClevertapRegion:"));
        write("saved.ndjson", &String::from_utf8(body()).unwrap());
        write("programs/shared", PROGRAMS);
        let programs = folder.path().join("programs");
        let shared = programs.join("shared");
        std::fs::set_permissions(&shared, std::fs::Permissions::from_mode(0o755)).unwrap();
        for name in PROGRAMS_KNOWN {
            symlink(&shared, programs.join(name)).unwrap();
        }
        for name in ["cat", "cp", "mkdir", "rm", "sed"] {
            symlink(found(name), programs.join(name)).unwrap();
        }

        let taken = REGIONS_TAKEN.fetch_add(1, Ordering::Relaxed);
        let region = REGIONS.get(taken).expect("a region for each script");
        let (listener, webhook_url) = listen().await;
        tokio::spawn(async move {
            let answer =
                |_| async { Ending::answer(200, "application/json", r#"{"status":"relayed"}"#) };
            Connections::new().serve_listener(listener, answer).await;
        });
        Self {
            folder,
            region,
            endpoint: aws::endpoint().await,
            webhook_url,
        }
    }

    /// Makes what a script takes for granted: a function and a secret, unless the script makes them itself.
    async fn furnish(&self, script: &str) {
        if !script.contains("aws ") {
            return;
        }
        let mut before = String::from("set -eu\n");
        if !script.contains("aws secretsmanager create-secret") {
            before += "aws secretsmanager create-secret --name purchasely-clevertap --secret-string '{}'\n";
        }
        let makes_function = script.contains("aws lambda create-function ")
            || script.contains("cargo lambda deploy");
        if script.contains("--function-name") && !makes_function {
            let role = format!("existing-{}", self.region);
            let _ = writeln!(
                before,
                "make package ARCH=arm64\n\
                 aws iam create-role --role-name {role} --assume-role-policy-document '{{}}'\n\
                 aws lambda create-function --function-name purchasely-clevertap --runtime provided.al2023 \
                 --handler bootstrap --role arn:aws:iam::{AWS_ACCOUNT}:role/{role} \
                 --zip-file fileb://target/package/purchasely-clevertap-arm64.zip\n\
                 aws logs create-log-group --log-group-name /aws/lambda/purchasely-clevertap"
            );
        }
        for queue in ["dead-letters.fifo", "events.fifo"] {
            if script.contains("aws sqs") {
                let _ = writeln!(
                    before,
                    "aws sqs create-queue --queue-name {queue} --attributes FifoQueue=true"
                );
            }
        }
        self.run("what the script takes for granted", &before).await;
    }

    /// Runs a script to its end and returns what was recorded instead of run.
    async fn run(&self, name: &str, script: &str) -> Vec<Recorded> {
        let record = self.folder.path().join("record");
        let _ = std::fs::remove_file(&record);
        let file = self.folder.path().join("script");
        std::fs::write(&file, script).unwrap();
        let mut command = Command::new(found("bash"));
        command
            .arg(&file)
            .env("PATH", self.folder.path().join("programs"))
            .env("RECORD", &record)
            .env("LINE", "0");
        let output = self.output(command, "one\ntwo\nthree\n").await;
        assert!(
            output.status.success(),
            "{name}: a command failed\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        let records = std::fs::read_to_string(record).unwrap_or_default();
        records
            .split_terminator("\0\0")
            .map(|record| {
                let mut words = record.split('\0').map(str::to_owned);
                Recorded {
                    line: format!("{name}:{}", words.next().unwrap()),
                    words: words.collect(),
                }
            })
            .collect()
    }

    /// Asks moto something with the AWS CLI.
    async fn ask(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(tool("AWS_CLI", "aws"));
        command.args(arguments).args(["--output", "json"]);
        let output = self.output(command, "").await;
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "aws {arguments:?}: {error}");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Runs a command in the folder, with nothing in its environment but what a deployer's shell has.
    async fn output(&self, mut command: Command, input: &str) -> std::process::Output {
        let path = self.folder.path();
        let real = std::env::var_os("PATH").expect("a PATH");
        let explicit: Vec<_> = command
            .as_std()
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        // What cargo says to a test would have it build again what it has built.
        command
            .env_clear()
            .env("PATH", &real)
            .env("PROGRAMS_PATH", &real);
        for (name, value) in std::env::vars_os() {
            let kept = [
                "HOME",
                "CARGO_HOME",
                "CARGO_TARGET_DIR",
                "CARGO_INCREMENTAL",
                "RUSTFLAGS",
            ];
            let text = name.to_string_lossy();
            if kept.contains(&&*text) || text.starts_with("RUSTUP_") {
                command.env(&name, value);
            }
        }
        command
            .env("CLONE", env!("CARGO_MANIFEST_DIR"))
            .env("CARGO", env!("CARGO"))
            .env("CARGO_LAMBDA", tool("CARGO_LAMBDA", "cargo-lambda"))
            .env("AWS_CLI", tool("AWS_CLI", "aws"))
            .env("BOOTSTRAP", "target/lambda/purchasely-clevertap/bootstrap")
            // Any program will do where nobody starts it.
            .env("PROGRAM", found("true"))
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_REGION", self.region)
            .env("AWS_DEFAULT_REGION", self.region)
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_CONFIG_FILE", path.join("no-config"))
            .env("AWS_SHARED_CREDENTIALS_FILE", path.join("no-credentials"))
            .env("AWS_PAGER", "")
            .env("SAM_CLI_TELEMETRY", "0")
            .envs(explicit);
        let given = path.join("input");
        std::fs::write(&given, input).unwrap();
        command
            .current_dir(path)
            .stdin(std::fs::File::open(given).unwrap())
            .kill_on_drop(true);
        tokio::time::timeout(PATIENCE, command.output())
            .await
            .expect("it ends")
            .expect("it starts")
    }

    /// Puts values in place of a document's `<placeholders>`.
    fn fill_in(&self, name: &str, script: &str) -> String {
        let queue = |name: &str| {
            (
                format!("{}/{AWS_ACCOUNT}/{name}.fifo", self.endpoint),
                format!("arn:aws:sqs:{}:{AWS_ACCOUNT}:{name}.fifo", self.region),
            )
        };
        let (dead_url, dead_arn) = queue("dead-letters");
        let (event_url, event_arn) = queue("events");
        let mut script = script.replace("http://localhost:9000", &self.webhook_url);
        for (placeholder, value) in [
            ("<region>", self.region),
            ("<SecretArn>", "purchasely-clevertap"),
            ("<FunctionName>", "purchasely-clevertap"),
            ("<UUID>", "0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11"),
            ("<version>", "v0.1.0"),
            (
                "<WebhookUrl>",
                &format!("{}/webhooks/purchasely", self.webhook_url),
            ),
            ("<DeadLetterQueueUrl>", &dead_url),
            ("<DeadLetterQueueArn>", &dead_arn),
            ("<EventQueueUrl>", &event_url),
            ("<EventQueueArn>", &event_arn),
        ] {
            script = script.replace(placeholder, value);
        }
        for (number, line) in script.lines().enumerate() {
            for rest in line.split('<').skip(1) {
                let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
                let placeholder = !word.is_empty() && rest[word.len()..].starts_with('>');
                assert!(
                    !placeholder,
                    "{name}:{}: no value for <{word}>: give it one in tests/it/deploy.rs",
                    number + 1
                );
            }
        }
        script
    }

    /// Runs the commands of a section, and checks those that were recorded.
    async fn follow(&self, section: &Section) {
        let name = &section.document;
        let script = self.fill_in(name, &section.script);
        self.furnish(&script).await;
        for Recorded { line, words } in self.run(name, &script).await {
            self.check(&line, &words).await;
        }
    }

    /// Checks a recorded command: that what it names exists.
    async fn check(&self, line: &str, words: &[String]) {
        let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
        let command: Vec<_> = words.iter().map(String::as_str).collect();
        match command.as_slice() {
            ["make", rest @ ..] => {
                let mut make = Command::new("make");
                make.arg("--dry-run").args(rest).current_dir(clone);
                make.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
                let output = make.output().await.expect("make");
                let error = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success(), "{line}: make {rest:?}: {error}");
            }
            ["python3", "-m", "venv", ".tools/venv"]
            | ["git", "pull"]
            | ["git", "checkout", "v0.1.0"] => {}
            ["cargo", "run", "--example", "doctor", rest @ ..] => {
                let mut doctor = Command::new(env!("CARGO"));
                doctor.args(["run", "--locked", "--quiet", "--manifest-path"]);
                doctor.arg(clone.join("Cargo.toml"));
                let name = &["--example", "doctor", "--"];
                self.check_options(line, doctor, name, rest).await;
            }
            ["pip", "install", rest @ ..] => {
                let files = rest.iter().filter(|word| !word.starts_with('-'));
                for file in files {
                    assert!(clone.join(file).is_file(), "{line}: {file} is missing");
                }
                let known = ["-r", "--no-deps"];
                let options = rest.iter().filter(|word| word.starts_with('-'));
                assert!(
                    options.clone().all(|option| known.contains(option)),
                    "{line}"
                );
            }
            ["rustup", "target", "add", target] => {
                let makefile = std::fs::read_to_string(clone.join("Makefile")).unwrap();
                assert!(
                    makefile.contains(&format!(":= {target}\n")),
                    "{line}: {target}"
                );
            }
            ["sam", name, rest @ ..] => {
                let sam = tool("MOTO_SERVER", "moto_server").with_file_name("sam");
                self.check_options(line, Command::new(sam), &[name], rest)
                    .await;
                self.check_parameters(line, rest);
                for file in values_of(rest, &["--template-file", "--config-file"]) {
                    assert!(self.folder.path().join(file).is_file(), "{line}: {file}");
                }
            }
            ["cargo", "lambda", name, rest @ ..] => {
                let cargo_lambda = Command::new(tool("CARGO_LAMBDA", "cargo-lambda"));
                self.check_options(line, cargo_lambda, &["lambda", name], rest)
                    .await;
                for file in values_of(rest, &["--data-file", "--env-file"]) {
                    assert!(self.folder.path().join(file).is_file(), "{line}: {file}");
                }
            }
            other => panic!("{line}: nothing checks `{}`", other.join(" ")),
        }
    }

    /// Holds the options against the program's own help.
    async fn check_options(&self, line: &str, mut program: Command, name: &[&str], rest: &[&str]) {
        program.args(name).arg("--help");
        let output = self.output(program, "").await;
        assert!(output.status.success(), "{line}: there is no {name:?}");
        let help = String::from_utf8_lossy(&output.stdout).into_owned();
        let known: BTreeSet<_> = help
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '-')
            .collect();
        for option in rest.iter().filter(|word| word.starts_with("--")) {
            assert!(known.contains(option), "{line}: {name:?} has no {option}");
        }
    }

    /// Holds `--parameter-overrides` against the template's parameters.
    fn check_parameters(&self, line: &str, rest: &[&str]) {
        let overrides = rest
            .iter()
            .skip_while(|word| **word != "--parameter-overrides");
        let overrides = overrides.skip(1).take_while(|word| !word.starts_with("--"));
        let template = translated();
        let parameters = template["Parameters"].as_object().unwrap();
        for word in overrides {
            let text = match word.strip_prefix("file://") {
                Some(file) => std::fs::read_to_string(self.folder.path().join(file)).unwrap(),
                None => (*word).to_owned(),
            };
            for given in text.lines() {
                let name = given.split([':', '=']).next().unwrap();
                assert!(parameters.contains_key(name), "{line}: no parameter {name}");
            }
        }
    }

    /// What the policy of the function says, without the ids of its statements.
    async fn function_policy(&self) -> Vec<Value> {
        let answer = self
            .ask(&[
                "lambda",
                "get-policy",
                "--function-name",
                "purchasely-clevertap",
            ])
            .await;
        let policy: Value = serde_json::from_str(answer["Policy"].as_str().unwrap()).unwrap();
        let mut statements = policy["Statement"].as_array().unwrap().clone();
        for statement in &mut statements {
            statement.as_object_mut().unwrap().remove("Sid");
        }
        statements.sort_by_key(|statement| statement["Action"].to_string());
        statements
    }

    /// The settings of the function that this test has an opinion on.
    async fn function(&self) -> Value {
        let told = self
            .ask(&[
                "lambda",
                "get-function-configuration",
                "--function-name",
                "purchasely-clevertap",
            ])
            .await;
        json!({
            "runtime": told["Runtime"],
            "handler": told["Handler"],
            "memory": told["MemorySize"],
            "timeout": told["Timeout"],
            "variables": told["Environment"]["Variables"],
        })
    }

    /// What the function's role may do beyond writing logs.
    async fn role_policy(&self) -> Value {
        let told = self
            .ask(&[
                "lambda",
                "get-function-configuration",
                "--function-name",
                "purchasely-clevertap",
            ])
            .await;
        let role = told["Role"]
            .as_str()
            .unwrap()
            .rsplit('/')
            .next()
            .unwrap()
            .to_owned();
        let attached = self
            .ask(&["iam", "list-attached-role-policies", "--role-name", &role])
            .await;
        assert_eq!(
            attached["AttachedPolicies"][0]["PolicyName"],
            "AWSLambdaBasicExecutionRole"
        );
        let policy = ["--role-name", &role, "--policy-name", "read-secret"];
        let policy = self
            .ask(&[&["iam", "get-role-policy"][..], &policy].concat())
            .await;
        policy["PolicyDocument"]["Statement"].clone()
    }

    async fn secret(&self) -> Value {
        let name = ["--secret-id", "purchasely-clevertap"];
        self.ask(&[&["secretsmanager", "get-secret-value"][..], &name].concat())
            .await
    }

    /// Both permissions without which a Function URL answers 403.
    fn url_permissions(&self) -> Vec<Value> {
        let function = format!(
            "arn:aws:lambda:{}:{AWS_ACCOUNT}:function:purchasely-clevertap",
            self.region
        );
        vec![
            json!({
                "Action": "lambda:InvokeFunction",
                "Effect": "Allow",
                "InvokedViaFunctionUrl": true,
                "Principal": "*",
                "Resource": function,
            }),
            json!({
                "Action": "lambda:InvokeFunctionUrl",
                "Effect": "Allow",
                "FunctionUrlAuthType": "NONE",
                "Principal": "*",
                "Resource": function,
            }),
        ]
    }
}

/// The values of these options.
fn values_of<'w>(words: &[&'w str], options: &[&str]) -> Vec<&'w str> {
    words
        .windows(2)
        .filter(|pair| options.contains(&pair[0]))
        .map(|pair| pair[1])
        .collect()
}

/// Where a program of the system is.
fn found(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").expect("a PATH");
    std::env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .expect(name)
}

/// A section of a document that holds commands, as a script with every command on its line of the document.
struct Section {
    document: String,
    heading: String,
    script: String,
}

/// The first line of every script: where a command fails, and where a recorded one stands.
const PROLOGUE: &str = "set -eu; trap 'export LINE=$LINENO' DEBUG; \
                        trap 'echo \"line $LINENO fails with $?\" >&2' ERR";

fn documents() -> Vec<String> {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec!["README.md".to_owned()];
    for entry in std::fs::read_dir(clone.join("docs")).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "md") {
            let document = path.strip_prefix(clone).unwrap();
            documents.push(document.display().to_string());
        }
    }
    documents
}

/// The sections that hold commands.
fn sections() -> Vec<Section> {
    let mut sections = Vec::new();
    for document in documents() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(&document);
        let text = std::fs::read_to_string(path).unwrap();
        let mut heading = "";
        // Within a block: how far it is indented, if it holds commands.
        let mut block: Option<Option<usize>> = None;
        for (number, line) in text.lines().enumerate() {
            let code = line.trim_start();
            if code.starts_with("```") {
                let indent = line.len() - code.len();
                block = match block {
                    None => Some((code == "```sh").then_some(indent)),
                    Some(_) => None,
                };
                continue;
            }
            let commands = match block {
                Some(Some(indent)) => line.get(indent..).unwrap_or_default().to_owned(),
                Some(None) => continue,
                None => commands_within(line).join("; "),
            };
            if block.is_none() && line.starts_with('#') {
                heading = line.trim_start_matches(['#', ' ']);
            } else if !commands.is_empty() {
                add(&mut sections, &document, heading, number, &commands);
            }
        }
    }
    sections
}

/// The commands of a sentence. One without an option is only named, not told to be run.
fn commands_within(line: &str) -> Vec<&str> {
    let code = line.split('`').skip(1).step_by(2);
    code.filter(|code| {
        let program = code.split(' ').next().unwrap();
        PROGRAMS_KNOWN.contains(&program) && code.contains(" -")
    })
    .collect()
}

/// Adds commands to the script of their section, on the line that they have in the document.
fn add(sections: &mut Vec<Section>, document: &str, heading: &str, number: usize, commands: &str) {
    let is_its = |section: &Section| section.document == document && section.heading == heading;
    if !sections.last().is_some_and(is_its) {
        sections.push(Section {
            document: document.to_owned(),
            heading: heading.to_owned(),
            script: PROLOGUE.to_owned() + "\n",
        });
    }
    let script = &mut sections.last_mut().unwrap().script;
    let lines = script.matches('\n').count();
    *script += &"\n".repeat(number - lines);
    *script += commands;
    script.push('\n');
}

#[track_caller]
fn section(heading: &str) -> Section {
    let mut sections = sections().into_iter();
    let found = sections.find(|section| section.heading == heading);
    found.unwrap_or_else(|| panic!("no section {heading} with commands"))
}

/// The README's YAML block that begins with these words.
fn yaml_block(beginning: &str) -> String {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = std::fs::read_to_string(readme).unwrap();
    let (_, rest) = readme.split_once(&format!("```yaml\n{beginning}")).unwrap();
    format!("{beginning}{}", rest.split("```").next().unwrap())
}

/// What AWS makes of template.yaml.
fn translated() -> &'static Value {
    static TRANSLATED: LazyLock<Value> = LazyLock::new(translate);
    &TRANSLATED
}

fn translate() -> Value {
    let clone = Path::new(env!("CARGO_MANIFEST_DIR"));
    let into = tempfile::NamedTempFile::new().unwrap();
    let output =
        std::process::Command::new(tool("MOTO_SERVER", "moto_server").with_file_name("python"))
            .arg(clone.join("scripts/translate.py"))
            .arg(clone.join("template.yaml"))
            .arg(into.path())
            .env("AWS_DEFAULT_REGION", "eu-west-1")
            .output()
            .expect("python");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&std::fs::read(into.path()).unwrap()).unwrap()
}

/// Those of the ways to deploy that have a test of their own.
const WAYS: [&str; 3] = ["With SAM", "With cargo lambda", "With a release zip"];

#[tokio::test]
async fn the_way_with_sam_ends_with_the_secret_put() {
    let place = Place::new().await;
    place.follow(&section("With SAM")).await;
    let value = &place.secret().await["SecretString"];
    assert_eq!(*value, secret_value("passcode", "shared secret"));
    assert!(!place.folder.path().join("secret.json").exists());
}

#[tokio::test]
async fn the_way_with_cargo_lambda_makes_a_function_that_everyone_may_call_by_its_url() {
    let place = Place::new().await;
    place.follow(&section("With cargo lambda")).await;
    let expected = json!({
        "runtime": "provided.al2023",
        "handler": "bootstrap",
        "memory": 256,
        "timeout": 9,
        "variables": {
            "CLEVERTAP_REGION": "in1",
            "CLEVERTAP_ACCOUNT_ID": "ABC-DEF-GHIJ",
            "SECRET_ID": "purchasely-clevertap",
            "EVENT_NAMES": "TRIAL_STARTED=Trial Started;TRIAL_CONVERTED=Trial Converted",
        },
    });
    assert_eq!(place.function().await, expected);
    assert_eq!(place.function_policy().await, place.url_permissions());
    assert_eq!(
        place.role_policy().await,
        json!([{
            "Effect": "Allow",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": place.secret().await["ARN"],
        }])
    );
    // The permissions that the README tells are the ones that cargo lambda gives.
    let by_hand = Place::new().await;
    by_hand.follow(&section("The URL's permissions")).await;
    assert_eq!(by_hand.function_policy().await, by_hand.url_permissions());
}

#[tokio::test]
async fn the_way_with_a_release_zip_makes_a_function_of_this_zip() {
    let place = Place::new().await;
    place.follow(&section("With a release zip")).await;
    let expected = json!({
        "runtime": "provided.al2023",
        "handler": "bootstrap",
        "memory": 256,
        "timeout": 9,
        "variables": {
            "CLEVERTAP_REGION": "in1",
            "CLEVERTAP_ACCOUNT_ID": "ABC-DEF-GHIJ",
            "SECRET_ID": "purchasely-clevertap",
        },
    });
    assert_eq!(place.function().await, expected);
    assert_eq!(
        place.role_policy().await,
        json!([{
            "Effect": "Allow",
            "Action": "secretsmanager:GetSecretValue",
            "Resource": place.secret().await["ARN"],
        }])
    );
    let configuration = [
        "get-function-url-config",
        "--function-name",
        "purchasely-clevertap",
    ];
    let url = place.ask(&[&["lambda"][..], &configuration].concat()).await;
    assert_eq!(url["AuthType"], "NONE");

    // The template beside the zip uploads this zip, for the architecture that it was built for.
    place.ask(&["s3", "mb", "s3://the-code"]).await;
    let package = place
        .ask(&[
            "cloudformation",
            "package",
            "--template-file",
            "target/package/template-arm64.yaml",
            "--s3-bucket",
            "the-code",
            "--use-json",
            "--output-template-file",
            "packaged.json",
        ])
        .await;
    assert_eq!(package, Value::Null);
    let packaged = std::fs::read(place.folder.path().join("packaged.json")).unwrap();
    let packaged: Value = serde_json::from_slice(&packaged).unwrap();
    let code = packaged["Resources"]["Function"]["Properties"]["CodeUri"].as_str();
    place
        .ask(&["s3", "cp", code.unwrap(), "uploaded.zip"])
        .await;
    let read = |file| std::fs::read(place.folder.path().join(file)).unwrap();
    assert_eq!(
        read("uploaded.zip"),
        read("target/package/purchasely-clevertap-arm64.zip")
    );
    let architecture = &packaged["Parameters"]["Architecture"];
    assert_eq!(architecture["Default"], "arm64");
    assert_eq!(architecture["AllowedValues"], json!(["arm64"]));
}

// What stands in for the function's address answers while another script is being checked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_other_command_of_the_documents_runs_or_names_what_exists() {
    let others: Vec<_> = sections()
        .into_iter()
        .filter(|section| !WAYS.contains(&&*section.heading))
        .collect();
    assert!(others.len() > 5, "the sections were found");
    // Each is mostly programs that start, so more at a time would only have each wait for the others.
    stream::iter(others)
        .for_each_concurrent(3, |section| async move {
            Place::new().await.follow(&section).await;
        })
        .await;
}

#[test]
fn aws_makes_of_the_template_one_route_to_the_function() {
    let template = translated();
    let resources = template["Resources"].as_object().unwrap();
    let of_type = |wanted: &str| -> Vec<_> {
        let all = resources.iter();
        all.filter(|(_, resource)| resource["Type"] == wanted)
            .map(|(name, resource)| (name.as_str(), &resource["Properties"]))
            .collect()
    };

    let [(_, function)] = of_type("AWS::Lambda::Function")[..] else {
        panic!("one function");
    };
    for (property, value) in [
        ("Runtime", json!("provided.al2023")),
        ("Handler", json!("bootstrap")),
        ("Timeout", json!(9)),
        ("Architectures", json!([{ "Ref": "Architecture" }])),
        ("TracingConfig", json!({ "Mode": "Active" })),
        ("Role", json!({ "Fn::GetAtt": ["FunctionRole", "Arn"] })),
    ] {
        assert_eq!(function[property], value, "{property}");
    }
    assert_eq!(function["LoggingConfig"]["LogFormat"], "JSON");

    let [(_, api)] = of_type("AWS::ApiGatewayV2::Api")[..] else {
        panic!("one API");
    };
    let invoked = "arn:${AWS::Partition}:apigateway:${AWS::Region}:lambda:path/2015-03-31/functions/\
                   ${Function.Arn}/invocations";
    let post = json!({
        "x-amazon-apigateway-integration": {
            "payloadFormatVersion": "2.0",
            "type": "aws_proxy",
            "uri": { "Fn::Sub": invoked },
            "httpMethod": "POST",
            "timeoutInMillis": 9500,
        },
        "responses": {},
    });
    assert_eq!(
        api["Body"]["paths"],
        json!({ "/webhooks/purchasely": { "post": post } })
    );

    let [(_, stage)] = of_type("AWS::ApiGatewayV2::Stage")[..] else {
        panic!("one stage");
    };
    assert_eq!(stage["StageName"], "$default");
    assert_eq!(stage["AutoDeploy"], true);
    let throttling = json!({
        "ThrottlingRateLimit": { "Ref": "ThrottlingRate" },
        "ThrottlingBurstLimit": { "Ref": "ThrottlingBurst" },
    });
    assert_eq!(stage["DefaultRouteSettings"], throttling);

    let source = "arn:${AWS::Partition}:execute-api:${AWS::Region}:${AWS::AccountId}:${__ApiId__}/${__Stage__}/POST\
                  /webhooks/purchasely";
    let source = json!([source, { "__ApiId__": { "Ref": "Api" }, "__Stage__": "*" }]);
    let permission = json!({
        "Action": "lambda:InvokeFunction",
        "FunctionName": { "Ref": "Function" },
        "Principal": "apigateway.amazonaws.com",
        "SourceArn": { "Fn::Sub": source },
    });
    let permissions = of_type("AWS::Lambda::Permission");
    assert_eq!(permissions, [("FunctionWebhookPermission", &permission)]);

    let roles: Vec<_> = of_type("AWS::IAM::Role")
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(roles, ["FunctionRole"]);
}

/// Moto knows neither secrets nor HTTP APIs as resources of a stack, and leaves them out.
#[tokio::test]
async fn the_stack_stands_and_the_commands_that_it_tells_run() {
    let place = Place::new().await;
    let secret = ["--name", "existing", "--secret-string", "{}"];
    let secret = place
        .ask(&[&["secretsmanager", "create-secret"][..], &secret].concat())
        .await;
    let secret = secret["ARN"].as_str().unwrap();
    place.ask(&["s3", "mb", "s3://code"]).await;
    place.run("the code", "make package ARCH=arm64").await;
    let package = "target/package/purchasely-clevertap-arm64.zip";
    place
        .ask(&["s3", "cp", package, "s3://code/bootstrap.zip"])
        .await;

    let mut template = translated().clone();
    for (name, resource) in template["Resources"].as_object_mut().unwrap() {
        // CloudFormation ends the names of FIFO queues as SQS demands it; moto does not.
        if resource["Type"] == "AWS::SQS::Queue" {
            resource["Properties"]["QueueName"] = json!(format!("{name}.fifo"));
        }
    }
    std::fs::write(place.folder.path().join("stack.json"), template.to_string()).unwrap();
    let parameter = |name, value| format!("ParameterKey={name},ParameterValue={value}");
    place
        .ask(&[
            "cloudformation",
            "create-stack",
            "--stack-name",
            "relay",
            "--template-body",
            "file://stack.json",
            "--capabilities",
            "CAPABILITY_IAM",
            "--parameters",
            &parameter("ClevertapRegion", "in1"),
            &parameter("ClevertapAccountId", "ABC-DEF-GHIJ"),
            &parameter("RevenueEvent", "none"),
            &parameter("SecretArn", secret),
            // Moto makes no alarm of a template.
            &parameter("Monitoring", "false"),
        ])
        .await;
    let told = place
        .ask(&["cloudformation", "describe-stacks", "--stack-name", "relay"])
        .await;
    let stack = &told["Stacks"][0];
    assert_eq!(stack["StackStatus"], "CREATE_COMPLETE");
    let output = |name: &str| {
        let outputs = stack["Outputs"].as_array().unwrap();
        let output = outputs.iter().find(|output| output["OutputKey"] == name);
        output.unwrap_or_else(|| panic!("no output {name}"))["OutputValue"].clone()
    };

    let functions = place.ask(&["lambda", "list-functions"]).await;
    let variables = &functions["Functions"][0]["Environment"]["Variables"];
    assert_eq!(variables["SECRET_ID"], secret);
    assert_eq!(variables["CLEVERTAP_REGION"], "in1");
    assert_eq!(variables["EVENT_QUEUE_URL"], output("EventQueueUrl"));
    assert_eq!(
        variables["DEAD_LETTER_QUEUE_URL"],
        output("DeadLetterQueueUrl")
    );
    let table = variables["DEDUPLICATION_TABLE"].as_str().unwrap();
    place
        .ask(&["dynamodb", "describe-table", "--table-name", table])
        .await;
    let mappings = place.ask(&["lambda", "list-event-source-mappings"]).await;
    let source = mappings["EventSourceMappings"][0]["EventSourceArn"].as_str();
    assert!(source.unwrap().ends_with(":EventQueue.fifo"));

    let mut script = String::from("set -eu\n");
    for told in stack["Outputs"].as_array().unwrap() {
        if told["OutputKey"].as_str().unwrap().ends_with("Command") {
            // This one would go on for ever.
            script += &told["OutputValue"]
                .as_str()
                .unwrap()
                .replace(" --follow", "");
            script.push('\n');
        }
    }
    assert!(script.lines().count() > 4, "{script}");
    place.run("the stack's outputs", &script).await;
    let put = place
        .ask(&["secretsmanager", "get-secret-value", "--secret-id", secret])
        .await;
    assert_eq!(
        put["SecretString"],
        secret_value("passcode", "shared secret")
    );
}
