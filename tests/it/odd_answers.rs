//! What the function does with each answer of CleverTap and of AWS. The expectations are written by hand;
//! `odd_answers/tables.md` shows them to a reviewer.
//! It does not know how the function decides: it counts uploads and reads answers, log lines and dead letters.

mod aws;
mod clevertap;

use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use std::fmt::Write;
use testkit::aws_front::{Fault, Front};
use testkit::clevertap::Reply;
use testkit::harness::{
    PASSCODE, SHARED_SECRET, World, event, listen, now_ms, secret_value, signed,
};
use testkit::messages::message;
use testkit::resources::Resources;
use testkit::secrets_manager::SecretsManager;
use testkit::webhook::Front as Gateway;

/// All rows as tables.
const TABLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/odd_answers/tables.md");
const INTRODUCTION: &str = "\
# What the function does with each answer

The tests of `odd_answers.rs` deliver each row to the real function. `make docs` writes this page.

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
/// Invocations of a process at the same time.
const CONCURRENCY: &str = "8";
/// Chains of rows at the same time: none waits for an invocation.
const CHAINS: usize = 6;

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

#[tokio::test]
async fn each_answer_of_clevertap_has_the_documented_consequence() {
    check(clevertap::rows()).await;
}

#[tokio::test]
async fn each_answer_of_aws_has_the_documented_consequence() {
    check(aws::rows()).await;
}

/// Runs all rows, those of different events at once, several in each process.
async fn check(rows: Vec<Row>) {
    let mut chains: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        match chains.last_mut() {
            Some(chain) if row.delivered.starts_with('…') => chain.push(row),
            _ => chains.push(vec![row]),
        }
    }
    let full = Setup::full().await;
    let no_queue = Setup::without_queue().await;
    let checks = chains.iter().enumerate().map(|(number, chain)| {
        let (full, no_queue) = (&full, &no_queue);
        async move {
            let key = format!("r{number:03}x");
            let observed = match chain[0].delivered {
                NO_QUEUE => no_queue.check(&key, chain).await,
                SECRET => Setup::with_secret(&chain[0]).await.check(&key, chain).await,
                _ => full.check(&key, chain).await,
            };
            (key, observed)
        }
    });
    let checked: Vec<_> = stream::iter(checks).buffered(CHAINS).collect().await;
    let letters = full.resources.as_ref().unwrap().letters();
    let mut problems = String::new();
    for (chain, (key, observed)) in chains.iter().zip(checked) {
        let is_batch = chain[0].delivered.starts_with("batch");
        let mut found: Vec<_> = letters
            .iter()
            .filter(|letter| letter["body"].as_str().unwrap().contains(&key))
            .map(|letter| letter_text(letter, is_batch))
            .collect();
        found.sort_by_key(|text| is_batch.then(|| text.clone()));
        let expected = chain.iter().map(|row| row.letter).filter(|text| !text.is_empty());
        let expected: Vec<_> = expected.map(str::to_owned).collect();
        let (found, expected) = (repeated(&found), repeated(&expected));
        let expected_rows = chain.iter().map(|row| [row.uploads, row.answer, row.outcome]);
        let expected_rows: Vec<_> = expected_rows.map(|row| row.map(str::to_owned)).collect();
        if observed != expected_rows || found != expected {
            let shown = cells(chain).join("\n  ");
            writeln!(problems, "  {shown}\n    was {observed:?}, letters {found}").unwrap();
        }
    }
    assert!(problems.is_empty(), "{problems}");
}

/// A function, and what its resources are.
struct Setup {
    world: World,
    resources: Option<Resources>,
    /// Before SQS and DynamoDB.
    aws: Option<Front>,
}

