//! `cargo relay demo` as a newcomer runs it, and `cargo relay send` against endpoints of its own.

use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::harness::body;
use testkit::lambda::{Function, RuntimeApi};
use testkit::process::{built, repository};
use testkit::sockets::Server;
use testkit::tool;
use testkit::webhook::{SAMPLE_SHARED_SECRET, Webhook};
use testkit::world::Ending;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

const SIGNED_AT: u64 = 1_772_439_330;
const SHARED_SECRET: &str = "PURCHASELY_SHARED_SECRET";

fn samples() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(repository().join("events")).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.is_file());
    paths
}

/// A record of the committed upload of a sample.
fn golden(sample: &str, number: usize) -> Value {
    let path = repository().join("tests/golden").join(sample);
    let upload: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    upload["d"][number].clone()
}

#[tokio::test]
async fn demo_relays_every_sample_and_shows_one_record_of_each_kind() {
    for delivery in ["direct", "queue"] {
        check_demo(delivery).await;
    }
}

async fn check_demo(delivery: &str) {
    let finished = tool::run(&format!("demo --delivery {delivery}"), &[]).await;
    let (stdout, stderr) = (finished.stdout, finished.stderr);
    assert_eq!(finished.code, Some(0), "{stdout}\n{stderr}");

    for sample in samples() {
        let name = sample.file_name().unwrap().to_str().unwrap();
        let is_it = |line: &str| line.starts_with("200  ") && line.contains(&format!(" {name} "));
        let lines: Vec<&str> = stdout.lines().filter(|line| is_it(line)).collect();
        assert_eq!(lines.len(), 1, "{name} in\n{stdout}");
        assert!(lines[0].contains(" event ("), "{}", lines[0]);
    }
    let paragraphs: Vec<&str> = stdout.trim_end().split("\n\n").collect();
    let [.., profile, event, revenue, summary] = paragraphs.as_slice() else {
        panic!("{stdout}");
    };
    let records =
        [profile, event, revenue].map(|json| serde_json::from_str::<Value>(json).unwrap());
    let expected = [
        golden("TRIAL_STARTED.json", 0),
        golden("TRIAL_STARTED.json", 1),
        golden("TRANSACTION_PROCESSED.json", 1),
    ];
    assert_eq!(records, expected);
    let sent = format!("{} webhooks sent", samples().len());
    assert!(summary.starts_with(&sent), "{summary}");
}

#[tokio::test]
async fn send_signs_with_the_sample_secret_for_this_machine() {
    let (url, received) = endpoint(200).await;
    let file = body_file();
    let path = file.path().to_str().unwrap();
    let output = send(&[path, "--to", &url, "--at", &SIGNED_AT.to_string()], None).await;
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text(&output.stdout), format!("200  {path}  {{\"status\":\"relayed\"}}\n"));
    assert_eq!(*received.lock().unwrap(), [signed_with(SAMPLE_SHARED_SECRET)]);
}

#[tokio::test]
async fn send_signs_with_the_secret_of_the_environment() {
    let (url, received) = endpoint(200).await;
    let file = body_file();
    let path = file.path().to_str().unwrap();
    let arguments = [path, "--to", &url, "--at", &SIGNED_AT.to_string(), "--json"];
    let output = send(&arguments, Some("a-real-secret")).await;
    let answer = json!({ "file": path, "status": 200, "answer": r#"{"status":"relayed"}"# });
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), answer);
    assert_eq!(*received.lock().unwrap(), [signed_with("a-real-secret")]);
}

#[tokio::test]
async fn send_needs_a_secret_for_another_machine() {
    let file = body_file();
    let path = file.path().to_str().unwrap();
    let output = send(&[path, "--to", "https://relay.example.com/"], None).await;
    assert_eq!(output.status.code(), Some(2));
    let error = format!(
        "error: {SHARED_SECRET} is not set; set it to the client shared secret in Purchasely's console\n"
    );
    assert_eq!(text(&output.stderr), error);
}

#[tokio::test]
async fn send_asks_on_a_terminal_for_the_secret_of_another_machine_and_does_not_show_it() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
    let file = body_file();
    let path = file.path().to_str().unwrap();
    // The name is never resolved by anyone, so nothing is sent anywhere.
    let mut command = Command::new(built("examples/relay"));
    command
        .args(["send", path, "--to", "https://relay.invalid/"])
        .env_remove(SHARED_SECRET);
    command.stdin(terminal()).stderr(terminal()).stdout(Stdio::piped());
    let relay = command.kill_on_drop(true).spawn().unwrap();
    drop((command, pty.slave));
    let mut master = std::fs::File::from(pty.master);
    let shown = tokio::task::spawn_blocking(move || {
        let (mut shown, mut buffer) = (Vec::new(), [0; 256]);
        while !shown.ends_with(b"\n") {
            let length = master.read(&mut buffer).unwrap();
            shown.extend_from_slice(&buffer[..length]);
            if shown.ends_with(b"(not shown): ") {
                // What is typed before the echo is off is shown, or discarded with the change.
                while tcgetattr(&master).unwrap().local_flags.contains(LocalFlags::ECHO) {
                    std::thread::sleep(Duration::from_millis(5));
                }
                master.write_all(b"typed-secret\n").unwrap();
            }
        }
        text(&shown)
    });
    let output = relay.wait_with_output().await.unwrap();
    let shown = shown.await.unwrap();
    let prompt = "Client shared secret in Purchasely's console (not shown): ";
    assert_eq!(shown.trim_end(), prompt.trim_end());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("no answer"), "{}", text(&output.stdout));
}

