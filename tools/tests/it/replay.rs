//! Holds `cargo run --example replay` to its word: the order, the bytes, and nothing sent past a failure.

#[path = "../../examples/replay/destination.rs"]
mod destination;
#[path = "../../examples/replay/run.rs"]
mod run;
#[path = "../../examples/replay/saved.rs"]
mod saved;
#[path = "../../examples/replay/state.rs"]
mod state;
#[path = "../../examples/replay/summary.rs"]
mod summary;

use crate::connections::{Connections, Ending};
use crate::local_run::plain_client;
use crate::webhook::Webhook;
use crate::world::{SHARED_SECRET, listen};
use aws_config::{BehaviorVersion, Region};
use bytes::Bytes;
use destination::{
    Answer, BadAddress, Destination, Door, Kind, Profiles, Queue, address, judge, kind, receiver,
    region,
};
use http::{HeaderMap, Request};
use purchasely_clevertap::aws::http::SharedClient;
use purchasely_clevertap::aws::queues::group_id;
use purchasely_clevertap::handler::REPLAYED_HEADER;
use purchasely_clevertap::purchasely::signature::{SIGNATURE_HEADER, TIMESTAMP_HEADER};
use reqwest::Url;
use run::{End, Pace};
use saved::{Place, Saved, bodies, in_order};
use secrecy::SecretString;
use serde_json::{Value, json};
use state::{State, Unusable, beside};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use summary::{Outcome, Summary};
use tempfile::TempDir;
use tokio::sync::watch;

const RECEIVER: &str = "https://relay.example/webhooks/purchasely";
const QUEUE_PATH: &str = "/123456789012/events.fifo";

#[track_caller]
fn check_bodies(file: &[u8], expected: &[(Place, &[u8])]) {
    let found = bodies(file).unwrap();
    let found: Vec<_> = found.iter().map(|body| (body.place, body.bytes)).collect();
    assert_eq!(found, expected);
}

#[test]
fn every_line_is_a_body_as_it_stands() {
    check_bodies(
        b"{\"a\": 1.10,\"b\":\"\\u00e9\"}\n\n  { \"a\":1e2 }  \r\n{}",
        &[
            (Place::Line(1), b"{\"a\": 1.10,\"b\":\"\\u00e9\"}"),
            (Place::Line(3), b"  { \"a\":1e2 }  "),
            (Place::Line(4), b"{}"),
        ],
    );
}

#[test]
fn every_element_is_a_body_as_it_stands() {
    check_bodies(
        b"\xef\xbb\xbf [ {\"a\" :1.10} ,\n{\n  \"b\": 9007199254740993\n} ]\n",
        &[
            (Place::Element(1), b"{\"a\" :1.10}"),
            (Place::Element(2), b"{\n  \"b\": 9007199254740993\n}"),
        ],
    );
    check_bodies(b"[]", &[]);
}

#[test]
fn a_file_with_one_object_is_one_body_with_all_its_bytes() {
    check_bodies(
        b"{\n\t\"a\": 1\n}\n",
        &[(Place::Whole, b"{\n\t\"a\": 1\n}\n")],
    );
    check_bodies(b"", &[]);
    check_bodies(b"\n\n", &[]);
}

#[test]
fn every_sample_is_read_byte_for_byte() {
    let events = saved::read(&[PathBuf::from("events")]).unwrap();
    assert!(events.len() > 40, "the samples were found");
    for event in events {
        assert_eq!(event.body, std::fs::read(&event.source).unwrap());
        assert!(event.created_at_ms.is_some(), "{}", event.source);
    }
}

#[test]
fn what_is_no_webhook_is_named_with_its_place() {
    for (file, expected) in [
        (&b"{}\n{\"a\":\n{}"[..], "line 2 is not a JSON object"),
        (b"{}\n7\n", "line 2 is not a JSON object"),
        (b"\n{\n}\n{\n}", "line 2 is not a JSON object"),
        (b"\xff", "line 1 is not a JSON object"),
        (b"[{},[]]", "element 2 is not a JSON object"),
        (b"[{}", "is not a readable JSON array"),
    ] {
        let refused = bodies(file).unwrap_err().to_string();
        assert!(refused.starts_with(expected), "{refused}");
    }
}

