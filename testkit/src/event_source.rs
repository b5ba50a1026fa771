//! Lambda's event source mapping between a FIFO queue of moto's and a function: it receives batches, invokes the
//! function, and deletes the messages that the answer does not name.
//! It does not know what a message is, nor how the function is invoked.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry, Message,
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Mutex;

/// The most that one request to SQS may name, and the batch size in the template.
const BATCH_SIZE: usize = 10;
const QUEUE_ARN: &str = "arn:aws:sqs:eu-west-1:123456789012:events.fifo";

/// The mapping of one queue. It may poll several times at once, as Lambda does.
pub struct EventSource {
    sqs: Client,
    queue_url: String,
    /// Two requests at once may get messages of one group from moto.
    receiving: tokio::sync::Mutex<()>,
    /// What was received and not deleted, by group and in its order.
    unsettled: Mutex<HashMap<String, Vec<Received>>>,
}

struct Received {
    id: String,
    receipt_handle: String,
    /// Whether the function has it.
    is_in_progress: bool,
}

impl EventSource {
    pub fn new(sqs: Client, queue_url: &str) -> Self {
        Self {
            sqs,
            queue_url: queue_url.to_owned(),
            receiving: tokio::sync::Mutex::default(),
            unsettled: Mutex::default(),
        }
    }

    /// Delivers one batch, if a message is visible within `wait_seconds`, and returns how many it had. Like Lambda,
    /// it deletes none where the function fails, and all where the answer has no list.
    pub async fn poll(
        &self,
        wait_seconds: i32,
        invoke: impl AsyncFn(Value) -> Result<Value, Value>,
    ) -> usize {
        let messages = self.receive(wait_seconds).await;
        if messages.is_empty() {
            return 0;
        }
        let records: Vec<_> = messages.iter().map(record).collect();
        let answer = invoke(json!({ "Records": records })).await;
        let (settled, failed): (Vec<_>, Vec<_>) = messages.iter().partition(|message| {
            let is_named = |answer: &Value| {
                let failures = answer["batchItemFailures"].as_array();
                let mut failures = failures.into_iter().flatten();
                failures.any(|failure| failure["itemIdentifier"] == *id(message))
            };
            answer.as_ref().is_ok_and(|answer| !is_named(answer))
        });
        self.delete(&settled).await;
        self.keep(&failed, false);
        messages.len()
    }

    /// Delivers batches for ever.
    pub async fn run(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) {
        loop {
            self.poll(1, &invoke).await;
        }
    }

    /// Delivers batches until the queue is empty, as if no message had to wait.
    pub async fn drain(&self, invoke: impl AsyncFn(Value) -> Result<Value, Value>) {
        while self.depth().await > 0 {
            self.let_time_pass().await;
            self.poll(0, &invoke).await;
        }
    }

    /// Makes every message visible that waits for its next delivery, as time would.
    async fn let_time_pass(&self) {
        let _one = self.receiving.lock().await;
        let handles: Vec<_> = {
            let unsettled = self.unsettled.lock().unwrap();
            let waiting = unsettled.values().flatten().filter(|received| !received.is_in_progress);
            waiting.map(|received| received.receipt_handle.clone()).collect()
        };
        self.show(handles).await;
    }

    /// How many messages the queue has, visible or not.
    pub async fn depth(&self) -> u64 {
        let counts = [
            QueueAttributeName::ApproximateNumberOfMessages,
            QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        ];
        let get = self.sqs.get_queue_attributes().queue_url(&self.queue_url);
        let answer = get.set_attribute_names(Some(counts.to_vec())).send().await;
        let attributes = answer.expect("the queue answers").attributes.unwrap_or_default();
        attributes.values().map(|count| count.parse::<u64>().expect("a number")).sum()
    }

