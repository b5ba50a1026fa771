//! The function's own requests have the same answers from an emulator of AWS as from the table, the queues and the
//! secret in memory, by which the other tests judge the function.
//! It does not know what the function makes of an answer; it sees what [`purchasely_clevertap::aws`] returns.

use aws_config::SdkConfig;
use bytes::Bytes;
use http::{Request, Response};
use purchasely_clevertap::aws::claims::{Claim, Claims};
use purchasely_clevertap::aws::queues::{NewMessage, Queue};
use purchasely_clevertap::aws::secret::Secrets;
use purchasely_clevertap::clock;
use purchasely_clevertap::http::{Exchange, Http, NoResponse, SharedHttp};
use serde_json::Value;
use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::emulator;
use testkit::harness::{PASSCODE, SHARED_SECRET, secret_value};
use testkit::process::plain_client;
use testkit::sockets::Server;
use testkit::sockets::resources::Resources;
use testkit::world::secrets_manager::SecretsManager;

const SECRET: &str = "contract";
/// Longer than a claim in progress.
const LATER: Duration = Duration::from_secs(11);

/// Each step, what the function's code returns, and what AWS answered.
const EXPECTED: [&str; 25] = [
    "a claim: taken [] (200)",
    "again: InProgress (400 ConditionalCheckFailedException)",
    "what was accepted: true (200)",
    "more: true (200)",
    "once it has expired: taken [\"event\", \"revenue\"] (200)",
    "as first claimed: true ()",
    "complete: true (200)",
    "a claim that is done: Done (400 ConditionalCheckFailedException)",
    "a claim whose answer is lost: taken [] (200, 200)",
    "no claim yet: true (200)",
    "its claim: taken [\"event\"] (200)",
    "no table: Unavailable (400 ResourceNotFoundException)",
    "no table: false (400 ResourceNotFoundException)",
    "a message: true (200)",
    "its copy: true (200)",
    "what is no XML: true (200)",
    "nothing: true (200)",
    "received: 1 77++ - ()",
    "their group is locked:  ()",
    "received once delayed by nothing: 1 77++ - (200)",
    "delayed by handles that are old:  (200 refuses 3)",
    "no queue: false (400 QueueDoesNotExist)",
    "no queue:  (400 QueueDoesNotExist)",
    "the secret: Some(\"shared-secret-of-the-tests\") (200)",
    "no secret: None (400 ResourceNotFoundException)",
];

/// The settings of one world, and a way to it that notes its answers.
struct World {
    table: String,
    queue_url: String,
    line: Line,
    config: SdkConfig,
    secrets_config: SdkConfig,
}

/// Sends requests, notes the status and the error codes of each answer, and can lose one.
#[derive(Clone, Debug)]
struct Line {
    client: reqwest::Client,
    answers: Arc<Mutex<Vec<String>>>,
    loses_the_next: Arc<AtomicBool>,
}

impl World {
    async fn new(endpoint: &str, secrets_endpoint: &str, table: &str, queue_url: &str) -> Self {
        let line = Line {
            client: plain_client(),
            answers: Arc::default(),
            loses_the_next: Arc::default(),
        };
        let http = SharedHttp(Arc::new(line.clone()));
        let config = async |endpoint| {
            let config = emulator::config(endpoint).await.to_builder();
            config.http_client(http.clone()).build()
        };
        Self {
            table: table.to_owned(),
            queue_url: queue_url.to_owned(),
            config: config(endpoint).await,
            secrets_config: config(secrets_endpoint).await,
            line,
        }
    }

    fn claims(&self, table: &str) -> Claims {
        Claims::new(aws_sdk_dynamodb::Client::new(&self.config), table.to_owned())
    }

    fn queue(&self, url: &str) -> Queue {
        let client = aws_sdk_sqs::Client::new(&self.config);
        Queue { client, url: url.to_owned(), setting: "A_QUEUE" }
    }

    /// What the secret with this id holds, if the function can use it.
    async fn secret(&self, id: &str) -> Option<String> {
        let client = aws_sdk_secretsmanager::Client::new(&self.secrets_config);
        let secret = Arc::new(Secrets::new(client, id.to_owned(), true)).get().await?;
        Some(secret.shared_secrets().collect())
    }

