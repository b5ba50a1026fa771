//! Lambda's event source mapping between a queue that speaks SQS and a function, for measurements: it receives batches,
//! invokes the function, and deletes the messages that the answer does not name.
//! It does not know what a message is, nor how the function is invoked. [`crate::resources`] delivers in tests.

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
};
use serde_json::{Map, Value, json};

/// The most that one request to SQS may name, and the batch size in the template.
const BATCH_SIZE: usize = 10;
const QUEUE_ARN: &str = "arn:aws:sqs:eu-west-1:123456789012:events.fifo";

/// The mapping of one queue. It may poll several times at once, as Lambda does.
pub struct EventSource {
    sqs: Client,
    queue_url: String,
}

impl EventSource {
    pub fn new(sqs: Client, queue_url: &str) -> Self {
        Self { sqs, queue_url: queue_url.to_owned() }
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
        let is_settled = |message: &&Message| {
            let is_named = |answer: &Value| {
                let failures = answer["batchItemFailures"].as_array();
                let mut failures = failures.into_iter().flatten();
                failures.any(|failure| failure["itemIdentifier"] == *id(message))
            };
            answer.as_ref().is_ok_and(|answer| !is_named(answer))
        };
        let settled: Vec<_> = messages.iter().filter(is_settled).collect();
        self.delete(&settled).await;
        messages.len()
    }

    async fn receive(&self, wait_seconds: i32) -> Vec<Message> {
        let receive = self.sqs.receive_message().queue_url(&self.queue_url);
        let receive = receive
            .max_number_of_messages(i32::try_from(BATCH_SIZE).expect("a small number"))
            .wait_time_seconds(wait_seconds)
            .message_attribute_names("All")
            .message_system_attribute_names(MessageSystemAttributeName::All);
        receive.send().await.expect("the queue answers").messages.unwrap_or_default()
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
    }
}

fn id(message: &Message) -> &str {
    message.message_id.as_deref().expect("an id")
}

fn handle(message: &Message) -> &str {
    message.receipt_handle.as_deref().expect("a handle")
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
