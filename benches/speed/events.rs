//! The events that are handed over, and whether one was rightly relayed.
//! It does not know who relays it.

use crate::contestants::root;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use std::sync::Arc;

/// The raw body of the webhook that everybody is sent.
pub const SAMPLE: &str = "events/TRIAL_STARTED.json";
/// The same, signed, as an HTTP API hands it over.
const ENVELOPE: &str = "events/api-gateway/TRIAL_STARTED.http-api.json";
/// What the envelope is signed with. It protects nothing.
pub const SHARED_SECRET: &str = "sample-shared-secret";
/// What a full batch of SQS holds.
pub const BATCH: usize = 10;

/// The webhook as an HTTP API hands it over.
pub fn single() -> Result<Arc<Vec<u8>>, Box<dyn Error>> {
    let envelope: Value = serde_json::from_slice(&read(ENVELOPE)?)?;
    Ok(Arc::new(envelope.to_string().into_bytes()))
}

/// Ten such webhooks, each with an id of its own, as the event queue hands them over.
pub fn batch() -> Result<Arc<Vec<u8>>, Box<dyn Error>> {
    let event: Value = serde_json::from_slice(&read(SAMPLE)?)?;
    let message = |number: usize| {
        let mut event = event.clone();
        event["event_id"] = json!(format!("0d6f8f0e-6f0b-4d0e-9a44-{number:012}"));
        json!({
            "messageId": format!("059f36b4-87a3-44ab-83d2-{number:012}"),
            "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
            "body": event.to_string(),
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": "1770139571000",
                "SequenceNumber": format!("{number:020}"),
                "MessageGroupId": format!("{number}"),
                "SenderId": "AIDAIENQZJOLO23YVJ4VO",
                "MessageDeduplicationId": format!("{number}"),
                "ApproximateFirstReceiveTimestamp": "1770139571001",
            },
            "messageAttributes": {},
            "md5OfBody": "e4e68fb7bd0e697a0ae8f1bb342846b3",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:relay.fifo",
            "awsRegion": "eu-west-1",
        })
    };
    let batch = json!({ "Records": (0..BATCH).map(message).collect::<Vec<_>>() });
    Ok(Arc::new(batch.to_string().into_bytes()))
}

/// Fails unless the webhook was answered with 200 and, by a relay, uploaded once.
pub fn check_single(answer: &[u8], uploads: &[Vec<u8>], relays: bool) -> Result<(), String> {
    let told: Value = serde_json::from_slice(answer).unwrap_or_default();
    if told["statusCode"] != json!(200) {
        return Err(format!(
            "it answered {}",
            String::from_utf8_lossy(answer).trim()
        ));
    }
    match (relays, uploads) {
        (false, []) => Ok(()),
        (true, [upload]) => check_upload(upload, 1),
        _ => Err(format!("it uploaded {} times", uploads.len())),
    }
}

/// Fails unless each message is settled and all were uploaded at once.
pub fn check_batch(answer: &[u8], uploads: &[Vec<u8>]) -> Result<(), String> {
    let told: Value = serde_json::from_slice(answer).unwrap_or_default();
    if told["batchItemFailures"] != json!([]) {
        return Err(format!(
            "it answered {}",
            String::from_utf8_lossy(answer).trim()
        ));
    }
    match uploads {
        [upload] => check_upload(upload, BATCH),
        _ => Err(format!("it uploaded {} times", uploads.len())),
    }
}

fn check_upload(upload: &[u8], events: usize) -> Result<(), String> {
    let upload: Value = serde_json::from_slice(upload).unwrap_or_default();
    let is_right = |record: &&Value| {
        record["type"] == "event"
            && record["evtName"] == "TRIAL_STARTED"
            && record["identity"] == "u-1842"
            && record["ts"].is_u64()
            && record["evtData"]["plan"].is_string()
            && record["evtData"]["purchased_at"]
                .as_str()
                .is_some_and(|at| at.starts_with("$D_"))
    };
    let records = upload["d"].as_array().into_iter().flatten();
    let right = records.filter(is_right).count();
    if right == events {
        Ok(())
    } else {
        Err(format!("it uploaded {right} right events, not {events}"))
    }
}

fn read(file: &str) -> Result<Vec<u8>, String> {
    fs::read(root().join(file)).map_err(|error| format!("{file} cannot be read: {error}"))
}