    /// Makes every request of the function's. `receive` takes all visible messages, each as its body and its handle.
    async fn observe(&self, receive: impl AsyncFn() -> Vec<[String; 2]>) -> Vec<String> {
        let mut seen = Vec::new();
        let mut note = |step: &str, returned: String| {
            let answers = std::mem::take(&mut *self.line.answers.lock().unwrap());
            seen.push(format!("{step}: {returned} ({})", answers.join(", ")));
        };

        clock::simulate(clock::now());
        let claims = self.claims(&self.table);
        let first = claims.claim("id:1").await;
        note("a claim", text(&first));
        note("again", text(&claims.claim("id:1").await));
        note("what was accepted", claims.add_accepted("id:1", &["event"]).await.to_string());
        note("more", claims.add_accepted("id:1", &["event", "revenue"]).await.to_string());
        clock::simulate(clock::now() + LATER);
        let second = claims.claim("id:1").await;
        note("once it has expired", text(&second));
        let first_at = |claim| match claim {
            Claim::Taken { first_at, .. } => first_at,
            _ => None,
        };
        note("as first claimed", (first_at(first) == first_at(second)).to_string());
        note("complete", claims.complete("id:1").await.to_string());
        clock::simulate(clock::now() + LATER);
        note("a claim that is done", text(&claims.claim("id:1").await));
        self.line.loses_the_next.store(true, Ordering::Relaxed);
        note("a claim whose answer is lost", text(&claims.claim("id:2").await));
        note("no claim yet", claims.add_accepted("id:3", &["event"]).await.to_string());
        note("its claim", text(&claims.claim("id:3").await));
        let missing = self.claims("missing");
        note("no table", text(&missing.claim("id:1").await));
        note("no table", missing.complete("id:1").await.to_string());

        let queue = self.queue(&self.queue_url);
        let message = |body, once| NewMessage {
            body,
            attributes: vec![("reason", Some(Cow::Borrowed("refused"))), ("code", None)],
            group: b"u",
            once,
        };
        note("a message", queue.send(&message(b"1", Some("a"))).await.to_string());
        note("its copy", queue.send(&message(b"2", Some("a"))).await.to_string());
        let odd = "\u{fffe}".as_bytes();
        note("what is no XML", queue.send(&message(odd, None)).await.to_string());
        note("nothing", queue.send(&message(b"", None)).await.to_string());
        let received = receive().await;
        let handles = || received.iter().map(|[_, handle]| (&**handle, Duration::ZERO));
        note("received", bodies(&received));
        note("their group is locked", bodies(&receive().await));
        queue.delay(handles()).await;
        let again = receive().await;
        note("received once delayed by nothing", bodies(&again));
        queue.delay(handles()).await;
        note("delayed by handles that are old", bodies(&receive().await));
        let nowhere = self.queue(&self.queue_url.replace("events", "missing"));
        note("no queue", nowhere.send(&message(b"1", None)).await.to_string());
        nowhere.delay(handles()).await;
        note("no queue", String::new());

        note("the secret", format!("{:?}", self.secret(SECRET).await));
        note("no secret", format!("{:?}", self.secret("missing").await));
        seen
    }
}

impl Http for Line {
    fn exchange(&self, request: Request<Bytes>, max_bytes: usize) -> Exchange {
        let exchange = self.client.exchange(request, max_bytes);
        let is_lost = self.loses_the_next.swap(false, Ordering::Relaxed);
        let answers = Arc::clone(&self.answers);
        Box::pin(async move {
            let answer = exchange.await?;
            answers.lock().unwrap().push(words(&answer));
            if is_lost { Err(NoResponse::Lost) } else { Ok(answer) }
        })
    }
}

/// The status of an answer, its error code, and how many of a batch it refuses.
fn words(answer: &Response<Option<Bytes>>) -> String {
    let body = answer.body().as_deref().unwrap_or_default();
    let body: Value = serde_json::from_slice(body).unwrap_or_default();
    // The SDK too ignores what is before a number sign.
    let code = body["__type"].as_str().and_then(|code| code.rsplit('#').next());
    let refused = body["Failed"].as_array().filter(|failed| !failed.is_empty());
    let words = [
        Some(answer.status().as_u16().to_string()),
        code.map(str::to_owned),
        refused.map(|refused| format!("refuses {}", refused.len())),
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn text(claim: &Claim) -> String {
    match claim {
        Claim::Taken { accepted, .. } => {
            let mut accepted = accepted.clone();
            accepted.sort();
            format!("taken {accepted:?}")
        }
        other => format!("{other:?}"),
    }
}

fn bodies(messages: &[[String; 2]]) -> String {
    let bodies = messages.iter().map(|[body, _]| &**body);
    bodies.collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_emulator_answers_as_expected() {
    let resources = emulator::Resources::make().await;
    let endpoint = &resources.endpoint;
    let config = emulator::config(endpoint).await;
    let secrets_manager = aws_sdk_secretsmanager::Client::new(&config);
    let create = secrets_manager.create_secret().name(SECRET);
    let create = create.secret_string(secret_value(PASSCODE, SHARED_SECRET));
    create.send().await.expect("a secret");
    let world = World::new(endpoint, endpoint, &resources.table, &resources.event_queue_url).await;
    let receive = async || {
        let receive = resources.sqs.receive_message().queue_url(&resources.event_queue_url);
        let received = receive.max_number_of_messages(10).visibility_timeout(300).send().await;
        let messages = received.expect("the queue answers").messages.unwrap_or_default();
        let messages = messages.into_iter();
        messages
            .map(|message| [message.body.unwrap(), message.receipt_handle.unwrap()])
            .collect()
    };
    assert_eq!(world.observe(receive).await, EXPECTED);
}

#[tokio::test]
async fn the_resources_in_memory_answer_as_expected() {
    let resources = Resources::make().await;
    let [.., (_, table), _, _] = resources.settings();
    let manager = SecretsManager::new(SECRET, &secret_value(PASSCODE, SHARED_SECRET));
    let secrets = Server::start(manager).await;
    let queue_url = &resources.event_queue_url;
    let world = World::new(&resources.url, &secrets.url, table, queue_url).await;
    let receive = async || {
        let messages = Mutex::new(Vec::new());
        // It fails, and so deletes nothing.
        let fail = async |batch: Value| {
            let records = batch["Records"].as_array().unwrap().iter();
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            *messages.lock().unwrap() = records
                .map(|record| [text(&record["body"]), text(&record["receiptHandle"])])
                .collect();
            Err(Value::Null)
        };
        resources.poll(fail).await;
        messages.into_inner().unwrap()
    };
    assert_eq!(world.observe(receive).await, EXPECTED);
}
