//! A table of claims, an event queue and its dead-letter queue, as the template makes them.
//! It does not know what the function writes to them.

use super::claims::ClaimsTable;
use super::queues::{Message, Queue};
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
pub const DEAD_LETTER_QUEUE: &str = "dead-letters.fifo";

/// The three resources. Clones are the same ones.
#[derive(Clone, Default)]
pub struct Aws(Arc<Shared>);

#[derive(Default)]
struct Shared {
    resources: Mutex<Resources>,
    /// A message may be visible now.
    changed: Notify,
}

#[derive(Default)]
pub struct Resources {
    pub claims: ClaimsTable,
    pub events: Queue,
    pub dead_letters: Queue,
}

impl Aws {
    fn resources(&self) -> MutexGuard<'_, Resources> {
        self.0.resources.lock().expect("nothing panics while it has them")
    }

    /// Delivers one batch of the event queue to a function, if a message is visible, and returns how many it had.
    pub async fn poll(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) -> usize {
        let batch = self.resources().receive(unix_time(), MAX_RECEIVE_COUNT);
        if batch.is_empty() {
            return 0;
        }
        let answer = invoke(json!({ "Records": batch })).await;
        self.resources().events.settle(&batch, answer.as_ref().ok(), unix_time());
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
            let show = |message: &mut Message| message.hidden_until = Duration::ZERO;
            self.resources().events.messages.iter_mut().for_each(show);
            if self.poll(&invoke).await == 0 {
                sleep(POLLING).await;
            }
        }
    }

    /// How many messages the event queue has, visible or not.
    pub fn depth(&self) -> usize {
        self.resources().events.messages.len()
    }

    /// Takes the dead letters out, each as its body, group and attributes.
    pub fn letters(&self) -> Vec<Value> {
        let letters = std::mem::take(&mut self.resources().dead_letters.messages);
        letters.iter().map(Message::letter).collect()
    }

    /// An attribute of a claim that is a text or a number.
    pub fn claim(&self, key: &str, attribute: &str) -> Option<String> {
        let resources = self.resources();
        let value = resources.claims.0.get(key)?.get(attribute)?;
        value["S"].as_str().or(value["N"].as_str()).map(str::to_owned)
    }

    /// Puts a claim with the attributes that the function's first version wrote. One in progress may be taken over at
    /// `until_ms`.
    pub fn put_claim(&self, key: &str, state: &str, until_ms: u128) {
        let item = [
            ("event_id", json!({ "S": key })),
            ("state", json!({ "S": state })),
            ("until_ms", json!({ "N": until_ms.to_string() })),
            ("expires_at", json!({ "N": "4102444800" })),
        ];
        let item = item.map(|(name, value)| (name.to_owned(), value)).into_iter().collect();
        self.resources().claims.0.insert(key.to_owned(), item);
    }

    /// Lets a claim in progress be taken over, as time would. A claim that could not be written needs no end.
    pub fn expire_claim(&self, key: &str) {
        if let Some(item) = self.resources().claims.0.get_mut(key) {
            item.insert("until_ms".to_owned(), json!({ "N": "0" }));
        }
    }
}

impl Service for Aws {
    async fn answer(self, request: Request<Bytes>) -> Ending {
        let input = serde_json::from_slice(request.body()).unwrap_or_default();
        let (status, body) = self.resources().answer(operation(&request), &input, unix_time());
        self.0.changed.notify_one();
        Ending::aws(status, &body)
    }
}

impl Resources {
    /// Makes the change that a request asks for.
    pub fn answer(&mut self, operation: &str, input: &Value, now: Duration) -> (u16, Value) {
        let url = input["QueueUrl"].as_str().unwrap_or_default();
        let queue = match url.rsplit_once('/').map(|(_, name)| name) {
            Some(EVENT_QUEUE) => Ok(&mut self.events),
            Some(DEAD_LETTER_QUEUE) => Ok(&mut self.dead_letters),
            _ => Err("QueueDoesNotExist"),
        };
        let answer = match operation {
            "DynamoDB_20120810.UpdateItem" if input["TableName"] == TABLE => {
                Ok(self.claims.update(input))
            }
            "DynamoDB_20120810.UpdateItem" => Err("ResourceNotFoundException"),
            "AmazonSQS.SendMessage" => queue.map(|queue| queue.send(input, now)),
            "AmazonSQS.ChangeMessageVisibilityBatch" => {
                queue.map(|queue| queue.change_visibility(input, now))
            }
            _ => Err("UnknownOperationException"),
        };
        let error = |code| (400, json!({ "__type": code, "message": "as the service says" }));
        answer.unwrap_or_else(error)
    }

    /// A batch of the event queue, as Lambda hands it to a function.
    pub fn receive(&mut self, now: Duration, max_receive_count: u32) -> Vec<Value> {
        self.events.receive(now, max_receive_count, &mut self.dead_letters)
    }

    /// Moves the dead letters into the event queue.
    pub fn redrive(&mut self, now: Duration) {
        self.dead_letters.redrive(&mut self.events, now);
    }
}
