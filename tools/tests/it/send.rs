//! `cargo relay send` against an endpoint of its own.

use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
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
    // The name is never resolved by anyone, so nothing is sent anywhere.
    let command = tool::relay("send events/TRIAL_STARTED.json --to https://relay.invalid/", &[]);
    let sent = tool::finish_on_a_terminal(command, &[("(not shown): ", "typed-secret\n")]).await;
    let prompt = "Client shared secret in Purchasely's console (not shown):";
    assert_eq!((sent.stderr.trim_end(), sent.code), (prompt, Some(1)));
    assert!(sent.stdout.contains("no answer"), "{}", sent.stdout);
}

#[tokio::test]
async fn the_event_of_api_gateway_is_printed_instead() {
    let sample = "events/TRIAL_STARTED.json";
    let printed = tool::run(&format!("send {sample} --envelope http-api --json"), &[]).await;
    let event: Value = serde_json::from_str(&printed.stdout).unwrap();
    let body = std::fs::read_to_string(testkit::process::repository().join(sample)).unwrap();
    assert_eq!((&event["version"], &event["body"]), (&json!("2.0"), &json!(body)));
}
