//! An SQS FIFO queue in memory, for high rates: groups in order, one batch of a group at a time.
//! It does not know duplicates, delays and dead letters; tests use [`crate::resources`].

use crate::connections::{Connections, Ending, Listener};
use crate::emulator;
use crate::event_source::EventSource;
use bytes::Bytes;
use hyper::Request;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

const AWS_JSON: &str = "application/x-amz-json-1.0";

/// A server with one queue, whatever URL it is called by. Clones are the same server.
#[derive(Clone, Default)]
pub struct Sqs(Arc<State>);

#[derive(Default)]
struct State {
    connections: Connections,
    sent: AtomicU64,
    /// Those that are not deleted, in the order of their arrival.
    messages: Mutex<Vec<Message>>,
    changed: Notify,
}

struct Message {
    /// Its id, receipt handle and sequence number.
    id: String,
    group: String,
    is_in_flight: bool,
    /// As `ReceiveMessage` answers it.
    json: Value,
}

impl Sqs {
    pub fn new() -> Self {
        Self::default()
    }

    /// Accepts for ever; each connection runs in its own task.
    pub async fn serve(self, listener: impl Into<Listener>) {
        let connections = self.0.connections.clone();
        let answer = move |request| self.clone().answer(request);
        connections.serve_listener(listener, answer).await;
    }

    /// How many messages it has, in flight or not.
    pub fn depth(&self) -> usize {
        self.0.messages.lock().unwrap().len()
    }

    /// What delivers its messages to a function. `url` is that of this server.
    pub async fn event_source(&self, url: &str) -> EventSource {
        let client = aws_sdk_sqs::Client::new(&emulator::config(url).await);
        EventSource::new(client, &format!("{url}/123456789012/events.fifo"))
    }

    async fn answer(self, request: Request<Bytes>) -> Ending {
        let target = request.headers().get("x-amz-target");
        let operation = target.and_then(|target| target.to_str().ok()?.split_once('.'));
        let input: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        let (status, body) = match operation {
            Some((_, "SendMessage")) => (200, self.send(&input)),
            Some((_, "ReceiveMessage")) => (200, self.receive(&input).await),
            Some((_, "DeleteMessageBatch")) => (
                200,
                self.settle(&input, |messages, is_it| messages.retain(|other| !is_it(other))),
            ),
            // Whatever the timeout is.
            Some((_, "ChangeMessageVisibilityBatch")) => (
                200,
                self.settle(&input, |messages, is_it| {
                    let shown = messages.iter_mut().filter(|other| is_it(other));
                    shown.for_each(|message| message.is_in_flight = false);
                }),
            ),
            _ => (400, json!({ "__type": "UnknownOperationException" })),
        };
        Ending::answer(status, AWS_JSON, body.to_string())
    }

    fn send(&self, input: &Value) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let mut messages = self.0.messages.lock().unwrap();
        let id = format!("{:020}", self.0.sent.fetch_add(1, Ordering::Relaxed));
        let group = input["MessageGroupId"].as_str().unwrap_or_default().to_owned();
        let json = json!({
            "MessageId": id,
            "ReceiptHandle": id,
            "Body": input["MessageBody"],
            "MessageAttributes": input["MessageAttributes"],
            "Attributes": {
                "ApproximateReceiveCount": "1",
                "MessageGroupId": group,
                "SentTimestamp": now.as_millis().to_string(),
                "SequenceNumber": id,
            },
        });
        messages.push(Message { id: id.clone(), group, is_in_flight: false, json });
        self.0.changed.notify_one();
        json!({ "MessageId": id, "SequenceNumber": id })
    }

    async fn receive(&self, input: &Value) -> Value {
        let seconds = input["WaitTimeSeconds"].as_u64().unwrap_or_default();
        let until = Instant::now() + Duration::from_secs(seconds);
        loop {
            let messages = self.take(&input["MaxNumberOfMessages"]);
            if !messages.is_empty() {
                return json!({ "Messages": messages });
            }
            if timeout_at(until, self.0.changed.notified()).await.is_err() {
                return json!({});
            }
        }
    }

    fn take(&self, max: &Value) -> Vec<Value> {
        let max = max.as_u64().and_then(|max| usize::try_from(max).ok()).unwrap_or(1);
        let mut messages = self.0.messages.lock().unwrap();
        let in_flight = messages.iter().filter(|message| message.is_in_flight);
        let busy: HashSet<_> = in_flight.map(|message| message.group.clone()).collect();
        let free = messages.iter_mut().filter(|message| !busy.contains(&message.group));
        let taken = free.take(max).map(|message| {
            message.is_in_flight = true;
            message.json.clone()
        });
        taken.collect()
    }

    /// Does something to the messages of a batch request.
    fn settle(
        &self,
        input: &Value,
        settle: impl Fn(&mut Vec<Message>, &dyn Fn(&Message) -> bool),
    ) -> Value {
        let entries = input["Entries"].as_array().map(Vec::as_slice).unwrap_or_default();
        let handles: HashSet<_> =
            entries.iter().filter_map(|entry| entry["ReceiptHandle"].as_str()).collect();
        let is_named = |message: &Message| handles.contains(message.id.as_str());
        settle(&mut self.0.messages.lock().unwrap(), &is_named);
        self.0.changed.notify_one();
        let settled: Vec<_> = entries.iter().map(|entry| json!({ "Id": entry["Id"] })).collect();
        json!({ "Successful": settled, "Failed": [] })
    }
}

impl Deref for Sqs {
    type Target = Connections;

    fn deref(&self) -> &Connections {
        &self.0.connections
    }
}