#[test]
fn all_mistakes_are_told_at_once() {
    let folder = TempDir::new().unwrap();
    let empty = folder.path().join("empty.json");
    let broken = folder.path().join("broken.json");
    std::fs::write(&empty, "").unwrap();
    std::fs::write(&broken, "7").unwrap();
    let mistakes = saved::read(&[folder.path().join("none"), broken.clone()]).unwrap_err();
    assert_eq!(mistakes.len(), 2, "{mistakes:?}");
    assert!(mistakes[1].starts_with(&format!("{}: line 1", broken.display())));
    let mistakes = saved::read(&[empty]).unwrap_err();
    assert_eq!(mistakes, ["there is no webhook in what was given"]);
}

#[test]
fn a_folder_is_read_by_name_and_only_its_json_files() {
    let folder = TempDir::new().unwrap();
    for (name, content) in [
        ("b.json", "{\"event_name\":\"B\"}"),
        (
            "a.json",
            "[{\"event_name\":\"A1\"},{\"event_name\":\"A2\"}]",
        ),
        ("a.json.replay", "7"),
        ("notes.txt", "7"),
    ] {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    let events = saved::read(&[folder.path().to_owned()]).unwrap();
    let names: Vec<_> = events.iter().map(|event| event.name.as_deref()).collect();
    assert_eq!(names, [Some("A1"), Some("A2"), Some("B")]);
    assert!(events[1].source.ends_with("a.json, element 2"));
}

fn saved(body: &Value) -> Saved {
    Saved::new(body.to_string().into_bytes(), "here".to_owned()).unwrap()
}

#[test]
fn events_go_in_the_order_in_which_they_happened() {
    let events = [
        json!({ "event_id": "no time" }),
        json!({ "event_id": "later", "event_created_at_ms": 2000 }),
        json!({ "event_id": "text", "event_created_at": "1970-01-01T00:00:01.500Z" }),
        json!({ "event_id": "same, first", "event_created_at_ms": 1000 }),
        json!({ "event_id": "unreadable time", "event_created_at": "yesterday" }),
        json!({ "event_id": "same, second", "event_created_at_ms": "1000" }),
    ];
    let named = |event: Value| {
        let mut event = event;
        event["event_name"] = json!("A");
        saved(&event)
    };
    let ordered = in_order(events.into_iter().map(named).collect());
    let ids: Vec<_> = ordered
        .iter()
        .filter_map(|event| event.id.as_deref())
        .collect();
    assert_eq!(
        ids,
        [
            "same, first",
            "same, second",
            "text",
            "later",
            "no time",
            "unreadable time"
        ]
    );
}

#[test]
fn the_user_is_the_one_whom_the_function_sees() {
    for (fields, user) in [
        (
            json!({ "user_id": "u", "anonymous_user_id": "a" }),
            Some("u"),
        ),
        (
            json!({ "user_id": " ", "anonymous_user_id": "a" }),
            Some("a"),
        ),
        (json!({ "user_id": "u", "clevertap_id": "c" }), Some("c")),
        (json!({ "plan": "p" }), None),
    ] {
        let mut event = fields.clone();
        event["event_name"] = json!("A");
        assert_eq!(saved(&event).user.as_deref(), user, "{fields}");
        assert_eq!(saved(&fields).user, None, "it has no name: {fields}");
    }
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn state(&self) -> PathBuf {
        self.0.path().join("saved.ndjson.replay")
    }
}

fn key(n: usize) -> String {
    format!("id:e-{n}")
}

#[test]
fn what_was_acknowledged_is_known_to_the_next_run() {
    let folder = Folder::new();
    let mut state = State::resume(&folder.state(), RECEIVER).unwrap();
    assert!(!state.holds(&key(1)));
    state.acknowledge(key(1), "relayed".to_owned()).unwrap();
    assert!(state.holds(&key(1)));
    let written = std::fs::read_to_string(folder.state()).unwrap();
    assert_eq!(
        written,
        format!(
            "{{\"replayed_to\":\"{RECEIVER}\"}}\n{{\"key\":\"id:e-1\",\"outcome\":\"relayed\"}}\n"
        ),
        "before the run has ended"
    );
    drop(state);
    assert!(
        State::resume(&folder.state(), RECEIVER)
            .unwrap()
            .holds(&key(1))
    );
    assert!(State::peek(&folder.state(), None).unwrap().holds(&key(1)));
    assert!(
        !State::restart(&folder.state(), RECEIVER)
            .unwrap()
            .holds(&key(1))
    );
    assert!(
        !State::resume(&folder.state(), RECEIVER)
            .unwrap()
            .holds(&key(1))
    );
}

#[test]
fn a_line_that_was_cut_off_spoils_no_other() {
    let folder = Folder::new();
    let mut state = State::resume(&folder.state(), RECEIVER).unwrap();
    for n in 1..=2 {
        state.acknowledge(key(n), "relayed".to_owned()).unwrap();
    }
    drop(state);
    let whole = std::fs::read(folder.state()).unwrap();
    std::fs::write(folder.state(), &whole[..whole.len() - 5]).unwrap();

    let mut state = State::resume(&folder.state(), RECEIVER).unwrap();
    assert!(state.holds(&key(1)) && !state.holds(&key(2)));
    state.acknowledge(key(3), "relayed".to_owned()).unwrap();
    drop(state);
    let state = State::resume(&folder.state(), RECEIVER).unwrap();
    assert!(state.holds(&key(1)) && !state.holds(&key(2)) && state.holds(&key(3)));
}

#[test]
fn a_state_is_of_one_receiver_and_of_one_run_at_a_time() {
    let folder = Folder::new();
    let running = State::resume(&folder.state(), RECEIVER).unwrap();
    let second = State::resume(&folder.state(), RECEIVER);
    assert!(matches!(second, Err(Unusable::InUse)), "{second:?}");
    drop(running);
    let other = State::resume(&folder.state(), "https://other.example/");
    assert!(matches!(other, Err(Unusable::OtherReceiver(receiver)) if receiver == RECEIVER));
    State::restart(&folder.state(), "https://other.example/").unwrap();
}

#[test]
fn a_file_that_is_no_state_stays_as_it_is() {
    let folder = Folder::new();
    let content = "{\"event_name\":\"A\"}\n";
    std::fs::write(folder.state(), content).unwrap();
    for state in [
        State::resume(&folder.state(), RECEIVER),
        State::restart(&folder.state(), RECEIVER),
        State::peek(&folder.state(), None),
    ] {
        assert!(matches!(state, Err(Unusable::Foreign)), "{state:?}");
    }
    assert_eq!(std::fs::read_to_string(folder.state()).unwrap(), content);
}

#[test]
fn a_dry_run_leaves_no_state() {
    let folder = Folder::new();
    assert!(
        !State::peek(&folder.state(), Some(RECEIVER))
            .unwrap()
            .holds(&key(1))
    );
    assert!(!folder.state().exists());
}

#[test]
fn the_state_is_beside_the_input() {
    for (input, state) in [
        ("saved.ndjson", "saved.ndjson.replay"),
        ("some/saved.json", "some/saved.json.replay"),
        ("some/folder/", "some/folder.replay"),
    ] {
        assert_eq!(beside(input.as_ref()), PathBuf::from(state));
    }
    let here = std::env::current_dir().unwrap();
    let mut expected = here.clone().into_os_string();
    expected.push(".replay");
    assert_eq!(beside(".".as_ref()), here.join("..").join(&expected));
}

#[test]
fn a_queue_shows_by_its_address() {
    let told = |text: &str| address(text).and_then(|url| kind(&url));
    for (text, expected) in [
        (RECEIVER, Ok(Kind::Door)),
        ("http://localhost:9000/", Ok(Kind::Door)),
        (
            "https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo",
            Ok(Kind::Queue),
        ),
        (
            "http://localhost:5000/123456789012/events.fifo",
            Ok(Kind::Queue),
        ),
        (
            "https://sqs.eu-west-1.amazonaws.com/123456789012/events",
            Err(BadAddress::NotFifo),
        ),
        ("https://relay.example/prod/events.fifo", Ok(Kind::Door)),
        ("ftp://relay.example/", Err(BadAddress::NotHttp)),
        ("events.fifo", Err(BadAddress::NotHttp)),
    ] {
        assert_eq!(told(text), expected, "{text}");
    }
    let secret = address("https://me:password@relay.example/").unwrap();
    assert_eq!(receiver(&secret), "https://relay.example/");
}

#[test]
fn a_queue_is_in_the_region_that_its_host_names() {
    for (host, expected) in [
        ("sqs.eu-west-1.amazonaws.com", Some("eu-west-1")),
        ("sqs-fips.us-east-1.amazonaws.com", Some("us-east-1")),
        ("sqs.cn-north-1.amazonaws.com.cn", Some("cn-north-1")),
        ("eu-west-1.queue.amazonaws.com", Some("eu-west-1")),
        (
            "vpce-1-a.sqs.eu-west-1.vpce.amazonaws.com",
            Some("eu-west-1"),
        ),
        ("localhost", None),
        ("sqs.internal.example", None),
    ] {
        let url = Url::parse(&format!("https://{host}{QUEUE_PATH}")).unwrap();
        assert_eq!(region(&url), expected, "{host}");
    }
}

fn acknowledged(word: &str, reason: Option<&str>) -> Outcome {
    Outcome::Acknowledged {
        word: word.to_owned(),
        reason: reason.map(str::to_owned),
    }
}

#[test]
fn an_answer_says_whether_another_attempt_is_of_use() {
    let kept = |outcome| Answer::Acknowledged {
        outcome,
        kept: true,
    };
    assert_eq!(
        judge(
            200,
            r#"{"status":"ignored","reason":"sandbox","event_id":"e"}"#
        ),
        kept(acknowledged("ignored", Some("sandbox")))
    );
    assert_eq!(
        judge(200, "<html>"),
        kept(acknowledged("acknowledged", None))
    );
    assert_eq!(
        judge(200, "{\"status\":\"\\u001b[31m\"}"),
        kept(acknowledged("acknowledged", None)),
        "no answer writes to the terminal"
    );
    assert_eq!(
        judge(200, r#"{"status":"dry_run"}"#),
        Answer::Acknowledged {
            outcome: acknowledged("dry_run", None),
            kept: false
        }
    );
    for (status, expected) in [
        (201, "busy"),
        (302, "busy"),
        (400, "refused"),
        (401, "closed"),
        (403, "refused"),
        (404, "closed"),
        (405, "closed"),
        (413, "refused"),
        (429, "busy"),
        (500, "busy"),
        (503, "busy"),
    ] {
        let told = match judge(status, "") {
            Answer::Acknowledged { .. } => "acknowledged",
            Answer::Busy(_) => "busy",
            Answer::Refused(_) => "refused",
            Answer::Closed(_) => "closed",
        };
        assert_eq!(told, expected, "{status}");
    }
}

#[test]
fn the_summary_counts_by_outcome() {
    let mut summary = Summary::default();
    for outcome in [
        Outcome::Skipped,
        acknowledged("relayed", None),
        acknowledged("ignored", Some("sandbox")),
        acknowledged("relayed", None),
    ] {
        summary.add(outcome);
    }
    assert!(summary.all_acknowledged());
    summary.add(Outcome::Held);
    summary.add(Outcome::Failed("503".to_owned()));
    assert!(!summary.all_acknowledged());
    assert_eq!(
        summary.table(),
        "ignored (sandbox)        1\n\
         relayed                  2\n\
         skipped                  1\n\
         failed (503)             1\n\
         held                     1\n\
         all                      6\n"
    );
    assert_eq!(
        summary.json(),
        json!([
            { "outcome": "ignored", "reason": "sandbox", "events": 1 },
            { "outcome": "relayed", "events": 2 },
            { "outcome": "skipped", "events": 1 },
            { "outcome": "failed", "reason": "503", "events": 1 },
            { "outcome": "held", "events": 1 },
        ])
    );
}

/// A receiver that answers by script and remembers what it was sent.
#[derive(Clone)]
struct Stub(Arc<Shared>);

type Script = Box<dyn Fn(&Value, usize) -> Ending + Send + Sync>;

struct Shared {
    url: Url,
    script: Script,
    received: Mutex<Vec<(HeaderMap, Bytes)>>,
}

impl Stub {
    /// `script` is told what it was sent and how often that was sent before.
    async fn start(
        path: &str,
        script: impl Fn(&Value, usize) -> Ending + Send + Sync + 'static,
    ) -> Self {
        let (listener, url) = listen().await;
        let stub = Self(Arc::new(Shared {
            url: Url::parse(&url).unwrap().join(path).unwrap(),
            script: Box::new(script),
            received: Mutex::default(),
        }));
        let serving = stub.clone();
        let serve = async move {
            let answer = move |request: Request<Bytes>| {
                let ending = serving.answer(request);
                async { ending }
            };
            Connections::new().serve_listener(listener, answer).await;
        };
        tokio::spawn(serve);
        stub
    }

    fn answer(&self, request: Request<Bytes>) -> Ending {
        let (head, body) = request.into_parts();
        let mut received = self.0.received.lock().unwrap();
        let before = received.iter().filter(|(_, sent)| *sent == body).count();
        received.push((head.headers, body.clone()));
        drop(received);
        (self.0.script)(&serde_json::from_slice(&body).unwrap(), before)
    }

    fn received(&self) -> Vec<(HeaderMap, Bytes)> {
        self.0.received.lock().unwrap().clone()
    }

    /// The ids of what came, in order.
    fn ids(&self) -> Vec<String> {
        let id = |(_, body): &(HeaderMap, Bytes)| {
            let event: Value = serde_json::from_slice(body).unwrap();
            event["event_id"].as_str().unwrap().to_owned()
        };
        self.received().iter().map(id).collect()
    }

    fn door(&self, profiles: Profiles) -> Destination {
        Destination::Door(Door {
            http: plain_client(),
            url: self.0.url.clone(),
            secret: SecretString::from(SHARED_SECRET),
            profiles,
        })
    }
}

fn relayed() -> Ending {
    Ending::answer(200, "application/json", r#"{"status":"relayed"}"#)
}

fn unavailable() -> Ending {
    Ending::answer(503, "application/json", r#"{"error":"unavailable"}"#)
}

/// An event of a user, `at` milliseconds after the first.
fn event(id: &str, user: Option<&str>, at: u64) -> Saved {
    let mut body = json!({
        "event_name": "SUBSCRIPTION_RENEWED",
        "event_id": id,
        "event_created_at_ms": 1_772_439_330_250 + at,
    });
    if let Some(user) = user {
        body["user_id"] = json!(user);
    }
    saved(&body)
}

async fn go(
    events: &[Saved],
    destination: &Destination,
    state: &mut State,
    stop: &watch::Sender<bool>,
) -> (Vec<(String, usize)>, End) {
    let pace = Pace {
        between: Duration::from_micros(100),
        retries: 2,
        first_wait: Duration::from_millis(1),
    };
    let told = &mut |_: &Saved, _: &Outcome, _: Option<&str>| {};
    let (summary, end) = run::run(events, destination, state, pace, stop.subscribe(), told).await;
    let rows = summary.json();
    let rows = rows.as_array().unwrap().iter().map(|row| {
        let outcome = row["outcome"].as_str().unwrap();
        let outcome = match row["reason"].as_str() {
            Some(reason) => format!("{outcome} ({reason})"),
            None => outcome.to_owned(),
        };
        (
            outcome,
            usize::try_from(row["events"].as_u64().unwrap()).unwrap(),
        )
    });
    (rows.collect(), end)
}

fn counts(rows: &[(&str, usize)]) -> Vec<(String, usize)> {
    rows.iter()
        .map(|&(outcome, n)| (outcome.to_owned(), n))
        .collect()
}

#[tokio::test]
async fn no_event_goes_past_an_earlier_one_of_its_user_that_failed() {
    let mends = Arc::new(Mutex::new(false));
    let mended = Arc::clone(&mends);
    let stub = Stub::start(
        "/webhooks/purchasely",
        move |event, before| match event["event_id"].as_str().unwrap() {
            "b-1" if before < 2 => unavailable(),
            "c-1" if !*mended.lock().unwrap() => unavailable(),
            _ => relayed(),
        },
    )
    .await;
    let events = [
        event("a-1", Some("a"), 0),
        event("b-1", Some("b"), 1),
        event("c-1", Some("c"), 2),
        event("c-2", Some("c"), 3),
        event("b-2", Some("b"), 4),
        event("nobody's", None, 5),
        event("c-3", Some("c"), 6),
        event("a-1", Some("a"), 7),
    ];
    let folder = Folder::new();
    let (stop, _) = watch::channel(false);
    let door = stub.door(Profiles::Untouched);

    let mut state = State::resume(&folder.state(), RECEIVER).unwrap();
    let (rows, end) = go(&events, &door, &mut state, &stop).await;
    assert_eq!(end, End::Complete);
    let expected = [
        ("relayed", 4),
        ("skipped", 1),
        ("failed (503)", 1),
        ("held", 2),
    ];
    assert_eq!(rows, counts(&expected));
    assert_eq!(
        stub.ids(),
        [
            "a-1", "b-1", "b-1", "b-1", "c-1", "c-1", "c-1", "b-2", "nobody's"
        ]
    );
    drop(state);

    *mends.lock().unwrap() = true;
    let mut state = State::resume(&folder.state(), RECEIVER).unwrap();
    let (rows, end) = go(&events, &door, &mut state, &stop).await;
    assert_eq!(end, End::Complete);
    assert_eq!(rows, counts(&[("relayed", 3), ("skipped", 5)]));
    assert_eq!(stub.ids()[9..], ["c-1", "c-2", "c-3"]);
}

#[tokio::test]
async fn a_webhook_is_signed_anew_and_marked_unless_profiles_are_wanted() {
    let stub = Stub::start("/", |_, _| relayed()).await;
    let (stop, _) = watch::channel(false);
    let raw = b" {\"event_name\" : \"A\",\"amount\":1.10} ";
    let events = [Saved::new(raw.to_vec(), "here".to_owned()).unwrap()];
    for profiles in [Profiles::Untouched, Profiles::Updated] {
        let door = stub.door(profiles);
        go(&events, &door, &mut State::empty(), &stop).await;
    }
    let received = stub.received();
    assert_eq!(received.len(), 2);
    for (headers, body) in &received {
        assert_eq!(body[..], raw[..]);
        let signed_at = headers[TIMESTAMP_HEADER].to_str().unwrap().parse().unwrap();
        let expected = Webhook::new(raw.to_vec(), SHARED_SECRET, signed_at);
        for (name, value) in expected.headers() {
            assert_eq!(headers[name], value);
        }
        assert!(headers.contains_key(SIGNATURE_HEADER));
    }
    assert!(received[0].0.contains_key(REPLAYED_HEADER));
    assert!(!received[1].0.contains_key(REPLAYED_HEADER));
}

#[tokio::test]
async fn an_interrupted_run_ends_after_the_event_under_way_and_goes_on_there() {
    let (stop, _) = watch::channel(false);
    let pulled = stop.clone();
    let stub = Stub::start("/", move |event, _| {
        pulled.send_replace(event["event_id"] == "2");
        relayed()
    })
    .await;
    let events = ["1", "2", "3"].map(|id| event(id, Some("u"), 0));
    let folder = Folder::new();
    let door = stub.door(Profiles::Untouched);

    let mut state = State::resume(&folder.state(), RECEIVER).unwrap();
    let (rows, end) = go(&events, &door, &mut state, &stop).await;
    assert_eq!(end, End::Interrupted);
    assert_eq!(rows, counts(&[("relayed", 2), ("not_sent", 1)]));
    drop(state);

    stop.send_replace(false);
    let mut state = State::resume(&folder.state(), RECEIVER).unwrap();
    let (rows, end) = go(&events, &door, &mut state, &stop).await;
    assert_eq!(end, End::Complete);
    assert_eq!(rows, counts(&[("relayed", 1), ("skipped", 2)]));
    assert_eq!(stub.ids(), ["1", "2", "3"]);
}

#[tokio::test]
async fn a_wrong_secret_ends_the_run_at_once() {
    let stub = Stub::start("/", |_, _| {
        Ending::answer(401, "application/json", r#"{"error":"unauthorized"}"#)
    })
    .await;
    let events = ["1", "2", "3"].map(|id| event(id, None, 0));
    let (stop, _) = watch::channel(false);
    let door = stub.door(Profiles::Untouched);
    let (rows, end) = go(&events, &door, &mut State::empty(), &stop).await;
    assert_eq!(
        end,
        End::GaveUp("no event can get through (401)".to_owned())
    );
    assert_eq!(rows, counts(&[("failed (401)", 1), ("not_sent", 2)]));
}

#[tokio::test]
async fn ten_failures_in_a_row_end_the_run() {
    let stub = Stub::start("/", |_, _| Ending::Close).await;
    let events: Vec<_> = (0..15).map(|n| event(&n.to_string(), None, n)).collect();
    let (stop, _) = watch::channel(false);
    let door = stub.door(Profiles::Untouched);
    let (rows, end) = go(&events, &door, &mut State::empty(), &stop).await;
    assert_eq!(end, End::GaveUp("10 events in a row failed".to_owned()));
    assert_eq!(rows, counts(&[("failed (no answer)", 10), ("not_sent", 5)]));
}

#[tokio::test]
async fn what_a_function_in_a_dry_run_saw_is_sent_again() {
    let stub = Stub::start("/", |_, _| {
        Ending::answer(200, "application/json", r#"{"status":"dry_run"}"#)
    })
    .await;
    let events = [event("1", None, 0)];
    let (stop, _) = watch::channel(false);
    let door = stub.door(Profiles::Untouched);
    let mut state = State::empty();
    for _ in 0..2 {
        let (rows, _) = go(&events, &door, &mut state, &stop).await;
        assert_eq!(rows, counts(&[("dry_run", 1)]));
    }
}

async fn queue(stub: &Stub, profiles: Profiles) -> Destination {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(SharedClient(plain_client()))
        .region(Region::new("eu-west-1"))
        .test_credentials()
        .load()
        .await;
    Destination::Queue(Queue::new(&config, stub.0.url.clone(), profiles))
}

fn sqs_answer(status: u16, body: &'static str) -> Ending {
    Ending::answer(status, "application/x-amz-json-1.0", body)
}

#[tokio::test]
async fn a_message_is_what_the_function_reads_from_its_queue() {
    let stub = Stub::start(QUEUE_PATH, |_, _| {
        sqs_answer(200, r#"{"MessageId":"m","SequenceNumber":"1"}"#)
    })
    .await;
    let events = [
        event("e-1", Some("u"), 0),
        // U+FFFE is no character of XML.
        saved(&json!({ "event_name": "A", "text": "\u{fffe}" })),
    ];
    let (stop, _) = watch::channel(false);
    for profiles in [Profiles::Untouched, Profiles::Updated] {
        let queue = queue(&stub, profiles).await;
        let (rows, _) = go(&events, &queue, &mut State::empty(), &stop).await;
        assert_eq!(rows, counts(&[("queued", 2)]));
    }
    let sent: Vec<Value> = stub
        .received()
        .iter()
        .map(|(_, body)| serde_json::from_slice(body).unwrap())
        .collect();
    let url = stub.0.url.as_str();
    let text = |value: &str| json!({ "DataType": "String", "StringValue": value });
    let raw = str::from_utf8(&events[0].body).unwrap();
    assert_eq!(
        sent[0],
        json!({
            "QueueUrl": url,
            "MessageBody": raw,
            "MessageGroupId": group_id(b"u"),
            "MessageDeduplicationId": group_id(b"e-1"),
            "MessageAttributes": { "replayed": text("true") },
        })
    );
    let attributes = json!({ "encoding": text("base64"), "replayed": text("true") });
    assert_eq!(sent[1]["MessageAttributes"], attributes);
    assert_eq!(sent[1]["MessageGroupId"], json!(group_id(&events[1].body)));
    assert_eq!(
        sent[1]["MessageDeduplicationId"],
        json!(group_id(&events[1].body))
    );
    assert_eq!(sent[2].get("MessageAttributes"), None);
    assert_eq!(
        sent[3]["MessageAttributes"],
        json!({ "encoding": text("base64") })
    );
}

#[tokio::test]
async fn a_queue_that_throttles_is_tried_again_and_one_that_forbids_is_not() {
    let stub = Stub::start(QUEUE_PATH, |message, before| {
        let is_first = message["MessageGroupId"] == json!(group_id(b"first"));
        match (is_first, before) {
            (true, 0) => sqs_answer(400, r#"{"__type":"com.amazonaws.sqs#RequestThrottled"}"#),
            (true, 1) => sqs_answer(500, "{}"),
            (true, _) => sqs_answer(200, r#"{"MessageId":"m"}"#),
            (false, _) => sqs_answer(
                403,
                r#"{"__type":"com.amazonaws.sqs#AccessDenied","message":"no"}"#,
            ),
        }
    })
    .await;
    let events = ["first", "second", "third"].map(|user| event(user, Some(user), 0));
    let (stop, _) = watch::channel(false);
    let queue = queue(&stub, Profiles::Untouched).await;
    let (rows, end) = go(&events, &queue, &mut State::empty(), &stop).await;
    assert_eq!(
        end,
        End::GaveUp("no event can get through (AccessDenied)".to_owned())
    );
    let expected = [("queued", 1), ("failed (AccessDenied)", 1), ("not_sent", 1)];
    assert_eq!(rows, counts(&expected));
    assert_eq!(stub.received().len(), 4);
}
