//! What the function does with each answer of CleverTap and of AWS. The expectations are written by hand;
//! `odd_answers/tables.md` shows them to a reviewer.
//! It does not know how the function decides: it counts uploads and reads answers, log lines and dead letters.

mod aws;
mod clevertap;

use purchasely_clevertap::clock::unix_time;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;
use testkit::harness::{
    ACCOUNT_ID, PASSCODE, SECRET_ID, SHARED_SECRET, World, event, eventually, secret_value, signed,
};
use testkit::in_memory::{self, Services};
use testkit::messages::message;
use testkit::sockets::resources::Resources;
use testkit::webhook::Front as Gateway;
use testkit::world::aws::Aws;
use testkit::world::clevertap::{CleverTap, Reply};
use testkit::world::faulty::{Fault, Faulty};
use testkit::world::secrets_manager::SecretsManager;

/// All rows as tables.
const TABLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/odd_answers/tables.md");
const INTRODUCTION: &str = "\
# What the function does with each answer

The tests of `odd_answers.rs` deliver each row to the function's own code. `make docs` writes this page.

- **delivered:** without `profile` in it, an event that writes none.
- **uploads:** the records of each upload to CleverTap, in their order. In a batch from the event queue, the number of the event.
- **answers:** those to the first requests. After them, everything succeeds. `closed` and `reset` are connections that end before an answer.
- **HTTP answer:** for a batch, the messages that SQS delivers again.
- **outcome:** `reason` in the log, or `outcome` where there is no reason. `profile` is followed by the code with which CleverTap refused the profile.
- **dead letter:** its attributes `reason`, `code` and `records`.
- A line that starts with `…` delivers the event of the line before once more.
";
const HEADER: &str = "| delivered | answers | uploads | HTTP answer | outcome | dead letter |\n|---|---|---|---|---|---|\n";
/// A switched-off event, which has only a profile.
const DISABLED: &str = "SUBSCRIPTION_PAUSED";
/// More often than anything is tried.
const ALWAYS: usize = 99;

/// One delivery of a webhook or a batch.
struct Row {
    /// What is delivered; what starts with [`AGAIN`] or [`REDRIVEN`] is the webhook of the row before.
    delivered: &'static str,
    /// To the first requests, in their order; afterwards everything succeeds.
    answers: Vec<Answer>,
    /// The records of each upload.
    uploads: &'static str,
    answer: &'static str,
    outcome: &'static str,
    letter: &'static str,
}

const EVENT: &str = "event";
const PROFILE: &str = "profile of a switched-off event";
const WITH_PROFILE: &str = "profile+event";
const WITH_REVENUE: &str = "event+revenue";
const UNMAPPABLE: &str = "event without a usable name";
const BATCH: &str = "batch: three users";
const ONE_USER: &str = "batch: three events of a user";
const AGAIN: &str = "… again";
const AT_ONCE: &str = "… again within 10 s";
const REDRIVEN: &str = "… redriven";
const EXPIRED: &str = "event, claim expired";
const OLD_IN_PROGRESS: &str = "event, claim in progress elsewhere";
const OLD_DONE: &str = "event, claim done";
const NO_QUEUE: &str = "event, no dead-letter queue";
const SECRET: &str = "event, secret not read before";

/// An answer, as the table says it and as a stand-in gives it.
#[derive(Clone)]
struct Answer {
    text: String,
    times: usize,
    given: Given,
}

#[derive(Clone)]
enum Given {
    ByCleverTap(Reply),
    /// To the requests that contain these texts.
    ByAws(&'static [&'static str], Fault),
    /// The secret's text.
    Secret(&'static str),
}

impl Answer {
    fn new(text: impl Into<String>, given: Given) -> Self {
        Self { text: text.into(), times: 1, given }
    }

    fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }
}

fn row(
    delivered: &'static str,
    answers: impl IntoIterator<Item = Answer>,
    uploads: &'static str,
    answer: &'static str,
    outcome: &'static str,
    letter: &'static str,
) -> Row {
    Row {
        delivered,
        answers: answers.into_iter().collect(),
        uploads,
        answer,
        outcome,
        letter,
    }
}

fn cells(rows: &[Row]) -> Vec<String> {
    let cell = |text: String| if text.is_empty() { "–".to_owned() } else { text };
    let row = |row: &Row| {
        let answers = row.answers.iter().map(|answer| match answer.times {
            1 => answer.text.clone(),
            ALWAYS => format!("always {}", answer.text),
            times => format!("{} ×{times}", answer.text),
        });
        let answers = cell(answers.collect::<Vec<_>>().join(", "));
        let uploads = cell(row.uploads.to_owned());
        let letter = cell(row.letter.to_owned());
        format!(
            "{} | {answers} | {uploads} | {} | {} | {letter}",
            row.delivered, row.answer, row.outcome
        )
    };
    rows.iter().map(row).collect()
}

