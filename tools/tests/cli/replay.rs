//! `cargo relay replay`: what reaches the function or its queue, in which order, and what a later run sends.

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
use testkit::emulator;
use testkit::harness::{SHARED_SECRET, World};
use testkit::hyper::Request;
use testkit::sockets::Server;
use testkit::sockets::resources::Resources;
use testkit::tool::{self, Finished};
use testkit::world::Ending;
use testkit::world::clevertap::Reply;

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

    /// The names of the state files.
    fn states(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.0.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(".replay")).collect()
    }

    /// The name and the content of the only state file.
    fn state(&self) -> (String, String) {
        let states = self.states();
        let [name] = &states[..] else { panic!("{states:?}") };
        (name.clone(), std::fs::read_to_string(self.path(name)).unwrap())
    }

    async fn replay(&self, to: &str, options: &str) -> Finished {
        self.replay_files(&["saved.ndjson"], to, options).await
    }

    async fn replay_files(&self, names: &[&str], to: &str, options: &str) -> Finished {
        let arguments = format!("replay {} --to {to} --json {options}", self.paths(names));
        tool::run(&arguments, &VARIABLES).await
    }

    /// Replays and checks the exit code and the outcomes; returns the summary.
    async fn check(&self, to: &str, options: &str, code: i32, outcomes: Value) -> Value {
        let replayed = self.replay(to, &format!("--rate 1000 {options}")).await;
        check(&replayed, code, &outcomes)
    }

    /// Lists the order of these files with `--dry-run`.
    async fn list(&self, names: &[&str], options: &str) -> Finished {
        let paths = self.paths(names);
        tool::run(&format!("replay --dry-run --json {options} {paths}"), &[]).await
    }

    fn paths(&self, names: &[&str]) -> String {
        let paths = names.iter().map(|name| self.path(name).display().to_string());
        paths.collect::<Vec<_>>().join(" ")
    }
}

/// Checks the exit code and the outcomes; returns the summary.
#[track_caller]
fn check(replayed: &Finished, code: i32, outcomes: &Value) -> Value {
    let summary: Value = serde_json::from_str(&replayed.stdout).expect(&replayed.stderr);
    let found = (replayed.code, &summary["outcomes"]);
    assert_eq!(found, (Some(code), outcomes), "{}", replayed.stderr);
    summary
}

