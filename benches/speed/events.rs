//! The events that contestants receive, and the check that each was relayed correctly.
//! It does not know who relays them.

use crate::contestants::root;
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use testkit::harness::{SHARED_SECRET, signed};
use testkit::webhook::Front;

/// The webhook that every contestant receives.
pub const SAMPLE: &str = "events/TRIAL_STARTED.json";
/// SQS delivers at most ten messages of a FIFO queue at once.
pub const BATCH: u32 = 10;

/// Makes events that differ in their ids only.
pub struct Events {
    sample: Value,
    made: u32,
}

impl Events {
    pub fn new() -> Result<Self, Box<dyn Error>> {
        let text = fs::read(root().join(SAMPLE))
            .map_err(|error| format!("cannot read {SAMPLE}: {error}"))?;
        Ok(Self { sample: serde_json::from_slice(&text)?, made: 0 })
    }

    /// A signed webhook, as an HTTP API invokes the function with it.
    pub fn webhook(&mut self) -> String {
        let body = self.body();
        signed(body.as_bytes(), SHARED_SECRET).envelope(Front::HttpApi).to_string()
    }

    /// Ten webhooks, each of another user, as the event queue invokes the function with them.
    pub fn batch(&mut self) -> String {
        let message = |number| {
            json!({
                "messageId": format!("059f36b4-87a3-44ab-83d2-{number:012}"),
                "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
                "body": self.body(),
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
        json!({ "Records": (0..BATCH).map(message).collect::<Vec<_>>() }).to_string()
    }

    fn body(&mut self) -> String {
        self.made += 1;
        self.sample["event_id"] = json!(format!("0d6f8f0e-6f0b-4d0e-9a44-{:012}", self.made));
        self.sample.to_string()
    }
}

/// Fails unless the webhook was answered with 200 and, by a relay, uploaded once.
pub fn check_webhook(answer: &Value, accepted: &[Value], is_relay: bool) -> Result<(), String> {
    if answer["statusCode"] != 200 {
        return Err(format!("expected the status 200, got {answer}"));
    }
    check_records(accepted, u32::from(is_relay))
}

/// Fails unless no message is to be delivered again and each was uploaded once.
pub fn check_batch(answer: &Value, accepted: &[Value]) -> Result<(), String> {
    if answer["batchItemFailures"] != json!([]) {
        return Err(format!("expected no batchItemFailures, got {answer}"));
    }
    check_records(accepted, BATCH)
}

fn check_records(accepted: &[Value], expected: u32) -> Result<(), String> {
    let events: Vec<&Value> = accepted.iter().filter(|record| record["type"] == "event").collect();
    let is_correct = |record: &&&Value| {
        let properties = &record["evtData"];
        record["evtName"] == "TRIAL_STARTED"
            && record["identity"] == "u-1842"
            && record["ts"] == 1_770_139_571
            && properties["plan"] == "monthly"
            && properties["purchased_at"] == "$D_1770139568"
    };
    let correct = events.iter().filter(is_correct).count();
    if events.len() == correct && u32::try_from(correct) == Ok(expected) {
        Ok(())
    } else {
        Err(format!(
            "expected {expected} correct event records in CleverTap, got {correct} of {}: {events:?}",
            events.len()
        ))
    }
}