impl Setup {
    async fn full() -> Self {
        let resources = Resources::make().await;
        let (aws, url) = front(&resources.endpoint).await;
        let settings = [
            ("AWS_ENDPOINT_URL_SQS", &*url),
            ("AWS_ENDPOINT_URL_DYNAMODB", &url),
            ("REVENUE_EVENT", "Charged"),
            ("EVENTS_DISABLED", DISABLED),
            ("AWS_LAMBDA_MAX_CONCURRENCY", CONCURRENCY),
        ];
        let world = World::start(&[&resources.settings()[..], &settings].concat()).await;
        Self { world, resources: Some(resources), aws: Some(aws) }
    }

    async fn without_queue() -> Self {
        let settings = [("AWS_LAMBDA_MAX_CONCURRENCY", CONCURRENCY)];
        Self {
            world: World::start(&settings).await,
            resources: None,
            aws: None,
        }
    }

    /// A function whose first reads of the secret are answered as the row says.
    async fn with_secret(row: &Row) -> Self {
        let text = row.answers.iter().find_map(|answer| match answer.given {
            Given::Secret(text) => Some(text),
            _ => None,
        });
        let valid = secret_value(PASSCODE, SHARED_SECRET);
        let manager = SecretsManager::new("relay", text.unwrap_or(&valid));
        let (listener, url) = listen().await;
        tokio::spawn(manager.serve(listener));
        let (aws, url) = front(&url).await;
        script(&aws, "", row);
        let world = World::start(&[("AWS_ENDPOINT_URL_SECRETS_MANAGER", &url)]).await;
        Self { world, resources: None, aws: None }
    }

    /// Delivers the rows of one webhook or batch one after another: what was uploaded, answered and logged.
    async fn check(&self, key: &str, chain: &[Row]) -> Vec<[String; 3]> {
        let mut observed = Vec::new();
        let (kind, mut uploaded) = (chain[0].delivered, 0);
        let is_batch = kind.starts_with("batch");
        let events: Vec<_> = match kind {
            BATCH => (1..=3).map(|n| webhook(key, n, n, EVENT)).collect(),
            ONE_USER => (1..=3).map(|n| webhook(key, n, 1, EVENT)).collect(),
            _ => vec![webhook(key, 1, 1, kind)],
        };
        for (delivery, row) in chain.iter().enumerate() {
            self.prepare(key, row);
            let again = || self.deliver_batch(&events, &[]);
            let answer = match row.delivered.strip_prefix(REDRIVEN) {
                Some(records) => {
                    let records = records.strip_prefix(", records ").unwrap_or("event,revenue");
                    let attributes = [("reason", "refused"), ("records", records)];
                    self.deliver_batch(&events, &attributes).await
                }
                None if is_batch => again().await,
                None => self.deliver(&events[0]).await,
            };
            let uploads = self.uploads(key, is_batch);
            let outcomes = self.outcomes(&events, delivery + 1, kind == SECRET).await;
            observed.push([repeated(&uploads[uploaded..]), answer, repeated(&outcomes)]);
            uploaded = uploads.len();
        }
        observed
    }

    /// What the row says about claims and answers comes true.
    fn prepare(&self, key: &str, row: &Row) {
        let replies = row.answers.iter().filter_map(|answer| match &answer.given {
            Given::ByCleverTap(reply) => Some(vec![reply.clone(); answer.times]),
            _ => None,
        });
        self.world.clevertap.script_for(key, replies.flatten());
        if let Some(aws) = &self.aws {
            aws.forget(key);
            script(aws, key, row);
        }
        let Some(resources) = &self.resources else {
            return;
        };
        let claim = format!("id:{key}-1");
        match row.delivered {
            EXPIRED => resources.put_claim(&claim, "in_progress", now_ms() - 1),
            OLD_IN_PROGRESS => resources.put_claim(&claim, "in_progress", now_ms() + 600_000),
            OLD_DONE => resources.put_claim(&claim, "done", 0),
            again if again.starts_with('…') && again != AT_ONCE => {
                resources.expire_claim(&claim);
            }
            _ => {}
        }
    }