#[test]
fn the_tables_show_every_row() {
    let table = |heading: &str, rows: &[Row]| {
        let rows = cells(rows).into_iter().map(|row| format!("| {row} |\n"));
        format!("\n## {heading}\n\n{HEADER}{}", rows.collect::<String>())
    };
    let clevertap = table("CleverTap", &clevertap::rows());
    let aws = table("Secrets Manager, DynamoDB and SQS", &aws::rows());
    let note = "\n`claim`, `completion` and `accepted` are the writes to the claims table before the uploads, after acceptance, and after acceptance of a part of the event.\n";
    let page = [INTRODUCTION, &clevertap, &aws, note].concat();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(TABLES, &page).expect(TABLES);
    } else {
        let written = std::fs::read_to_string(TABLES).unwrap_or_default();
        assert!(written == page, "{TABLES} is stale: run `make docs`");
    }
}

#[test]
fn each_answer_of_clevertap_has_the_documented_consequence() {
    check(clevertap::rows());
}

#[test]
fn each_answer_of_aws_has_the_documented_consequence() {
    check(aws::rows());
}

/// One chain for each thing that only a real client shows.
#[tokio::test]
async fn each_end_of_a_connection_is_the_same_over_sockets() {
    let rows = clevertap::rows().into_iter().chain(aws::rows());
    let (mut seen, mut problems) = (HashSet::new(), String::new());
    for chain in chains(rows) {
        let ends = chain
            .iter()
            .flat_map(|row| &row.answers)
            .filter_map(|answer| answer.given.end());
        let before = seen.len();
        seen.extend(ends);
        if seen.len() > before {
            Setup::over_sockets(&chain[0]).await.check(&chain, &mut problems).await;
        }
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
    assert!(problems.is_empty(), "{problems}");
}

/// Runs all rows in virtual time.
fn check(rows: Vec<Row>) {
    let mut problems = String::new();
    for chain in chains(rows) {
        in_memory::run(async {
            Setup::in_memory(&chain[0]).await.check(&chain, &mut problems).await;
        });
    }
    assert!(problems.is_empty(), "{problems}");
}

/// Each first row with those that deliver its webhook again.
fn chains(rows: impl IntoIterator<Item = Row>) -> Vec<Vec<Row>> {
    let mut chains: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        match chains.last_mut() {
            Some(chain) if row.delivered.starts_with('…') => chain.push(row),
            _ => chains.push(vec![row]),
        }
    }
    chains
}

impl Given {
    /// What only a real client shows: how the connection ends, where that is not with a whole answer, or that it follows
    /// no redirect.
    fn end(&self) -> Option<String> {
        match self {
            Self::ByCleverTap(
                reply @ (Reply::CloseBeforeAnswer
                | Reply::AcceptThenClose
                | Reply::ResetBeforeAnswer
                | Reply::CutShort
                | Reply::Silent),
            ) => Some(format!("CleverTap: {reply:?}")),
            Self::ByCleverTap(Reply::Redirect { .. }) => Some("CleverTap: a redirect".to_owned()),
            Self::ByCleverTap(Reply::Answer { body, .. }) if body.len() > 1 << 20 => {
                Some("CleverTap: a long body".to_owned())
            }
            Self::ByAws(
                _,
                fault @ (Fault::DoneThenClosed
                | Fault::Closed
                | Fault::Reset
                | Fault::Silent
                | Fault::CutShort
                | Fault::Html),
            ) => Some(format!("AWS: {fault:?}")),
            _ => None,
        }
    }
}

/// A function of its own, and what its services are.
struct Setup {
    services: Services,
    function: Function,
}

enum Function {
    InMemory(in_memory::Function),
    Process(Box<World>),
}

const SETTINGS: [(&str, &str); 2] = [("REVENUE_EVENT", "Charged"), ("EVENTS_DISABLED", DISABLED)];

