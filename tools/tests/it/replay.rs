//! `cargo relay replay`: what reaches the function or its queue, in which order, and what a later run sends.

use crate::tool::{self, Finished};
use bytes::Bytes;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use purchasely_clevertap::aws::queues::group_id;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use testkit::connections::{Connections, Ending};
use testkit::harness::{SHARED_SECRET, World, listen, signed};
use testkit::hyper::Request;
use testkit::moto::Resources;
use testkit::webhook::Front;

const VARIABLES: [(&str, &str); 4] = [
    ("AWS_REGION", "eu-west-1"),
    ("PURCHASELY_SHARED_SECRET", SHARED_SECRET),
    ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "not-a-secret"),
];

/// A folder with `saved.ndjson`.
struct Folder(TempDir);

impl Folder {
    fn new(content: &str) -> Self {
        let folder = Self(TempDir::new().unwrap());
        folder.write("saved.ndjson", content);
        folder
    }

    fn of(events: &[Value]) -> Self {
        let lines = events.iter().map(|event| format!("{event}\n"));
        Self::new(&lines.collect::<String>())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path(name), content).unwrap();
    }

    /// The content of the state file.
    fn state(&self) -> String {
        std::fs::read_to_string(self.path("saved.ndjson.replay")).unwrap_or_default()
    }

    async fn replay(&self, to: &str, options: &str) -> Finished {
        let saved = self.path("saved.ndjson");
        let arguments = format!("replay {} --to {to} --json {options}", saved.display());
        tool::run(&arguments, &VARIABLES).await
    }

    /// Replays and checks the exit code and the outcomes; returns the reason why the run ended.
    async fn check(&self, to: &str, options: &str, code: i32, outcomes: Value) -> Value {
        let replayed = self.replay(to, &format!("--rate 1000 {options}")).await;
        let summary: Value = serde_json::from_str(&replayed.stdout).expect(&replayed.stderr);
        let found = (replayed.code, &summary["outcomes"]);
        assert_eq!(found, (Some(code), &outcomes), "{}", replayed.stderr);
        summary["why"].clone()
    }

    /// Lists the order of these files with `--dry-run`.
    async fn list(&self, names: &[&str]) -> Finished {
        let paths = names.iter().map(|name| self.path(name).display().to_string());
        let paths = paths.collect::<Vec<_>>().join(" ");
        tool::run(&format!("replay --dry-run --json {paths}"), &[]).await
    }
}

/// An event, `at` milliseconds after the first.
fn event(id: &str, user: &str, at: u64) -> Value {
    let created_at_ms = 1_772_439_330_250 + at;
    json!({
        "event_name": "SUBSCRIPTION_RENEWED", "event_id": id, "event_created_at_ms": created_at_ms,
        "user_id": user, "plan": "yearly",
    })
}

/// An HTTP API in front of the function.
async fn function_url(world: &World) -> String {
    let (listener, url) = listen().await;
    let api = world.api.clone();
    let handle = move |request: Request<Bytes>| {
        let api = api.clone();
        async move {
            let (head, body) = request.into_parts();
            let mut event = signed(&body, "replaced").envelope(Front::HttpApi);
            for (name, value) in &head.headers {
                event["headers"][name.as_str()] = value.to_str().unwrap().into();
            }
            let answer = api.invoke(event).await.expect("an answer");
            let status = answer["statusCode"].as_u64().unwrap();
            let body = answer["body"].as_str().unwrap().to_owned();
            Ending::answer(u16::try_from(status).unwrap(), "application/json", body)
        }
    };
    tokio::spawn(async move { Connections::new().serve_listener(listener, handle).await });
    url
}

/// The ids of the events that CleverTap received, and the number of profiles.
fn uploaded(world: &World) -> (Vec<String>, usize) {
    let (mut ids, mut profiles) = (Vec::new(), 0);
    for upload in world.clevertap.uploads() {
        let upload: Value = serde_json::from_slice(&upload.body).unwrap();
        for record in upload["d"].as_array().unwrap() {
            match record["evtData"]["event_id"].as_str() {
                Some(id) => ids.push(id.to_owned()),
                None => profiles += 1,
            }
        }
    }
    (ids, profiles)
}

