//! Lambda's event source mapping: what a function's answer does to a batch of the event queue.
//! It does not know who receives the batch, nor how the function is invoked.

use super::queues::Queue;
use serde_json::Value;
use std::time::Duration;

/// Deletes the messages of a batch that the answer does not name: none where the function failed, all where the answer
/// has no list.
pub fn settle(queue: &mut Queue, batch: &[Value], answer: Option<&Value>, now: Duration) {
    let Some(answer) = answer else {
        return;
    };
    let failures = answer["batchItemFailures"].as_array();
    let failures = failures.map(Vec::as_slice).unwrap_or_default();
    let is_failed = |message: &&Value| {
        failures.iter().any(|failure| failure["itemIdentifier"] == message["messageId"])
    };
    for message in batch.iter().filter(|message| !is_failed(message)) {
        queue.delete(&message["receiptHandle"], now);
    }
}
