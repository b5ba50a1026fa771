//! The events that contestants receive, and the check that each was relayed correctly.
//! It does not know who relays them.

use crate::contestants::root;
use purchasely_clevertap::clevertap::upload_body;
use purchasely_clevertap::mapping::{self, Mapped, Origin, Rules};
use purchasely_clevertap::purchasely::{Event, Verified};
use serde_json::{Value, json};
use std::error::Error;
use std::fs;
use testkit::harness::{ACCOUNT_ID, PASSCODE, SHARED_SECRET, signed};
use testkit::webhook::Front;

/// The webhook that every contestant receives.
pub const SAMPLE: &str = "events/TRIAL_STARTED.json";

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

    /// The request that uploads the sample's records: what the function sends, byte for byte but for headers.
    pub fn upload(&self) -> Result<String, Box<dyn Error>> {
        let body = self.sample.to_string();
        let event = Event::parse(Verified::unsigned(body.as_bytes()))?;
        let rules = Rules::default();
        let Mapped::Records { records, .. } =
            mapping::map(&event, &rules, Origin::Purchasely, &mut |_, _| {}).mapped
        else {
            return Err(format!("{SAMPLE} maps to no records").into());
        };
        let body = String::from_utf8(upload_body(&records.iter().collect::<Vec<_>>()))?;
        Ok(format!(
            "POST /1/upload HTTP/1.1\r\nhost: localhost\r\nx-clevertap-account-id: {ACCOUNT_ID}\r\nx-clevertap-passcode: {PASSCODE}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn body(&mut self) -> String {
        self.made += 1;
        self.sample["event_id"] = json!(format!("0d6f8f0e-6f0b-4d0e-9a44-{:012}", self.made));
        self.sample.to_string()
    }
}

/// Fails unless the webhook was answered with 200 and its record accepted as often as `expected`.
pub fn check(answer: &Value, accepted: &[Value], expected: usize) -> Result<(), String> {
    if answer["statusCode"] != 200 {
        return Err(format!("expected the status 200, got {answer}"));
    }
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
    if events.len() == correct && correct == expected {
        Ok(())
    } else {
        Err(format!(
            "expected {expected} correct event records in CleverTap, got {correct} of {}: {events:?}",
            events.len()
        ))
    }
}