#[tokio::test]
async fn send_takes_no_secret_as_an_argument_and_sends_nothing_unencrypted_to_another_machine() {
    let file = body_file();
    let path = file.path().to_str().unwrap();
    let to_itself = ["--to", "http://localhost:1/"];
    for (arguments, error) in [
        ([&to_itself[..], &["--secret", "s"]].concat(), "unexpected argument '--secret'"),
        (vec!["--to", "http://relay.example.com/"], "must be https"),
        (vec!["--to", "http://localhost.example.com/"], "must be https"),
    ] {
        let output = send(&[&[path], &arguments[..]].concat(), Some("s")).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(error), "{}", text(&output.stderr));
    }
}

#[tokio::test]
async fn dev_names_the_settings_with_which_the_signed_samples_are_relayed() {
    let mut relay = Command::new(built("examples/relay"));
    relay.args(["dev", "--no-function", "--clevertap-port", "0", "--secrets-manager-port", "0"]);
    relay.args(["--page-port", "0", "--function-port", "0"]);
    let mut relay = relay.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(relay.stdout.take().unwrap()).lines();
    let mut settings = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(setting) = line.strip_prefix("export ") {
            let (name, value) = setting.split_once('=').unwrap();
            settings.push((name.to_owned(), value.trim_matches('\'').to_owned()));
        } else if line.contains("Ctrl-C") {
            break;
        }
    }
    let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let api = RuntimeApi::start().await;
    let _function = Function::spawn(built("purchasely-clevertap"), &api, &settings);
    api.wait_until_ready().await;
    for entry in std::fs::read_dir(repository().join("events/api-gateway")).unwrap() {
        let path = entry.unwrap().path();
        let answer = api.invoke(std::fs::read_to_string(&path).unwrap()).await.unwrap();
        assert_eq!(answer["statusCode"], 200, "{}: {answer}", path.display());
    }
}

#[tokio::test]
async fn send_posts_the_rest_after_a_failure() {
    let (url, received) = endpoint(503).await;
    let file = body_file();
    let path = file.path().to_str().unwrap();
    let output = send(&[path, path, "--to", &url], None).await;
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(received.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn send_posts_nothing_if_a_file_is_missing() {
    let (url, received) = endpoint(200).await;
    let file = body_file();
    let output = send(&[file.path().to_str().unwrap(), "/missing.json", "--to", &url], None).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("error: /missing.json: "));
    assert_eq!(received.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn send_prints_the_event_of_api_gateway() {
    let file = body_file();
    let path = file.path().to_str().unwrap();
    let output = send(&[path, "--envelope", "http-api", "--json"], None).await;
    let event: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(event["version"], "2.0");
    assert_eq!(event["body"], text(&body()));
}

/// An endpoint that answers with this status, and the signatures and timestamps that it received.
async fn endpoint(status: u16) -> (String, Arc<Mutex<Vec<Vec<String>>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let list = Arc::clone(&received);
    let names = signed_headers(SAMPLE_SHARED_SECRET).map(|(name, _)| name);
    let answer = move |request: testkit::hyper::Request<_>| {
        let header = |name| request.headers()[name].to_str().unwrap().to_owned();
        list.lock().unwrap().push(names.map(header).to_vec());
        let ending = Ending::answer(status, "application/json", r#"{"status":"relayed"}"#);
        std::future::ready(ending)
    };
    (Server::start(answer).await.url, received)
}

fn signed_with(secret: &str) -> Vec<String> {
    signed_headers(secret).map(|(_, value)| value).to_vec()
}

fn signed_headers(secret: &str) -> [(&'static str, String); 3] {
    let webhook = Webhook::new(body(), secret, SIGNED_AT);
    webhook.headers().map(|(name, value)| (name, value.to_owned()))
}

async fn send(arguments: &[&str], secret: Option<&str>) -> Output {
    let mut relay = Command::new(built("examples/relay"));
    relay.arg("send").args(arguments).env_remove(SHARED_SECRET);
    if let Some(secret) = secret {
        relay.env(SHARED_SECRET, secret);
    }
    relay.output().await.unwrap()
}

fn body_file() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), body()).unwrap();
    file
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
