//! An event queue, a dead-letter queue and a table of claims in memory, which the function reaches over a socket.
//! It does not know what the function writes to them. [`crate::emulator`] has the same in an emulator.

use crate::connections::{Connections, Ending};
use crate::harness::{World, listen};
use crate::simulation::{ClaimsTable, Queue};
use bytes::Bytes;
use hyper::Request;
use purchasely_clevertap::clock::unix_time;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Of the template.
const MAX_RECEIVE_COUNT: u32 = 1000;
/// How often the event queue is asked for messages.
const POLLING: Duration = Duration::from_millis(50);
const TABLE: &str = "claims";
const EVENT_QUEUE: &str = "events.fifo";
const DEAD_LETTER_QUEUE: &str = "dead.fifo";

/// The three resources, alone on a port. Clones are the same resources.
#[derive(Clone)]
pub struct Resources {
    pub endpoint: String,
    pub event_queue_url: String,
    pub dead_letter_queue_url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    claims: ClaimsTable,
    events: Queue,
    dead_letters: Queue,
}

/// A relay with a dead-letter queue, an event queue and a claims table of its own.
pub async fn with_resources(settings: &[(&str, &str)]) -> (World, Resources) {
    let resources = Resources::make().await;
    let settings = [&resources.settings()[..], settings].concat();
    (World::start(&settings).await, resources)
}

impl Resources {
    pub async fn make() -> Self {
        let (listener, endpoint) = listen().await;
        let state = Arc::<Mutex<State>>::default();
        let queue_url = |name| format!("{endpoint}/123456789012/{name}");
        let resources = Self {
            event_queue_url: queue_url(EVENT_QUEUE),
            dead_letter_queue_url: queue_url(DEAD_LETTER_QUEUE),
            endpoint,
            state: Arc::clone(&state),
        };
        let answer = move |request: Request<Bytes>| {
            let (status, body) = state.lock().unwrap().answer(&request);
            let answer = Ending::answer(status, "application/x-amz-json-1.0", body.to_string());
            std::future::ready(answer)
        };
        tokio::spawn(async move { Connections::new().serve_listener(listener, answer).await });
        resources
    }

    /// The settings that make the function use them.
    pub fn settings(&self) -> [(&str, &str); 5] {
        [
            ("EVENT_QUEUE_URL", &self.event_queue_url),
            ("DEAD_LETTER_QUEUE_URL", &self.dead_letter_queue_url),
            ("DEDUPLICATION_TABLE", TABLE),
            ("AWS_ENDPOINT_URL_SQS", &self.endpoint),
            ("AWS_ENDPOINT_URL_DYNAMODB", &self.endpoint),
        ]
    }

    /// Delivers one batch of the event queue to a function, if a message is visible, and returns how many it had. Like
    /// Lambda, it deletes none where the function fails, and all where the answer has no list.
    pub async fn poll(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) -> usize {
        let batch = {
            let state = &mut *self.state.lock().unwrap();
            state.events.receive(unix_time(), MAX_RECEIVE_COUNT, &mut state.dead_letters)
        };
        if batch.is_empty() {
            return 0;
        }
        if let Ok(answer) = invoke(json!({ "Records": batch })).await {
            let failures = answer["batchItemFailures"].as_array();
            let failures = failures.map(Vec::as_slice).unwrap_or_default();
            let is_failed = |message: &&Value| {
                failures.iter().any(|failure| failure["itemIdentifier"] == message["messageId"])
            };
            let mut state = self.state.lock().unwrap();
            for message in batch.iter().filter(|message| !is_failed(message)) {
                state.events.delete(&message["receiptHandle"], unix_time());
            }
        }
        batch.len()
    }

    /// Delivers batches for ever.
    pub async fn deliver(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) {
        loop {
            if self.poll(&invoke).await == 0 {
                tokio::time::sleep(POLLING).await;
            }
        }
    }

    /// Delivers batches until the queue is empty, as if no message had to wait.
    pub async fn drain(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) {
        while self.depth() > 0 {
            self.state.lock().unwrap().events.show_all();
            self.poll(&invoke).await;
        }
    }

    /// How many messages the event queue has, visible or not.
    pub fn depth(&self) -> usize {
        self.state.lock().unwrap().events.messages().len()
    }

    /// Takes the dead letters out, each as its body, group and attributes.
    pub fn letters(&self) -> Vec<Value> {
        self.state.lock().unwrap().dead_letters.take_letters()
    }

    /// The state of a claim: `None`, `in_progress` or `done`.
    pub fn claim(&self, key: &str) -> Option<String> {
        let state = self.state.lock().unwrap();
        let word = state.claims.item(key)?["state"]["S"].as_str();
        Some(word.expect("a claim has a state").to_owned())
    }

    /// The Unix seconds from which DynamoDB may delete a claim.
    pub fn claim_expires_at(&self, key: &str) -> u64 {
        let state = self.state.lock().unwrap();
        let item = state.claims.item(key).expect("a claim");
        item["expires_at"]["N"].as_str().unwrap().parse().unwrap()
    }

    /// Puts a claim with the attributes that the function's first version wrote. One in progress may be taken over at
    /// `until_ms`.
    pub fn put_claim(&self, key: &str, state: &str, until_ms: u128) {
        let item = json!({
            "event_id": { "S": key },
            "state": { "S": state },
            "until_ms": { "N": until_ms.to_string() },
            "expires_at": { "N": "4102444800" },
        });
        self.state.lock().unwrap().claims.put(key, item);
    }

    /// Lets a claim in progress be taken over, as time would. A claim that could not be written needs no end.
    pub fn expire_claim(&self, key: &str) {
        self.state.lock().unwrap().claims.release(key);
    }
}

impl State {
    fn answer(&mut self, request: &Request<Bytes>) -> (u16, Value) {
        let target = request.headers().get("x-amz-target").and_then(|target| target.to_str().ok());
        let input: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let now = unix_time();
        match target.unwrap_or_default() {
            "DynamoDB_20120810.UpdateItem" if input["TableName"] == TABLE => {
                self.claims.update(&input)
            }
            "DynamoDB_20120810.UpdateItem" => error("ResourceNotFoundException"),
            "AmazonSQS.SendMessage" => self.change(&input, |queue| queue.send(&input, now)),
            "AmazonSQS.ChangeMessageVisibilityBatch" => {
                self.change(&input, |queue| queue.change_visibility(&input, now))
            }
            _ => error("UnknownOperationException"),
        }
    }

    fn change(
        &mut self,
        input: &Value,
        change: impl FnOnce(&mut Queue) -> (u16, Value),
    ) -> (u16, Value) {
        let url = input["QueueUrl"].as_str().unwrap_or_default();
        match url.rsplit_once('/').map(|(_, name)| name) {
            Some(EVENT_QUEUE) => change(&mut self.events),
            Some(DEAD_LETTER_QUEUE) => change(&mut self.dead_letters),
            _ => error("QueueDoesNotExist"),
        }
    }
}

fn error(code: &str) -> (u16, Value) {
    (400, json!({ "__type": code, "message": "as the service says" }))
}