/// An event, `at` milliseconds after the first.
fn event(id: &str, user: &str, at: u64) -> Value {
    let created_at_ms = 1_772_439_330_250 + at;
    json!({
        "event_name": "SUBSCRIPTION_RENEWED", "event_id": id, "event_created_at_ms": created_at_ms,
        "user_id": user, "plan": "yearly",
    })
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
    let url = world.http_api().await;
    let mut tested = event("sandbox", "u", 2);
    tested["environment"] = json!("SANDBOX");
    let copy = event("later", "u", 3);
    let folder = Folder::of(&[copy.clone(), event("first", "u", 1), tested, copy]);
    let outcomes = json!({ "relayed": 2, "ignored (sandbox)": 1, "skipped": 1 });
    folder.check(&url, "", 0, outcomes.clone()).await;
    let ids = ["first", "later"].map(str::to_owned).to_vec();
    assert_eq!(uploaded(&world), (ids, 0));

    let all = json!({ "skipped": 3, "skipped (ignored)": 1 });
    let summary = folder.check(&url, "", 0, all).await;
    assert_eq!((&summary["delivered"], &summary["ignored"]), (&json!(3), &json!(1)));
    assert_eq!(world.clevertap.uploads().len(), 2);
    let again = "--restart --profiles";
    folder.check(&url, again, 0, outcomes).await;
    assert_eq!(uploaded(&world).1, 2);
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
        Self { url: Server::start(handle).await.url, received }
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
        (Some((200, r#"{"status":"success"}"#)), "failed (200)", 1),
        // A queue whose answer has no id of the message.
        (Some((200, "{}")), "failed (200)", 1),
        (Some((403, r#"{"__type":"com.amazonaws.sqs#AccessDenied"}"#)), "failed (AccessDenied)", 1),
        (None, "failed (no answer)", 10),
    ];
    for (answer, outcome, failed) in cases {
        let receiver = Receiver::start(move |_, _| answer).await;
        let is_queue = outcome.contains("Access") || answer.is_some_and(|(_, body)| body == "{}");
        let url = if is_queue { receiver.queue() } else { receiver.url };
        let users = (0..12).map(|n| n.to_string());
        let events: Vec<_> = users.map(|user| event(&user, &user, 0)).collect();
        let outcomes = json!({ outcome: failed, "not_sent": 12 - failed });
        let folder = Folder::of(&events);
        let why = folder.check(&url, "--retries 0", 1, outcomes).await["why"].take();
        let expected = if failed == 1 {
            "no event can be delivered"
        } else {
            "10 events in a row"
        };
        assert!(why.as_str().unwrap().contains(expected), "{why}");
    }
}

#[tokio::test]
async fn a_queue_keeps_the_order_of_each_user_as_purchasely_knows_them() {
    // The first message comes twice, because the queue throttles it.
    let receiver = Receiver::start(|message, before| {
        let is_first = message["MessageBody"].as_str().unwrap().contains(r#""event_id":"1""#);
        Some(match (is_first, before) {
            (true, 0) => (400, r#"{"__type":"com.amazonaws.sqs#RequestThrottled"}"#),
            _ => (200, r#"{"MessageId":"m"}"#),
        })
    })
    .await;
    let mut events = ["1", "2", "3"].map(|id| event(id, "u", 0));
    events[1]["clevertap_id"] = json!("__h1");
    events[2]["anonymous_user_id"] = json!("a");
    events[2]["user_id"] = Value::Null;
    let folder = Folder::of(&events);
    folder.check(&receiver.queue(), "", 0, json!({ "queued": 3 })).await;
    let sent = receiver.received.lock().unwrap();
    let groups: Vec<_> = sent.iter().map(|message| message["MessageGroupId"].clone()).collect();
    assert_eq!(groups, ["u", "u", "u", "a"].map(|user| group_id(user.as_bytes())));
    let replayed = json!({ "replayed": { "DataType": "String", "StringValue": "true" } });
    assert_eq!(sent[0]["MessageAttributes"], replayed);
    let copy = "MessageDeduplicationId";
    assert!(sent[0][copy] == sent[1][copy] && sent[1][copy] != sent[2][copy]);
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
    let (state, content) = folder.state();
    let lines: Vec<Value> =
        content.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["replayed_to"], format!("{url}/"));
    assert_eq!(lines[1..], [json!({ "key": "id:1", "outcome": "relayed" })]);
    let rest = json!({ "relayed": 1, "skipped": 1 });
    folder.check(url, "", 0, rest.clone()).await;

    let other = folder.replay("http://localhost:1/", "").await;
    other.check_unusable("start over with --restart");
    let lock = std::fs::File::open(folder.path(&state)).unwrap();
    lock.lock().unwrap();
    let second = folder.replay(url, "").await;
    second.check_unusable("another replay uses this state file");
    drop(lock);

    // As if a run was killed while it wrote.
    let (_, content) = folder.state();
    folder.write(&state, &content[..content.len() - 9]);
    folder.check(url, "", 0, rest).await;
    folder.check(url, "", 0, json!({ "skipped": 2 })).await;
    let webhook = "{\"event_name\":\"A\"}\n";
    folder.write(&state, webhook);
    let foreign = folder.replay(url, "--restart").await;
    foreign.check_unusable("not a state file of replay");
    assert_eq!(folder.state().1, webhook);
}

#[tokio::test]
async fn the_state_file_belongs_to_a_set_of_events_however_they_are_in_files() {
    let receiver = Receiver::start(|_, _| RELAYED).await;
    let url = &receiver.url;
    let [one, two] = ["1", "2"].map(|id| event(id, "u", 0));
    let folder = Folder::of(std::slice::from_ref(&one));
    folder.write("more.json", &two.to_string());
    let replay = async |names: &[&str], options: &str, code, outcomes| {
        let options = format!("--rate 1000 {options}");
        check(&folder.replay_files(names, url, &options).await, code, &outcomes)
    };
    // A filter does not change the set.
    let first = "--until 2026-03-02T08:15:30.251Z --event subscription_renewed";
    replay(&["saved.ndjson", "more.json"], first, 0, json!({ "relayed": 2 })).await;
    replay(&["more.json", "saved.ndjson"], "", 0, json!({ "skipped": 2 })).await;
    let all = format!("{two}\n{one}\n{two}\n");
    folder.write("all.ndjson", &all);
    replay(&["all.ndjson"], "", 0, json!({ "skipped": 3 })).await;
    let (state, _) = folder.state();

    folder.write("saved.ndjson", &event("3", "u", 0).to_string());
    replay(&["saved.ndjson"], "", 0, json!({ "relayed": 1 })).await;
    assert_eq!(folder.states().len(), 2);
    let other = format!("--state {}", folder.path(&state).display());
    let other = folder.replay(url, &other).await;
    other.check_unusable("the state of a replay of other events");
    assert_eq!(receiver.ids(), ["1", "2", "3"]);
}

#[tokio::test]
async fn summary_and_exit_code_tell_delivered_ignored_and_dead_lettered_apart() {
    let resources = Resources::make().await;
    let world = World::start(&resources.settings()).await;
    let url = world.http_api().await;
    let mut anonymous = event("e-2", "u", 1);
    anonymous["user_id"] = Value::Null;
    anonymous["anonymous_user_id"] = json!("a");
    let mut nobody = event("e-3", "u", 2);
    nobody["user_id"] = Value::Null;
    let folder = Folder::of(&[event("e-1", "u", 0), anonymous, nobody]);
    let outcomes = json!({
        "relayed": 1, "ignored (anonymous)": 1, "dead_lettered (no_identity)": 1,
    });
    let summary = folder.check(&url, "", 1, outcomes).await;
    let counts = ["delivered", "ignored", "dead_lettered", "undelivered"];
    let found = counts.map(|count| &summary[count]);
    assert_eq!(found, [1, 1, 1, 0]);
    // It is in the queue, and not sent again.
    let again = json!({ "skipped": 1, "skipped (ignored)": 1, "skipped (dead_lettered)": 1 });
    folder.check(&url, "", 1, again).await;
    assert_eq!(resources.letters().len(), 1);
}

#[tokio::test]
async fn dead_letters_as_the_aws_cli_prints_them_are_replayed_with_what_is_left_of_them() {
    let resources = emulator::Resources::make().await;
    let revenue = ("REVENUE_EVENT", "Charged");
    let world = World::start(&[&resources.settings()[..], &[revenue]].concat()).await;
    let mut paid = event("e-1", "u-1", 0);
    paid["event_name"] = json!("TRANSACTION_PROCESSED");
    paid["amount_in_usd"] = json!(5);
    // U+FFFE is not a character of XML, which SQS requires.
    let mut odd = event("e-2", "u-2", 1);
    odd["text"] = json!("\u{fffe}");
    let refuse = || Reply::RefuseRecord { number: 2, code: 513 };
    world.clevertap.script([refuse(), refuse()]);
    let empty = Vec::new();
    for body in [paid.to_string().into_bytes(), odd.to_string().into_bytes(), empty] {
        assert_eq!(world.post(&body).await.body["status"], "dead_lettered");
    }
    let receive = format!(
        "sqs receive-message --max-number-of-messages 10 --visibility-timeout 0 --queue-url {}",
        resources.dead_letter_queue_url
    );
    let without = emulator::aws(&resources.endpoint, &receive, &[]).await.unwrap();
    let all = ["--message-attribute-names", "All"];
    let printed = emulator::aws(&resources.endpoint, &receive, &all).await.unwrap();
    let folder = Folder::new(&printed.to_string());

    // Without a claims table, only the letter's attribute says what CleverTap has.
    let other = World::start(&[revenue]).await;
    let url = other.http_api().await;
    let options = "--event TRANSACTION_PROCESSED --event SUBSCRIPTION_RENEWED";
    folder.check(&url, options, 0, json!({ "relayed": 2 })).await;
    let names: Vec<_> = other
        .clevertap
        .accepted()
        .iter()
        .map(|record| record["evtName"].clone())
        .collect();
    assert_eq!(names, ["Charged", "SUBSCRIPTION_RENEWED"]);

    // The testkit reads this one; both are FIFO queues.
    let queue = Resources::make().await;
    let to = &queue.dead_letter_queue_url;
    let state = folder.path("queue.replay");
    let in_queue = format!("--state {}", state.display());
    folder.check(to, &in_queue, 0, json!({ "queued": 3 })).await;
    let mut messages = queue.letters();
    messages.sort_by_key(|message| message["attributes"]["event_id"].to_string());
    let attribute = |number: usize, name: &str| messages[number]["attributes"][name].clone();
    assert_eq!(attribute(0, "records"), "revenue");
    let rest = ["reason", "code", "replayed", "event_name"].map(|name| attribute(0, name));
    assert_eq!(rest, ["refused", "513", "true", "TRANSACTION_PROCESSED"]);
    assert_eq!(
        (&messages[0]["body"], &messages[0]["group"]),
        (&json!(paid.to_string()), &json!(group_id(b"u-1")))
    );
    assert_eq!(
        (attribute(1, "encoding"), attribute(1, "records")),
        (json!("base64"), Value::Null)
    );
    assert_eq!(attribute(2, "encoding"), "empty");
    // SQS drops copies for five minutes, which must not lose what is replayed again on purpose.
    let again = format!("{in_queue} --restart --profiles --event TRANSACTION_PROCESSED");
    folder.check(to, &again, 0, json!({ "queued": 1 })).await;
    assert_eq!(queue.letters()[0]["attributes"], json!({ "records": "revenue" }));

    folder.write("saved.ndjson", &without.to_string());
    let unknown = folder.replay(&url, "").await;
    unknown.check_unusable("with `--message-attribute-names All`");
}

#[tokio::test]
async fn a_dry_run_lists_all_kinds_of_files_in_order_and_writes_nothing() {
    let second = r#"{"event_name":"second","event_created_at_ms":"1772439332000"}"#;
    let lines = format!("\u{feff}{{\"event_name\":\"timeless\"}}\n\n{second}\r\n");
    let folder = Folder::new(&lines);
    let first = r#"{"event_name":"first","event_created_at":"2026-03-02T08:15:31Z"}"#;
    std::fs::create_dir(folder.path("folder")).unwrap();
    folder.write("folder/a.json", &format!("[ {first},\n{{\"x\":1}} ]"));
    folder.write("folder/notes.txt", "not read");
    let third = "{\n  \"event_name\": \"third\",\n  \"event_created_at_ms\": 1772439333000\n}\n";
    folder.write("single.json", third);
    let listed = folder.list(&["saved.ndjson", "folder", "single.json"], "").await;
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
    assert_eq!(folder.states(), [""; 0]);

    let files = &["saved.ndjson", "folder", "single.json"];
    for (filter, found) in [
        ("--event FIRST --event third", &["first", "third"][..]),
        ("--since 2026-03-02T08:15:32Z", &["second", "third"]),
        ("--since 2026-03-02 --until 2026-03-02T09:15:32+01:00", &["first"]),
    ] {
        let listed = folder.list(files, filter).await;
        let plan: Value = serde_json::from_str(&listed.stdout).expect(&listed.stderr);
        let order = plan["order"].as_array().unwrap().iter();
        let names: Vec<_> = order.map(|event| event["event_name"].as_str().unwrap()).collect();
        assert_eq!(names, found, "{filter}");
        assert_eq!(plan["filtered"], 5 - found.len());
    }
    folder.list(files, "--event other").await.check_unusable("no event matches");
    folder.list(files, "--since yesterday").await.check_unusable("2026-03-02");
}

#[tokio::test]
async fn what_is_no_webhook_is_an_error_or_skipped_on_request() {
    let folder = Folder::new("{}\n{\"a\":\n{}");
    for (name, content) in [
        ("array.json", "[{},[]]"),
        ("cut.json", "[{}"),
        ("text.json", "a\nb"),
        ("empty.json", "\n"),
    ] {
        folder.write(name, content);
    }
    for (name, options, reason) in [
        ("none", "--skip-invalid", "none: "),
        ("saved.ndjson", "", "saved.ndjson, line 2 is not a JSON object"),
        ("saved.ndjson", "", "--skip-invalid sends the rest"),
        ("array.json", "", "array.json, element 2 is not a JSON object"),
        ("cut.json", "", "cut.json: not a JSON array"),
        ("text.json", "", "text.json is not a JSON object"),
        ("text.json", "--skip-invalid", "the files contain no webhook"),
        ("empty.json", "", "the files contain no webhook"),
    ] {
        folder.list(&[name], options).await.check_unusable(reason);
    }
    let skipped = folder.list(&["saved.ndjson"], "--skip-invalid").await;
    let plan: Value = serde_json::from_str(&skipped.stdout).expect(&skipped.stderr);
    assert_eq!((&plan["events"], &plan["invalid"]), (&json!(2), &json!(1)));
    assert!(skipped.stderr.contains("line 2 is not a JSON object"), "{}", skipped.stderr);
    for (to, reason) in [
        ("ftp://relay.example/", "must be https"),
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/events", "not a FIFO queue"),
    ] {
        folder.replay(to, "--skip-invalid").await.check_unusable(reason);
    }
}