    async fn deliver(&self, event: &Value) -> String {
        let webhook = signed(event.to_string().as_bytes(), SHARED_SECRET);
        let answer = self.world.invoke(&webhook.envelope(Gateway::HttpApi)).await;
        match answer.body["status"].as_str() {
            Some(word) => format!("{} {word}", answer.status),
            None => answer.status.to_string(),
        }
    }

    async fn deliver_batch(&self, events: &[Value], attributes: &[(&str, &str)]) -> String {
        let messages: Vec<_> = events.iter().map(|event| message(event, attributes)).collect();
        let answer = self.world.api.invoke(json!({ "Records": messages })).await;
        let answer = answer.expect("an answer");
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

    /// The records of each upload of these events.
    fn uploads(&self, key: &str, is_batch: bool) -> Vec<String> {
        let records = |body: &[u8]| {
            let body: Value = serde_json::from_slice(body).unwrap();
            let name = |record: &Value| match (record["type"].as_str(), record["evtName"].as_str())
            {
                (Some("profile"), _) => "profile".to_owned(),
                (_, Some("Charged")) => "revenue".to_owned(),
                _ if is_batch => number(record["evtData"]["event_id"].as_str().unwrap()),
                _ => "event".to_owned(),
            };
            body["d"].as_array().unwrap().iter().map(name).collect::<Vec<_>>().join("+")
        };
        let uploads = self.world.clevertap.uploads().into_iter();
        uploads
            .filter(|upload| String::from_utf8_lossy(&upload.body).contains(key))
            .map(|upload| records(&upload.body))
            .collect()
    }

    /// How each event ended in its latest delivery, by its line in the log.
    async fn outcomes(&self, events: &[Value], deliveries: usize, is_alone: bool) -> Vec<String> {
        let mut outcomes = Vec::new();
        for event in events {
            let lines = || {
                let lines = self.world.function.log().into_iter();
                let lines = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
                let is_it = |line: &Value| {
                    !line["outcome"].is_null()
                        && (is_alone || line["event_id"] == event["event_id"])
                };
                lines.filter(is_it).collect::<Vec<_>>()
            };
            testkit::harness::eventually("a line for each delivery", || {
                lines().len() >= deliveries
            })
            .await;
            let line = &lines()[deliveries - 1];
            let word = line["reason"].as_str().or(line["outcome"].as_str()).unwrap();
            let mut outcome = word.to_owned();
            if let Some(code) = line["profile_refused"].as_u64() {
                write!(outcome, ", profile {code}").unwrap();
            }
            if line["ClaimsUnavailable"] == 1 {
                outcome.push_str(", ClaimsUnavailable");
            }
            outcomes.push(outcome);
        }
        outcomes
    }
}

async fn front(upstream: &str) -> (Front, String) {
    let front = Front::new(upstream);
    let (listener, url) = listen().await;
    tokio::spawn(front.clone().serve(listener));
    (front, url)
}

fn script(aws: &Front, key: &str, row: &Row) {
    for answer in &row.answers {
        if let Given::ByAws(texts, fault) = &answer.given {
            let texts: Vec<_> = texts.iter().copied().chain([key]).collect();
            aws.script_for(&texts, vec![fault.clone(); answer.times]);
        }
    }
}

fn webhook(key: &str, number: u32, user: u32, kind: &str) -> Value {
    let mut webhook = event(&format!("{key}-{number}"), &format!("u-{key}-{user}"));
    match kind {
        WITH_PROFILE => {}
        PROFILE => webhook["event_name"] = json!(DISABLED),
        UNMAPPABLE => webhook["event_name"] = json!("$$$"),
        WITH_REVENUE => {
            webhook["event_name"] = json!("TRANSACTION_PROCESSED");
            webhook["amount_in_usd"] = json!(5.0);
            webhook["store_transaction_id"] = json!(format!("t-{key}"));
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