    async fn receive(&self, wait_seconds: i32) -> Vec<Message> {
        let _one = self.receiving.lock().await;
        let receive = self.sqs.receive_message().queue_url(&self.queue_url);
        let receive = receive
            .max_number_of_messages(i32::try_from(BATCH_SIZE).expect("a small number"))
            .wait_time_seconds(wait_seconds)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All);
        let answer = receive.send().await.expect("the queue answers");
        self.note(answer.messages.unwrap_or_default()).await
    }

    /// Notes messages as unsettled and returns those to deliver. SQS delivers a group in its order; moto may begin
    /// with the second of two messages whose waiting ended together, which is then put back.
    async fn note(&self, received: Vec<Message>) -> Vec<Message> {
        let (early, deliver): (Vec<_>, Vec<_>) = {
            let unsettled = self.unsettled.lock().unwrap();
            let is_early = |message: &Message| {
                let first = unsettled.get(group(message)).and_then(|of_group| of_group.first());
                first.is_some_and(|first| received.iter().all(|other| first.id != id(other)))
            };
            received.iter().cloned().partition(is_early)
        };
        self.show(early.iter().map(|message| handle(message).to_owned()).collect())
            .await;
        self.keep(&deliver.iter().collect::<Vec<_>>(), true);
        deliver
    }

    fn keep(&self, messages: &[&Message], is_in_progress: bool) {
        let mut unsettled = self.unsettled.lock().unwrap();
        for message in messages {
            let receipt_handle = handle(message).to_owned();
            let received = Received {
                id: id(message).to_owned(),
                receipt_handle,
                is_in_progress,
            };
            let of_group = unsettled.entry(group(message).to_owned()).or_default();
            match of_group.iter_mut().find(|other| other.id == received.id) {
                Some(known) => *known = received,
                None => of_group.push(received),
            }
        }
    }

    async fn show(&self, receipt_handles: Vec<String>) {
        for handles in receipt_handles.chunks(BATCH_SIZE) {
            let entry = |(number, handle): (usize, &String)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(number.to_string())
                    .receipt_handle(handle)
                    .visibility_timeout(0)
                    .build()
                    .expect("it has an id and a handle")
            };
            let entries = handles.iter().enumerate().map(entry).collect();
            let change = self.sqs.change_message_visibility_batch().queue_url(&self.queue_url);
            change.set_entries(Some(entries)).send().await.expect("the queue answers");
        }
    }

    async fn delete(&self, messages: &[&Message]) {
        if messages.is_empty() {
            return;
        }
        let entry = |(number, message): (usize, &&Message)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(number.to_string())
                .receipt_handle(handle(message))
                .build()
                .expect("it has an id and a handle")
        };
        let entries = messages.iter().enumerate().map(entry).collect();
        let delete = self.sqs.delete_message_batch().queue_url(&self.queue_url);
        delete.set_entries(Some(entries)).send().await.expect("the queue answers");
        let mut unsettled = self.unsettled.lock().unwrap();
        for message in messages {
            let of_group = unsettled.get_mut(group(message)).expect("a noted message");
            of_group.retain(|received| received.id != id(message));
        }
    }
}

fn id(message: &Message) -> &str {
    message.message_id.as_deref().expect("an id")
}

fn handle(message: &Message) -> &str {
    message.receipt_handle.as_deref().expect("a handle")
}

fn group(message: &Message) -> &str {
    let attributes = message.attributes.as_ref().expect("system attributes");
    &attributes[&MessageSystemAttributeName::MessageGroupId]
}

/// A message as Lambda hands it over.
fn record(message: &Message) -> Value {
    let system = message.attributes.iter().flatten();
    let system: Map<_, _> =
        system.map(|(name, value)| (name.as_str().to_owned(), json!(value))).collect();
    let attribute = |(name, value): (&String, &MessageAttributeValue)| {
        let value = json!({ "stringValue": value.string_value, "dataType": value.data_type });
        (name.clone(), value)
    };
    let attributes: Map<_, _> =
        message.message_attributes.iter().flatten().map(attribute).collect();
    json!({
        "messageId": id(message),
        "receiptHandle": handle(message),
        "body": message.body,
        "md5OfBody": message.md5_of_body,
        "attributes": system,
        "messageAttributes": attributes,
        "eventSource": "aws:sqs",
        "eventSourceARN": QUEUE_ARN,
        "awsRegion": "eu-west-1",
    })
}
