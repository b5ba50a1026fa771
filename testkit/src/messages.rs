//! Messages of the event queue as Lambda hands them to the function, and what the function asks to have again.
//! It does not know SQS's rules.

use crate::harness::{World, event};
use purchasely_clevertap::aws::queues::{group_id, message_body};
use serde_json::{Map, Value, json};

/// A message as Lambda delivers it, with the event's id as its own.
pub fn message(webhook: &Value, attributes: &[(&str, &str)]) -> Value {
    let (body, encoding) = message_body(webhook.to_string().as_bytes());
    let encoding = encoding.map(|encoding| ("encoding", encoding));
    let id = webhook["event_id"].as_str().unwrap();
    let user = webhook["user_id"].as_str().unwrap();
    json!({
        "messageId": id,
        "receiptHandle": format!("handle-of-{id}"),
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "MessageGroupId": group_id(user.as_bytes()),
        },
        "messageAttributes": message_attributes(attributes.iter().copied().chain(encoding)),
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:events.fifo",
        "awsRegion": "eu-west-1",
    })
}

/// The message that a redrive makes of a dead letter: it moves body, group and attributes.
pub fn redriven(letter: &Value) -> Value {
    let mut message = message(&event("redriven", "u"), &[]);
    message["body"] = letter["body"].clone();
    message["attributes"]["MessageGroupId"] = letter["group"].clone();
    let attributes = letter["attributes"].as_object().unwrap().iter();
    let attributes = attributes.map(|(name, value)| (&**name, value.as_str().unwrap()));
    message["messageAttributes"] = message_attributes(attributes);
    message
}

/// Delivers a batch: the ids of the messages that are to come again, in alphabetical order.
pub async fn failures(world: &World, messages: &[Value]) -> Vec<String> {
    let batch = json!({ "Records": messages });
    let answer = world.api.invoke(batch).await.expect("an answer");
    let failures = answer["batchItemFailures"].as_array().expect("a list");
    let id = |failure: &Value| failure["itemIdentifier"].as_str().unwrap().to_owned();
    let mut failures: Vec<_> = failures.iter().map(id).collect();
    failures.sort();
    failures
}

fn message_attributes<'a>(attributes: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let attribute = |value| json!({ "stringValue": value, "dataType": "String" });
    let attributes = attributes.map(|(name, value)| (name.to_owned(), attribute(value)));
    Value::Object(attributes.collect::<Map<_, _>>())
}