#[tokio::test]
async fn the_function_relays_saved_events_in_order_once_and_without_profiles() {
    let world = World::start(&[]).await;
    let url = function_url(&world).await;
    let mut tested = event("sandbox", "u", 2);
    tested["environment"] = json!("SANDBOX");
    let copy = event("later", "u", 3);
    let folder = Folder::of(&[copy.clone(), event("first", "u", 1), tested, copy]);
    let outcomes = json!({ "relayed": 2, "ignored (sandbox)": 1, "skipped": 1 });
    folder.check(&url, "", 0, outcomes.clone()).await;
    let ids = ["first", "later"].map(str::to_owned).to_vec();
    assert_eq!(uploaded(&world), (ids, 0));

    folder.check(&url, "", 0, json!({ "skipped": 4 })).await;
    assert_eq!(world.clevertap.uploads().len(), 2);
    let again = "--restart --profiles";
    folder.check(&url, again, 0, outcomes).await;
    assert_eq!(uploaded(&world).1, 2);
}

#[tokio::test]
async fn the_function_relays_what_replay_writes_to_its_queue() {
    let resources = Resources::make().await;
    // The testkit reads this one; both are FIFO queues.
    let queue = &resources.dead_letter_queue_url;
    let mut odd = event("e-2", "u", 1);
    // U+FFFE is not a character of XML, which SQS requires.
    odd["text"] = json!("\u{fffe}");
    let saved = [event("e-1", "u", 0), odd];
    let folder = Folder::of(&saved);
    folder.check(queue, "", 0, json!({ "queued": 2 })).await;
    let mut messages = resources.letters().await;
    assert_eq!(messages[0]["body"], saved[0].to_string());
    assert_eq!(messages[0]["group"], group_id(b"u"));
    assert_eq!(messages[0]["attributes"], json!({ "replayed": "true" }));
    let odd = json!({ "encoding": "base64", "replayed": "true" });
    assert_eq!(messages[1]["attributes"], odd);
    let newer = Folder::of(&[event("e-3", "u", 2)]);
    let outcomes = json!({ "queued": 1 });
    newer.check(queue, "--profiles", 0, outcomes).await;
    messages.extend(resources.letters().await);

    let records = messages.iter().enumerate().map(|(number, message)| {
        let mut attributes = message["attributes"].clone();
        for value in attributes.as_object_mut().unwrap().values_mut() {
            *value = json!({ "stringValue": value, "dataType": "String" });
        }
        json!({
            "messageId": number.to_string(), "receiptHandle": "handle", "body": message["body"],
            "attributes": { "ApproximateReceiveCount": "1", "MessageGroupId": message["group"] },
            "messageAttributes": attributes, "eventSource": "aws:sqs",
        })
    });
    let batch = json!({ "Records": records.collect::<Vec<_>>() });
    let world = World::start(&[]).await;
    let answer = world.api.invoke(batch).await.unwrap();
    assert_eq!(answer["batchItemFailures"], json!([]));
    let ids = ["e-1", "e-2", "e-3"].map(str::to_owned).to_vec();
    assert_eq!(uploaded(&world), (ids, 1));
}

/// A receiver that answers by a script and remembers the bodies.
struct Receiver {
    url: String,
    received: Arc<Mutex<Vec<Value>>>,
}