impl Setup {
    async fn in_memory(row: &Row) -> Self {
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
        let settings = [&required[..], resources, &SETTINGS].concat();
        in_memory::take_log();
        let function = in_memory::Function::start(services.clone(), &settings);
        if row.delivered != SECRET {
            // The start is over.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Self { services, function: Function::InMemory(function) }
    }

    async fn over_sockets(row: &Row) -> Self {
        let resources = Resources::make().await;
        let own = resources.settings();
        let settings = [if has_resources(row) { &own[..] } else { &[] }, &SETTINGS].concat();
        let world = World::start_with(secrets_manager(row), &settings).await;
        let services = Services {
            clevertap: (*world.clevertap).clone(),
            secrets_manager: (*world.secrets_manager).clone(),
            aws: (**resources).clone(),
        };
        Self {
            services,
            function: Function::Process(Box::new(world)),
        }
    }

    /// Delivers the rows of one webhook or batch one after another, and compares what was uploaded, answered, logged and
    /// stored.
    async fn check(&self, chain: &[Row], problems: &mut String) {
        let kind = chain[0].delivered;
        let is_batch = kind.starts_with("batch");
        let events: Vec<_> = match kind {
            BATCH => (1..=3).map(|n| webhook(n, n, EVENT)).collect(),
            ONE_USER => (1..=3).map(|n| webhook(n, 1, EVENT)).collect(),
            _ => vec![webhook(1, 1, kind)],
        };
        let mut observed = Vec::new();
        for (delivery, row) in chain.iter().enumerate() {
            self.prepare(row);
            let answer = match row.delivered.strip_prefix(REDRIVEN) {
                Some(records) => {
                    let records = records.strip_prefix(", records ").unwrap_or("event,revenue");
                    let attributes = [("reason", "refused"), ("records", records)];
                    self.deliver_batch(&events, &attributes).await
                }
                None if is_batch => self.deliver_batch(&events, &[]).await,
                None => self.deliver(&events[0]).await,
            };
            let uploads = self.services.clevertap.take_uploads();
            let uploads: Vec<_> =
                uploads.iter().map(|upload| records(&upload.body, is_batch)).collect();
            let outcomes = self.outcomes(&events, delivery + 1, kind == SECRET).await;
            let letters = self.services.aws.letters();
            let mut letters: Vec<_> =
                letters.iter().map(|letter| letter_text(letter, is_batch)).collect();
            letters.sort();
            observed.push([repeated(&uploads), answer, repeated(&outcomes), repeated(&letters)]);
        }
        let expected = chain.iter().map(|row| [row.uploads, row.answer, row.outcome, row.letter]);
        if !expected.eq(observed.iter().map(|row| row.each_ref().map(String::as_str))) {
            let shown = cells(chain).join("\n  ");
            writeln!(problems, "  {shown}\n    was {observed:?}").unwrap();
        }
    }

    /// What the row says about claims and answers comes true.
    fn prepare(&self, row: &Row) {
        let Services { clevertap, aws, .. } = &self.services;
        let replies = row.answers.iter().filter_map(|answer| match &answer.given {
            Given::ByCleverTap(reply) => Some(vec![reply.clone(); answer.times]),
            _ => None,
        });
        clevertap.set_script(replies.flatten(), Reply::Normal);
        aws.forget();
        script(aws, row);
        let (claim, now) = ("id:e-1", unix_time().as_millis());
        match row.delivered {
            EXPIRED => aws.put_claim(claim, "in_progress", now - 1),
            OLD_IN_PROGRESS => aws.put_claim(claim, "in_progress", now + 600_000),
            OLD_DONE => aws.put_claim(claim, "done", 0),
            again if again.starts_with('…') && again != AT_ONCE => aws.expire_claim(claim),
            _ => {}
        }
    }

    async fn invoke(&self, event: &Value) -> Value {
        match &self.function {
            Function::InMemory(function) => function.invoke(event, "").await.expect("an answer"),
            Function::Process(world) => world.api.invoke(event).await.expect("an answer"),
        }
    }

    async fn deliver(&self, event: &Value) -> String {
        let webhook = signed(event.to_string().as_bytes(), SHARED_SECRET);
        let answer = self.invoke(&webhook.envelope(Gateway::HttpApi)).await;
        let body: Value = serde_json::from_str(answer["body"].as_str().unwrap()).unwrap();
        match body["status"].as_str() {
            Some(word) => format!("{} {word}", answer["statusCode"]),
            None => answer["statusCode"].to_string(),
        }
    }

    async fn deliver_batch(&self, events: &[Value], attributes: &[(&str, &str)]) -> String {
        let messages: Vec<_> = events.iter().map(|event| message(event, attributes)).collect();
        let answer = self.invoke(&json!({ "Records": messages })).await;
        let failures = answer["batchItemFailures"].as_array().expect("a list").iter();
        let number = |failure: &Value| number(failure["itemIdentifier"].as_str().unwrap());
        let mut numbers: Vec<_> = failures.map(number).collect();
        numbers.sort();
        match numbers.len() {
            0 => "none again".to_owned(),
            3 => "all again".to_owned(),
            _ => format!("{} again", numbers.join(", ")),
        }
    }

    /// How each event ended in its latest delivery, by its line in the log.
    async fn outcomes(&self, events: &[Value], deliveries: usize, is_alone: bool) -> Vec<String> {
        let log = match &self.function {
            Function::InMemory(_) => in_memory::take_log(),
            Function::Process(world) => {
                let is_outcome = |line: &&String| line.contains(r#""outcome""#);
                let count = || world.function.log().iter().filter(is_outcome).count();
                eventually("a line for each delivery", || count() >= deliveries * events.len())
                    .await;
                world.function.log()
            }
        };
        let lines: Vec<Value> =
            log.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let outcome = |event: &Value| {
            let is_it = |line: &&Value| {
                !line["outcome"].is_null() && (is_alone || line["event_id"] == event["event_id"])
            };
            let line = lines.iter().rfind(is_it).expect("a line for each event");
            let word = line["reason"].as_str().or(line["outcome"].as_str()).unwrap();
            let mut outcome = word.to_owned();
            if let Some(code) = line["profile_refused"].as_u64() {
                write!(outcome, ", profile {code}").unwrap();
            }
            if line["ClaimsUnavailable"] == 1 {
                outcome.push_str(", ClaimsUnavailable");
            }
            outcome
        };
        events.iter().map(outcome).collect()
    }
}

fn has_resources(row: &Row) -> bool {
    !matches!(row.delivered, NO_QUEUE | SECRET)
}

/// One whose first reads are answered as the row says.
fn secrets_manager(row: &Row) -> Faulty<SecretsManager> {
    let text = row.answers.iter().find_map(|answer| match answer.given {
        Given::Secret(text) => Some(text),
        _ => None,
    });
    let valid = secret_value(PASSCODE, SHARED_SECRET);
    let manager = Faulty::from(SecretsManager::new(SECRET_ID, text.unwrap_or(&valid)));
    script(&manager, row);
    manager
}

fn script<S>(service: &Faulty<S>, row: &Row) {
    for answer in &row.answers {
        if let Given::ByAws(texts, fault) = &answer.given {
            service.script_for(texts, vec![fault.clone(); answer.times]);
        }
    }
}

/// The records of an upload.
fn records(body: &[u8], is_batch: bool) -> String {
    let body: Value = serde_json::from_slice(body).unwrap();
    let name = |record: &Value| match (record["type"].as_str(), record["evtName"].as_str()) {
        (Some("profile"), _) => "profile".to_owned(),
        (_, Some("Charged")) => "revenue".to_owned(),
        _ if is_batch => number(record["evtData"]["event_id"].as_str().unwrap()),
        _ => "event".to_owned(),
    };
    body["d"].as_array().unwrap().iter().map(name).collect::<Vec<_>>().join("+")
}

fn webhook(number: u32, user: u32, kind: &str) -> Value {
    let mut webhook = event(&format!("e-{number}"), &format!("u-{user}"));
    match kind {
        WITH_PROFILE => {}
        PROFILE => webhook["event_name"] = json!(DISABLED),
        UNMAPPABLE => webhook["event_name"] = json!("$$$"),
        WITH_REVENUE => {
            webhook["event_name"] = json!("TRANSACTION_PROCESSED");
            webhook["amount_in_usd"] = json!(5.0);
            webhook["store_transaction_id"] = json!("t-1");
        }
        // It writes no profile.
        _ => webhook["event_name"] = json!("RETENTION_MESSAGE_REQUESTED"),
    }
    webhook
}

fn number(id: &str) -> String {
    id.rsplit_once('-').unwrap().1.to_owned()
}

/// A dead letter in a few words.
fn letter_text(letter: &Value, is_batch: bool) -> String {
    let attribute = |name: &str| letter["attributes"][name].as_str();
    let mut text = String::new();
    if is_batch {
        write!(text, "{}: ", number(attribute("event_id").unwrap())).unwrap();
    }
    text.push_str(attribute("reason").unwrap());
    if let Some(code) = attribute("code") {
        write!(text, " {code}").unwrap();
    }
    if let Some(records) = attribute("records") {
        write!(text, ", records {records}").unwrap();
    }
    text
}

/// A list in which neighbours that are equal are counted.
fn repeated(items: &[String]) -> String {
    let groups = items.chunk_by(|left, right| left == right);
    let groups = groups.map(|group| match group.len() {
        1 => group[0].clone(),
        times => format!("{} ×{times}", group[0]),
    });
    groups.collect::<Vec<_>>().join(", ")
}
