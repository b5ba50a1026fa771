//! Messages of the event queue as Lambda hands them to the function, and what the function asks to have again.
//! It does not know SQS's rules.

use crate::harness::World;
use crate::world::queues::Message;
use purchasely_clevertap::aws::queues::{group_id, message_body};
use purchasely_clevertap::clock::unix_time;
use serde_json::{Value, json};

/// A message as Lambda delivers it, with the event's id as its own.
pub fn message(webhook: &Value, attributes: &[(&str, &str)]) -> Value {
    let (body, encoding) = message_body(webhook.to_string().as_bytes());
    let attributes = attributes.iter().copied();
    let attributes = attributes.chain(encoding.map(|encoding| ("encoding", encoding)));
    let attributes =
        attributes.map(|(name, text)| (name.to_owned(), json!({ "StringValue": text })));
    let id = webhook["event_id"].as_str().unwrap();
    let message = Message {
        id: id.to_owned(),
        group: group_id(webhook["user_id"].as_str().unwrap().as_bytes()),
        body,
        attributes: attributes.collect(),
        sent_at: unix_time(),
        receive_count: 1,
        receipt_handle: format!("handle-of-{id}"),
        ..Message::default()
    };
    message.record()
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