impl Receiver {
    /// The script gets the body and how often it came before; it returns a status and a body, or closes.
    async fn start(
        script: impl Fn(&Value, usize) -> Option<(u16, &'static str)> + Send + Sync + 'static,
    ) -> Self {
        let (listener, url) = listen().await;
        let received = Arc::<Mutex<Vec<Value>>>::default();
        let (bodies, script) = (Arc::clone(&received), Arc::new(script));
        let handle = move |request: Request<Bytes>| {
            let body: Value = serde_json::from_slice(request.body()).unwrap();
            let mut bodies = bodies.lock().unwrap();
            let before = bodies.iter().filter(|other| **other == body).count();
            let answer = script(&body, before);
            bodies.push(body);
            let answer = answer.map(|(status, body)| Ending::answer(status, "text/plain", body));
            async { answer.unwrap_or(Ending::Close) }
        };
        tokio::spawn(async move { Connections::new().serve_listener(listener, handle).await });
        Self { url, received }
    }

    fn queue(&self) -> String {
        format!("{}/123456789012/events.fifo", self.url)
    }

    fn ids(&self) -> Vec<String> {
        let received = self.received.lock().unwrap();
        let id = |body: &Value| body["event_id"].as_str().unwrap().to_owned();
        received.iter().map(id).collect()
    }
}

const RELAYED: Option<(u16, &str)> = Some((200, r#"{"status":"relayed"}"#));
const UNAVAILABLE: Option<(u16, &str)> = Some((503, r#"{"error":"unavailable"}"#));

#[tokio::test]
async fn a_failed_event_blocks_later_events_of_its_user_until_a_run_delivers_it() {
    let receiver = Receiver::start(|event, before| match event["event_id"].as_str().unwrap() {
        "b-1" if before == 0 => UNAVAILABLE,
        "c-1" if before < 2 => UNAVAILABLE,
        "d-1" => Some((413, r#"{"error":"payload_too_large"}"#)),
        _ => RELAYED,
    })
    .await;
    let ids = ["a-1", "b-1", "c-1", "c-2", "b-2", "d-1", "nobody's", "a-1"];
    let mut saved = ids.map(|id| event(id, &id[..1], 0));
    saved[6]["user_id"] = Value::Null;
    let folder = Folder::of(&saved);
    let url = &receiver.url;
    let outcomes = json!({
        "relayed": 4, "skipped": 1, "failed (503)": 1, "failed (413)": 1, "blocked": 1,
    });
    folder.check(url, "--retries 1", 1, outcomes).await;
    #[rustfmt::skip]
    let first_run = ["a-1", "b-1", "b-1", "c-1", "c-1", "b-2", "d-1", "nobody's"];
    assert_eq!(receiver.ids(), first_run);

    let outcomes = json!({ "relayed": 2, "skipped": 5, "failed (413)": 1 });
    folder.check(url, "", 1, outcomes).await;
    assert_eq!(receiver.ids()[first_run.len()..], ["c-1", "c-2", "d-1"]);
}

#[tokio::test]
async fn an_interrupted_run_ends_after_the_current_event_and_a_later_one_continues() {
    let tool = Arc::new(AtomicI32::new(0));
    let interrupted = Arc::clone(&tool);
    let receiver = Receiver::start(move |event, _| {
        if event["event_id"] == "2" {
            let tool = Pid::from_raw(interrupted.load(Ordering::SeqCst));
            kill(tool, Signal::SIGINT).unwrap();
        }
        RELAYED
    })
    .await;
    let folder = Folder::of(&["1", "2", "3"].map(|id| event(id, "u", 0)));
    let saved = folder.path("saved.ndjson");
    // The rate leaves two seconds between the signal and the next event.
    let arguments = format!("replay {} --to {} --rate 0.5", saved.display(), receiver.url);
    let mut command = tool::relay(&arguments, &VARIABLES);
    command.stdout(Stdio::piped()).stderr(Stdio::null());
    let child = command.spawn().unwrap();
    let id = i32::try_from(child.id().unwrap()).unwrap();
    tool.store(id, Ordering::SeqCst);
    let output = child.wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(130));
    let table = String::from_utf8(output.stdout).unwrap();
    let words: Vec<_> = table.split_whitespace().collect();
    assert_eq!(words, ["not_sent", "1", "relayed", "2", "all", "3"]);

    let outcomes = json!({ "relayed": 1, "skipped": 2 });
    folder.check(&receiver.url, "", 0, outcomes).await;
    assert_eq!(receiver.ids(), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_run_ends_when_no_further_event_can_be_delivered() {
    #[rustfmt::skip]
    let cases = [
        (Some((401, r#"{"error":"unauthorized"}"#)), "failed (401)", 1),
        (Some((200, "<html>")), "failed (200)", 1),
        (Some((403, r#"{"__type":"com.amazonaws.sqs#AccessDenied"}"#)), "failed (AccessDenied)", 1),
        (None, "failed (no answer)", 10),
    ];
    for (answer, outcome, failed) in cases {
        let receiver = Receiver::start(move |_, _| answer).await;
        let url = if outcome.contains("Access") { receiver.queue() } else { receiver.url };
        let users = (0..12).map(|n| n.to_string());
        let events: Vec<_> = users.map(|user| event(&user, &user, 0)).collect();
        let outcomes = json!({ outcome: failed, "not_sent": 12 - failed });
        let folder = Folder::of(&events);
        let why = folder.check(&url, "--retries 0", 1, outcomes).await;
        let expected = if failed == 1 { "no event can be delivered" } else { "10 events in a row" };
        assert!(why.as_str().unwrap().contains(expected), "{why}");
    }
}

#[tokio::test]
async fn a_queue_that_throttles_gets_the_message_again() {
    let receiver = Receiver::start(|_, before| match before {
        0 => Some((400, r#"{"__type":"com.amazonaws.sqs#RequestThrottled"}"#)),
        _ => Some((200, r#"{"MessageId":"m"}"#)),
    })
    .await;
    let folder = Folder::of(&[event("e-1", "u", 0)]);
    let queue = receiver.queue();
    folder.check(&queue, "", 0, json!({ "queued": 1 })).await;
    let bodies = receiver.received.lock().unwrap();
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0]["MessageDeduplicationId"], group_id(b"e-1"));
}

#[tokio::test]
async fn the_state_file_has_what_one_receiver_acknowledged_in_one_run_at_a_time() {
    let receiver = Receiver::start(|event, before| match event["event_id"].as_str() {
        Some("2") if before == 0 => Some((200, r#"{"status":"dry_run"}"#)),
        _ => RELAYED,
    })
    .await;
    let url = &receiver.url;
    let folder = Folder::of(&["1", "2"].map(|id| event(id, "u", 0)));
    let only_checked = json!({ "relayed": 1, "dry_run": 1 });
    folder.check(url, "", 0, only_checked).await;
    let line = |n| format!("{{\"key\":\"id:{n}\",\"outcome\":\"relayed\"}}\n");
    let head = format!("{{\"replayed_to\":\"{url}/\"}}\n");
    assert_eq!(folder.state(), head.clone() + &line(1));
    let rest = json!({ "relayed": 1, "skipped": 1 });
    folder.check(url, "", 0, rest.clone()).await;
    assert_eq!(folder.state(), head + &line(1) + &line(2));

    let other = folder.replay("http://localhost:1/", "").await;
    other.check_unusable("start over with --restart");
    let lock = std::fs::File::open(folder.path("saved.ndjson.replay")).unwrap();
    lock.lock().unwrap();
    let second = folder.replay(url, "").await;
    second.check_unusable("another replay uses this state file");
    drop(lock);

    // As if a run was killed while it wrote.
    let state = folder.state();
    folder.write("saved.ndjson.replay", &state[..state.len() - 9]);
    folder.check(url, "", 0, rest).await;
    folder.check(url, "", 0, json!({ "skipped": 2 })).await;
    let webhook = "{\"event_name\":\"A\"}\n";
    folder.write("saved.ndjson.replay", webhook);
    let foreign = folder.replay(url, "--restart").await;
    foreign.check_unusable("not a state file of replay");
    assert_eq!(folder.state(), webhook);
}

#[tokio::test]
async fn a_dry_run_lists_all_kinds_of_files_in_order_and_writes_nothing() {
    let second = r#"{"event_name":"second","event_created_at_ms":"2000"}"#;
    let lines = format!("\u{feff}{{\"event_name\":\"timeless\"}}\n\n{second}\r\n");
    let folder = Folder::new(&lines);
    let first = r#"{"event_name":"first","event_created_at":"1970-01-01T00:00:01Z"}"#;
    std::fs::create_dir(folder.path("folder")).unwrap();
    folder.write("folder/a.json", &format!("[ {first},\n{{\"x\":1}} ]"));
    folder.write("folder/notes.txt", "not read");
    let third = "{\n  \"event_name\": \"third\",\n  \"event_created_at_ms\": 3000\n}\n";
    folder.write("single.json", third);
    let listed = folder.list(&["saved.ndjson", "folder", "single.json"]).await;
    assert!(listed.stderr.contains("2 events have no event_created_at"));
    let plan: Value = serde_json::from_str(&listed.stdout).unwrap();
    let root = format!("{}/", folder.0.path().display());
    let line = |event: &Value| {
        let source = event["source"].as_str().unwrap().replace(&root, "");
        format!("{} from {source}", event["event_name"])
    };
    let order = plan["order"].as_array().unwrap().iter().map(line);
    let expected = [
        "\"first\" from folder/a.json, element 1",
        "\"second\" from saved.ndjson, line 3",
        "\"third\" from single.json",
        "\"timeless\" from saved.ndjson, line 1",
        "null from folder/a.json, element 2",
    ];
    assert_eq!(order.collect::<Vec<_>>(), expected);
    assert_eq!(folder.state(), "");
}

#[tokio::test]
async fn every_problem_with_the_inputs_is_an_error() {
    let folder = Folder::new("{}\n{\"a\":\n{}");
    folder.write("array.json", "[{},[]]");
    folder.write("cut.json", "[{}");
    let inputs = ["saved.ndjson", "array.json", "cut.json", "none"];
    let unusable = folder.list(&inputs).await;
    unusable.check_unusable("saved.ndjson: line 2 is not a JSON object");
    unusable.check_unusable("array.json: element 2 is not a JSON object");
    unusable.check_unusable("cut.json: not a JSON array");
    unusable.check_unusable("none: ");
    folder.write("saved.ndjson", "\n");
    let empty = folder.list(&["saved.ndjson"]).await;
    empty.check_unusable("the files contain no webhook");
    folder.write("saved.ndjson", "{}");
    let ftp = folder.replay("ftp://relay.example/", "").await;
    ftp.check_unusable("http or https");
    let queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/events";
    let unordered = folder.replay(queue, "").await;
    unordered.check_unusable("not a FIFO queue");
}
