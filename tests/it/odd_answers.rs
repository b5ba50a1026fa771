//! What the function does with each answer of CleverTap and of AWS, by the rows of `odd_answers/tables.md`.
//! It does not know sockets (`connections.rs` does), nor how the function decides: it counts uploads and reads answers,
//! log lines and dead letters.

use crate::{STATED, UNDOCUMENTED};
use purchasely_clevertap::clock::unix_time;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;
use testkit::harness::{ACCOUNT_ID, PASSCODE, SECRET_ID, SHARED_SECRET, event, secret_value};
use testkit::in_memory::{self, Function, Services};
use testkit::messages::message;
use testkit::webhook::{Front, Webhook};
use testkit::world::aws::Aws;
use testkit::world::clevertap::{CleverTap, Reply};
use testkit::world::faulty::{Fault, Faulty};
use testkit::world::secrets_manager::SecretsManager;
use tokio::time::Instant;

const TABLES: &str = include_str!("odd_answers/tables.md");
/// A switched-off event, which has only a profile.
const DISABLED: &str = "SUBSCRIPTION_PAUSED";
/// More often than anything is tried.
const ALWAYS: usize = 99;
/// In the template.
const LAMBDA_TIMEOUT: Duration = Duration::from_secs(9);
const SETTINGS: [(&str, &str); 3] = [
    ("REVENUE_EVENT", "Charged"),
    ("REFUND_EVENT", "Refunded"),
    ("EVENTS_DISABLED", DISABLED),
];
/// One delivery of a webhook or a batch.
struct Row {
    line: &'static str,
    delivered: &'static str,
    /// To the first requests, in their order; afterwards everything succeeds.
    answers: Vec<Answer>,
    /// Uploads, HTTP answer, outcome and dead letter.
    expected: [&'static str; 4],
}

enum Answer {
    OfCleverTap(Vec<Reply>),
    /// To the requests that contain these texts.
    OfAws(&'static [&'static str], Vec<Fault>),
    Secret(&'static str),
}

impl Row {
    fn parse(line: &'static str) -> Self {
        let cells = line.trim_matches('|').split('|').map(str::trim);
        let cells: Vec<_> = cells.map(|cell| if cell == "–" { "" } else { cell }).collect();
        let [delivered, answers, expected @ ..] = &cells[..] else {
            panic!("{line}");
        };
        let answers = answers.split(", ").filter(|answer| !answer.is_empty()).map(Answer::parse);
        let expected = expected.try_into().expect(line);
        Self {
            line,
            delivered,
            answers: answers.collect(),
            expected,
        }
    }
}

impl Answer {
    fn parse(text: &'static str) -> Self {
        let (text, times) = match (text.strip_prefix("always "), text.rsplit_once(" ×")) {
            (Some(text), _) => (text, ALWAYS),
            (None, Some((text, times))) => (text, times.parse().expect(text)),
            (None, None) => (text, 1),
        };
        if let Some(secret) = text.strip_prefix("the secret is ") {
            return Self::Secret(secret.trim_matches('`'));
        }
        let call = text.split_once(": ").and_then(|(call, answer)| {
            let texts: &[_] = match call {
                "claim" => &["UpdateItem", ":owner"],
                "completion" => &["UpdateItem", ":done"],
                "accepted" => &["UpdateItem", ":accepted"],
                "SendMessage" => &["SendMessage"],
                "ChangeMessageVisibility" => &["ChangeMessageVisibility"],
                "GetSecretValue" => &["GetSecretValue"],
                _ => return None,
            };
            Some((texts, answer))
        });
        match call {
            Some((texts, answer)) => Self::OfAws(texts, vec![fault(answer); times]),
            None => Self::OfCleverTap(vec![reply(text); times]),
        }
    }
}

fn reply(text: &str) -> Reply {
    let status = |status: &str| status.parse().expect(text);
    match (text, text.split_once(' ')) {
        ("accepted", _) => Reply::Normal,
        ("closed", _) => Reply::CloseBeforeAnswer,
        ("reset", _) => Reply::ResetBeforeAnswer,
        ("no answer", _) => Reply::Silent,
        ("an undocumented status", _) => Reply::Status(UNDOCUMENTED),
        (_, Some(("accepted", after))) => {
            let seconds = after.trim_start_matches("after ").trim_end_matches(" s");
            Reply::Slow(Duration::from_secs(seconds.parse().expect(text)))
        }
        ("200 cut short", _) => Reply::CutShort,
        ("200 with 3 MB", _) => Reply::Answer { status: 200, body: "x".repeat(3 << 20) },
        (_, Some((code, "with a `Location`"))) => {
            let location = "http://127.0.0.1:9/1/upload".to_owned();
            Reply::Redirect { status: status(code), location }
        }
        (_, Some((code, body))) => Reply::Answer {
            status: status(code),
            body: body.trim_matches('`').to_owned(),
        },
        (_, None) => Reply::Status(status(text)),
    }
}

fn fault(text: &'static str) -> Fault {
    let status = |status: &str| status.parse().expect(text);
    match (text, text.split_once(' ')) {
        ("closed", _) => Fault::Closed,
        ("reset", _) => Fault::Reset,
        ("no answer", _) => Fault::Silent,
        ("200 `<html>`", _) => Fault::Html,
        ("200 cut short", _) => Fault::CutShort,
        ("done but closed", _) => Fault::DoneThenClosed,
        (_, Some(("done", but))) => Fault::DoneThenStatus(status(&but["but ".len()..])),
        (_, Some((code, name))) => {
            Fault::Error { status: status(code), code: name.trim_matches('`') }
        }
        (_, None) => panic!("{text}"),
    }
}

/// Each first row with those that deliver its webhook again.
fn chains() -> Vec<Vec<Row>> {
    let mut chains: Vec<Vec<Row>> = Vec::new();
    let lines = TABLES.lines().filter(|line| line.starts_with("| "));
    for row in lines.filter(|line| !line.starts_with("| delivered |")).map(Row::parse) {
        match chains.last_mut() {
            Some(chain) if row.delivered.starts_with('…') => chain.push(row),
            _ => chains.push(vec![row]),
        }
    }
    chains
}

#[test]
fn each_answer_has_the_documented_consequence() {
    let mut problems = String::new();
    for chain in chains() {
        in_memory::run(async {
            Setup::new(&chain[0]).await.check(&chain, &mut problems).await;
        });
    }
    assert!(problems.is_empty(), "{problems}");
}

/// A function of its own, and what its services are.
struct Setup {
    services: Services,
    function: Function,
}

impl Setup {
    async fn new(row: &Row) -> Self {
        let services = Services {
            clevertap: CleverTap::new(ACCOUNT_ID, PASSCODE),
            secrets_manager: secrets_manager(row),
            aws: Faulty::from(Aws::default()),
        };
        let required = [
            ("CLEVERTAP_REGION", "in1"),
            ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
            ("SECRET_ID", SECRET_ID),
        ];
        let resources = [
            ("EVENT_QUEUE_URL", "https://sqs.example/123456789012/events.fifo"),
            ("DEAD_LETTER_QUEUE_URL", "https://sqs.example/123456789012/dead-letters.fifo"),
            ("DEDUPLICATION_TABLE", "claims"),
        ];
        let resources = if has_resources(row) { &resources[..] } else { &[] };
        let mode: &[_] = match row.delivered.split_once(", ") {
            Some((_, "queue mode")) => &[("DELIVERY", "queue")],
            Some((_, "dry run")) => &[("CLEVERTAP_DRY_RUN", "true")],
            _ => &[],
        };
        // The first of a name is taken.
        let settings = [&required[..], resources, mode, &SETTINGS, &STATED].concat();
        in_memory::take_log();
        let function = Function::start(services.clone(), &settings);
        if !row.delivered.contains("secret") {
            // The start is over, and has read the secret.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Self { services, function }
    }

    /// Delivers the rows of one webhook or batch one after another, and compares what was uploaded, answered, logged and
    /// stored.
    async fn check(&self, chain: &[Row], problems: &mut String) {
        let kind = chain[0].delivered;
        let is_batch = kind.starts_with("batch");
        let events = events(kind);
        let mut bodies = HashMap::new();
        for row in chain {
            self.prepare(row);
            let age = if row.delivered.ends_with("5 s old") { 5 } else { 0 };
            let answer = match row.delivered.strip_prefix("… redriven") {
                Some(records) => {
                    let records = records.strip_prefix(", records ").unwrap_or("event,revenue");
                    let attributes = [("reason", "refused"), ("records", records)];
                    self.deliver_batch(&events, &attributes).await
                }
                None if is_batch => self.deliver_batch(&events, &[]).await,
                None => self.deliver(&events[0], age).await,
            };
            let mut uploads = Vec::new();
            for upload in self.services.clevertap.take_uploads() {
                let records = records(&upload.body, is_batch);
                let first = bodies.entry(records.clone()).or_insert(upload.body.clone());
                assert_eq!(*first, upload.body, "{} is not repeated byte for byte", row.line);
                uploads.push(records);
            }
            let outcomes = Self::outcomes(&events);
            let letters = self.services.aws.letters();
            let mut letters: Vec<_> =
                letters.iter().map(|letter| letter_text(letter, is_batch)).collect();
            letters.sort();
            let observed = [repeated(uploads), answer, repeated(outcomes), repeated(letters)];
            if observed != row.expected {
                writeln!(problems, "  {}\n    was {observed:?}", row.line).unwrap();
            }
        }
    }

    /// What the row says about claims and answers comes true.
    fn prepare(&self, row: &Row) {
        let Services { clevertap, aws, secrets_manager } = &self.services;
        let replies = row.answers.iter().filter_map(|answer| match answer {
            Answer::OfCleverTap(replies) => Some(replies.clone()),
            _ => None,
        });
        clevertap.set_script(replies.flatten(), Reply::Normal);
        aws.forget();
        script(aws, row);
        secrets_manager.forget();
        script(secrets_manager, row);
        let (claim, now) = ("id:e-1", unix_time().as_millis());
        match row.delivered.split_once(", ") {
            Some((_, "claim expired")) => aws.put_claim(claim, "in_progress", now - 1),
            Some((_, "claim in progress elsewhere")) => {
                aws.put_claim(claim, "in_progress", now + 600_000);
            }
            Some((_, "claim done")) => aws.put_claim(claim, "done", 0),
            Some((_, passcode @ ("passcode revoked" | "passcode rotated"))) => {
                clevertap.set_passcode("the-next-passcode");
                if passcode == "passcode rotated" {
                    let rotated = secret_value("the-next-passcode", SHARED_SECRET);
                    secrets_manager.set_value(&rotated);
                }
            }
            _ if row.delivered == "… again" || row.delivered.starts_with("… redriven") => {
                aws.expire_claim(claim);
            }
            _ => {}
        }
    }

    async fn invoke(&self, event: &Value) -> Value {
        let started = Instant::now();
        let answer = self.function.invoke(event, "").await.expect("an answer");
        assert!(started.elapsed() < LAMBDA_TIMEOUT, "{:?}: {event}", started.elapsed());
        answer
    }

    async fn deliver(&self, event: &Value, age: u64) -> String {
        let (body, now) = (event.to_string().into_bytes(), unix_time().as_secs() - age);
        let webhook = Webhook::new(body, SHARED_SECRET, now);
        let answer = self.invoke(&webhook.envelope(Front::HttpApi)).await;
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        let words = format!("{} {}", answer["statusCode"], body["status"].as_str().unwrap_or(""));
        words.trim().to_owned()
    }

    async fn deliver_batch(&self, events: &[Value], attributes: &[(&str, &str)]) -> String {
        let messages = events.iter().zip(1..).map(|(event, number)| {
            let mut message = message(event, attributes);
            message["messageId"] = json!(format!("m-{number}"));
            message
        });
        let messages: Vec<_> = messages.collect();
        let answer = self.invoke(&json!({ "Records": messages })).await;
        let failures = answer["batchItemFailures"].as_array().expect("a list").iter();
        let mut numbers: Vec<_> =
            failures.map(|failure| number(&failure["itemIdentifier"])).collect();
        numbers.sort();
        match numbers.len() {
            0 => "none again".to_owned(),
            failed if failed == events.len() => "all again".to_owned(),
            _ => format!("{} again", numbers.join(", ")),
        }
    }

    /// How each event ended in the latest delivery, by its line in the log.
    fn outcomes(events: &[Value]) -> Vec<String> {
        let lines = in_memory::take_log().into_iter();
        let lines: Vec<Value> =
            lines.map(|line| serde_json::from_str(&line).expect("JSON")).collect();
        let outcome = |event: &Value| {
            // Without the secret, the body is not read.
            let is_it = |line: &&Value| {
                let id = &line["event_id"];
                !line["outcome"].is_null() && (id.is_null() || *id == event["event_id"])
            };
            let line = lines.iter().rfind(is_it).expect("a line for each event");
            let word = line["reason"].as_str().or(line["outcome"].as_str()).unwrap();
            let profile = line["profile_refused"].as_u64();
            let profile = profile.map_or(String::new(), |code| format!(", profile {code}"));
            let claims = if line["ClaimsUnavailable"] == 1 {
                ", ClaimsUnavailable"
            } else {
                ""
            };
            format!("{word}{profile}{claims}")
        };
        events.iter().map(outcome).collect()
    }
}

fn has_resources(row: &Row) -> bool {
    let (_, without) = row.delivered.split_once(", ").unwrap_or_default();
    !["no dead-letter queue", "secret not read before"].contains(&without)
}

/// One whose first reads are answered as the row says.
fn secrets_manager(row: &Row) -> Faulty<SecretsManager> {
    let text = row.answers.iter().find_map(|answer| match answer {
        Answer::Secret(text) => Some((*text).to_owned()),
        _ => None,
    });
    let text = text.unwrap_or_else(|| secret_value(PASSCODE, SHARED_SECRET));
    let manager = Faulty::from(SecretsManager::new(SECRET_ID, &text));
    if row.delivered.contains("secret") {
        script(&manager, row);
    }
    manager
}

fn script<S>(service: &Faulty<S>, row: &Row) {
    for answer in &row.answers {
        if let Answer::OfAws(texts, faults) = answer {
            service.script_for(texts, faults.clone());
        }
    }
}

/// The records of an upload.
fn records(body: &[u8], is_batch: bool) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    let name = |record: &Value| match (record["type"].as_str(), record["evtName"].as_str()) {
        (Some("profile"), _) => "profile".to_owned(),
        (_, Some("Charged" | "Refunded")) => "revenue".to_owned(),
        _ if is_batch => number(&record["evtData"]["event_id"]),
        _ => "event".to_owned(),
    };
    body["d"].as_array().unwrap().iter().map(name).collect::<Vec<_>>().join("+")
}

fn events(delivered: &str) -> Vec<Value> {
    let (kind, _) = delivered.split_once(", ").unwrap_or((delivered, ""));
    let of_users = |users: &[u32], kind| -> Vec<_> {
        users
            .iter()
            .zip(1..)
            .map(|(user, number)| webhook(number, *user, kind))
            .collect()
    };
    match kind {
        "batch: three users" => of_users(&[1, 2, 3], "event"),
        "batch: three events of a user" => of_users(&[1, 1, 1], "event"),
        "batch: three events of two users" => of_users(&[1, 2, 1], "event"),
        "batch: two profiles of a user" => of_users(&[1, 1], "profile+event"),
        "batch: a profile" => of_users(&[1], "profile+event"),
        "batch: an event and its copy" => vec![webhook(1, 1, "event"); 2],
        "batch: an event and one without a usable name" => {
            vec![webhook(1, 1, "event"), webhook(2, 1, "event without a usable name")]
        }
        kind => of_users(&[1], kind),
    }
}

fn webhook(number: u32, user: u32, kind: &str) -> Value {
    let mut webhook = event(&format!("e-{number}"), &format!("u-{user}"));
    let mut set = |field: &str, value: Value| webhook[field] = value;
    match kind {
        "profile+event" => {}
        "profile of a switched-off event" => set("event_name", json!(DISABLED)),
        "event without a usable name" => set("event_name", json!("$$$")),
        "event+revenue" | "event+refund" => {
            set("event_name", json!("TRANSACTION_PROCESSED"));
            set("amount_in_usd", json!(if kind == "event+refund" { -5.0 } else { 5.0 }));
            set("store_transaction_id", json!("t-1"));
        }
        "anonymous event" => {
            set("user_id", Value::Null);
            set("anonymous_user_id", json!("a-1"));
        }
        "event" | "event without an id" => {
            // It writes no profile.
            set("event_name", json!("RETENTION_MESSAGE_REQUESTED"));
            if kind != "event" {
                set("event_id", Value::Null);
            }
        }
        _ => panic!("{kind}"),
    }
    webhook
}

fn number(id: &Value) -> String {
    id.as_str().unwrap().rsplit_once('-').unwrap().1.to_owned()
}

/// A dead letter in a few words.
fn letter_text(letter: &Value, is_batch: bool) -> String {
    let attributes = &letter["attributes"];
    let attribute = |name: &str, before: &str| {
        let value = attributes[name].as_str();
        value.map_or(String::new(), |value| format!("{before}{value}"))
    };
    let event = if is_batch {
        number(&attributes["event_id"]) + ": "
    } else {
        String::new()
    };
    let [reason, code] = [attribute("reason", ""), attribute("code", " ")];
    format!("{event}{reason}{code}{}", attribute("records", ", records "))
}

/// A list in which neighbours that are equal are counted.
fn repeated(items: Vec<String>) -> String {
    let groups = items.chunk_by(|left, right| left == right);
    let groups = groups.map(|group| match group.len() {
        1 => group[0].clone(),
        times => format!("{} ×{times}", group[0]),
    });
    groups.collect::<Vec<_>>().join(", ")
}
