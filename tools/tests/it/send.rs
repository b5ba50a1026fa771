//! `cargo relay send` against an endpoint of its own.

use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::harness::body;
use testkit::sockets::Server;
use testkit::tool;
use testkit::webhook::{SAMPLE_SHARED_SECRET, Webhook};
use testkit::world::Ending;

const SIGNED_AT: u64 = 1_772_439_330;
const SHARED_SECRET: &str = "PURCHASELY_SHARED_SECRET";

fn signed_headers(secret: &str) -> [(&'static str, String); 3] {
    let webhook = Webhook::new(body(), secret, SIGNED_AT);
    webhook.headers().map(|(name, value)| (name, value.to_owned()))
}

#[tokio::test]
async fn each_webhook_in_files_is_signed_and_posted_even_after_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let (one, lines) = (path("one.json"), path("lines.ndjson"));
    std::fs::write(&one, body()).unwrap();
    std::fs::write(&lines, [&body()[..], b"\n", &body()].concat()).unwrap();
    let sources = [one.clone(), format!("{lines}, line 1"), format!("{lines}, line 2")];
    let own_secret: &[(&str, &str)] = &[(SHARED_SECRET, "a-real-secret")];
    for (variables, secret, status, code) in [
        (&[][..], SAMPLE_SHARED_SECRET, 200, 0),
        (own_secret, "a-real-secret", 200, 0),
        (&[], SAMPLE_SHARED_SECRET, 503, 1),
    ] {
        let received = Arc::new(Mutex::new(Vec::new()));
        let list = Arc::clone(&received);
        let names = signed_headers(secret).map(|(name, _)| name);
        let answer = move |request: testkit::hyper::Request<_>| {
            let header = |name| request.headers()[name].to_str().unwrap().to_owned();
            assert_eq!(header("x-not-forwarded"), "true", "the backend has it already");
            list.lock().unwrap().push(names.map(header));
            std::future::ready(Ending::answer(status, "application/json", "{}"))
        };
        let url = Server::start(answer).await.url;
        let arguments = format!("send {one} {lines} --to {url} --at {SIGNED_AT}");
        let sent = tool::run(&arguments, variables).await;
        let expected = sources.each_ref().map(|file| format!("{status}  {file}  {{}}\n"));
        assert_eq!((sent.code, sent.stdout), (Some(code), expected.concat()));
        let sent = tool::run(&(arguments + " --json"), variables).await;
        let lines = sent.stdout.lines().map(|line| serde_json::from_str(line).unwrap());
        let answer = |file| json!({ "file": file, "status": status, "answer": "{}" });
        assert_eq!(lines.collect::<Vec<Value>>(), sources.each_ref().map(answer));
        let expected = vec![signed_headers(secret).map(|(_, value)| value); 6];
        assert_eq!(*received.lock().unwrap(), expected);
    }
}

#[tokio::test]
async fn nothing_is_sent_without_a_secret_or_unencrypted_or_if_a_file_is_missing() {
    let sample = "events/TRIAL_STARTED.json";
    let secret = (SHARED_SECRET, "s");
    for (arguments, variables, error) in [
        (
            "--to https://relay.example.com/",
            &[][..],
            "PURCHASELY_SHARED_SECRET is not set; set it to the client shared secret",
        ),
        (
            "--to http://localhost:1/ --secret s",
            &[secret],
            "unexpected argument '--secret'",
        ),
        ("--to http://relay.example.com/", &[secret], "must be https"),
        ("--to http://localhost.example.com/", &[secret], "must be https"),
        ("/missing.json --to http://localhost:1/", &[], "error: /missing.json: "),
    ] {
        let sent = tool::run(&format!("send {sample} {arguments}"), variables).await;
        sent.check_unusable(error);
    }
}

#[tokio::test]
async fn a_terminal_is_asked_for_the_secret_of_another_machine_and_does_not_show_it() {
    let pty = nix::pty::openpty(None, None).unwrap();
    let terminal = || Stdio::from(pty.slave.try_clone().unwrap());
    // The name is never resolved by anyone, so nothing is sent anywhere.
    let mut command =
        tool::relay("send events/TRIAL_STARTED.json --to https://relay.invalid/", &[]);
    command.stdin(terminal()).stderr(terminal()).stdout(Stdio::piped());
    let relay = command.spawn().unwrap();
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
        String::from_utf8(shown).unwrap()
    });
    let output = relay.wait_with_output().await.unwrap();
    let shown = shown.await.unwrap();
    let prompt = "Client shared secret in Purchasely's console (not shown):";
    assert_eq!((shown.trim_end(), output.status.code()), (prompt, Some(1)));
    assert!(String::from_utf8(output.stdout).unwrap().contains("no answer"));
}

#[tokio::test]
async fn the_event_of_api_gateway_is_printed_instead() {
    let sample = "events/TRIAL_STARTED.json";
    let printed = tool::run(&format!("send {sample} --envelope http-api --json"), &[]).await;
    let event: Value = serde_json::from_str(&printed.stdout).unwrap();
    let body = std::fs::read_to_string(testkit::process::repository().join(sample)).unwrap();
    assert_eq!((&event["version"], &event["body"]), (&json!("2.0"), &json!(body)));
}
