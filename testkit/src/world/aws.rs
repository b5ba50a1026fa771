//! A table of claims, an event queue and its dead-letter queue, as the template makes them.
//! It does not know what the function writes to them.

use super::claims::ClaimsTable;
use super::event_source;
use super::queues::Queue;
use super::service::{Ending, Service, operation};
use bytes::Bytes;
use hyper::Request;
use purchasely_clevertap::clock::unix_time;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

/// Of the template.
const MAX_RECEIVE_COUNT: u32 = 1000;
/// How long the event queue is waited for at once.
const POLLING: Duration = Duration::from_millis(50);
pub const TABLE: &str = "claims";
pub const EVENT_QUEUE: &str = "events.fifo";
pub const DEAD_LETTER_QUEUE: &str = "dead.fifo";

/// The three resources. Clones are the same ones.
#[derive(Clone, Default)]
pub struct Aws(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// A message may be visible now.
    changed: Notify,
}

#[derive(Default)]
struct State {
    claims: ClaimsTable,
    events: Queue,
    dead_letters: Queue,
}

impl Aws {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while it has the state")
    }

    /// Delivers one batch of the event queue to a function, if a message is visible, and returns how many it had.
    pub async fn poll(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) -> usize {
        let batch = {
            let state = &mut *self.state();
            state.events.receive(unix_time(), MAX_RECEIVE_COUNT, &mut state.dead_letters)
        };
        if batch.is_empty() {
            return 0;
        }
        let answer = invoke(json!({ "Records": batch })).await;
        event_source::settle(&mut self.state().events, &batch, answer.as_ref().ok(), unix_time());
        self.0.changed.notify_one();
        batch.len()
    }

    /// Delivers batches for ever.
    pub async fn deliver(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) {
        loop {
            if self.poll(&invoke).await == 0 {
                // A message that waits becomes visible without a change.
                let _ = timeout(POLLING, self.0.changed.notified()).await;
            }
        }
    }

    /// Delivers batches until the queue is empty, as if no message had to wait.
    pub async fn drain(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) {
        while self.depth() > 0 {
            self.state().events.show_all();
            if self.poll(&invoke).await == 0 {
                sleep(POLLING).await;
            }
        }
    }

    /// How many messages the event queue has, visible or not.
    pub fn depth(&self) -> usize {
        self.state().events.messages().len()
    }

    /// Takes the dead letters out, each as its body, group and attributes.
    pub fn letters(&self) -> Vec<Value> {
        self.state().dead_letters.take_letters()
    }

    /// The state of a claim: `None`, `in_progress` or `done`.
    pub fn claim(&self, key: &str) -> Option<String> {
        let state = self.state();
        let word = state.claims.item(key)?["state"]["S"].as_str();
        Some(word.expect("a claim has a state").to_owned())
    }

    /// The Unix seconds from which DynamoDB may delete a claim.
    pub fn claim_expires_at(&self, key: &str) -> u64 {
        let state = self.state();
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
        self.state().claims.put(key, item);
    }

    /// Lets a claim in progress be taken over, as time would. A claim that could not be written needs no end.
    pub fn expire_claim(&self, key: &str) {
        self.state().claims.release(key);
    }
}

impl Service for Aws {
    async fn answer(self, request: Request<Bytes>) -> Ending {
        let input = serde_json::from_slice(request.body()).unwrap_or_default();
        let (status, body) = self.state().answer(operation(&request), &input);
        self.0.changed.notify_one();
        Ending::aws(status, &body)
    }
}

impl State {
    fn answer(&mut self, operation: &str, input: &Value) -> (u16, Value) {
        match operation {
            "DynamoDB_20120810.UpdateItem" if input["TableName"] == TABLE => {
                self.claims.update(input)
            }
            "DynamoDB_20120810.UpdateItem" => error("ResourceNotFoundException"),
            "AmazonSQS.SendMessage" => self.change(input, Queue::send),
            "AmazonSQS.ChangeMessageVisibilityBatch" => {
                self.change(input, Queue::change_visibility)
            }
            _ => error("UnknownOperationException"),
        }
    }

    fn change(
        &mut self,
        input: &Value,
        change: fn(&mut Queue, &Value, Duration) -> (u16, Value),
    ) -> (u16, Value) {
        let url = input["QueueUrl"].as_str().unwrap_or_default();
        match url.rsplit_once('/').map(|(_, name)| name) {
            Some(EVENT_QUEUE) => change(&mut self.events, input, unix_time()),
            Some(DEAD_LETTER_QUEUE) => change(&mut self.dead_letters, input, unix_time()),
            _ => error("QueueDoesNotExist"),
        }
    }
}

fn error(code: &str) -> (u16, Value) {
    (400, json!({ "__type": code, "message": "as the service says" }))
}
