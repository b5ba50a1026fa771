//! Purchasely: sends each event until it is acknowledged, by the published schedule, and none of a user's events before
//! the one before. It does not know what a webhook causes.

use super::live::{Live, now_ms};
use crate::saved::iso8601;
use bytes::Bytes;
use http::Request;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::cargo_lambda::PATH;
use testkit::harness::now_seconds;
use testkit::simulation::{READ_TIMEOUT, RETRIES, delay_after};
use testkit::webhook::{SAMPLE_SHARED_SECRET, Webhook};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

const SPEED: u32 = 60;

pub struct Purchasely {
    /// What sends the latest event of each user.
    latest: Mutex<HashMap<String, JoinHandle<()>>>,
    /// How many times faster than the published schedule it retries.
    speed: watch::Sender<u32>,
}

impl Default for Purchasely {
    fn default() -> Self {
        Self {
            latest: Mutex::default(),
            speed: watch::Sender::new(SPEED),
        }
    }
}

impl Purchasely {
    pub fn speed(&self) -> u32 {
        *self.speed.borrow()
    }

    /// What waits already waits accordingly.
    pub fn set_speed(&self, speed: u32) {
        self.speed.send_replace(speed);
    }

    /// Wakes what waits: deliveries that do not exist are not continued.
    pub fn forget(&self) {
        self.speed.send_modify(|_| {});
    }
}

/// Sends an event after those of its user that were sent before.
pub fn send(live: &Arc<Live>, body: Bytes) -> u64 {
    let id = live.open(body, true);
    let user = live.deliveries(|deliveries| deliveries.get(id)?.summary().user.clone());
    let mut latest = live.purchasely.latest.lock().expect("no thread panics");
    let before = user.as_ref().and_then(|user| latest.remove(user));
    if before.as_ref().is_some_and(|before| !before.is_finished()) {
        live.deliveries(|deliveries| deliveries.block(id));
    }
    let own = Arc::clone(live);
    let sending = tokio::spawn(async move {
        if let Some(before) = before {
            let _ = before.await;
        }
        deliver(&own, id).await;
    });
    if let Some(user) = user {
        latest.insert(user, sending);
    }
    id
}

/// Sends a webhook once, past the order of its user.
pub fn resend(live: &Arc<Live>, body: Bytes) -> u64 {
    let id = live.open(body.clone(), false);
    let live = Arc::clone(live);
    tokio::spawn(async move { post(&live, id, body).await });
    id
}

/// The command that sends this body, signed as at the present time.
pub fn curl(url: &str, body: &Bytes) -> String {
    let webhook = Webhook::new(body.to_vec(), SAMPLE_SHARED_SECRET, now_seconds());
    let headers = webhook.headers().map(|(name, value)| format!("-H '{name}: {value}' "));
    let body = String::from_utf8_lossy(body).replace('\'', r"'\''");
    format!("curl {url} {}--data-binary '{body}'", headers.concat())
}

/// The event with an id of its own that happens at the present time.
pub fn fresh(body: &str) -> String {
    let now = now_ms();
    let moment = i64::try_from(now).ok().and_then(iso8601);
    let id = format!("{:032x}", fastrand::u128(..));
    let mut body = with_field(body, "event_id", &json!(id));
    for (name, value) in [("event_created_at", json!(moment)), ("event_created_at_ms", json!(now))]
    {
        if body.contains(&json!(name).to_string()) {
            body = with_field(&body, name, &value);
        }
    }
    body
}

/// The body with another value of a field; all other text stays as it is.
fn with_field(body: &str, name: &str, value: &Value) -> String {
    let fields: Map<String, Value> = serde_json::from_str(body).unwrap_or_default();
    let key = json!(name).to_string();
    let old = fields.get(name).map(Value::to_string);
    if let (Some(old), Some(at)) = (old, body.find(&key)) {
        let (before, after) = body.split_at(at + key.len());
        return format!("{before}{}", after.replacen(&old, &value.to_string(), 1));
    }
    match body.trim_start().strip_prefix('{') {
        Some(rest) if !fields.is_empty() => format!("{{\n  {key}: {value},{rest}"),
        _ => body.to_owned(),
    }
}

/// Sends an event until it is acknowledged, forgotten or given up.
async fn deliver(live: &Live, id: u64) {
    let mut is_ready = live.is_ready.subscribe();
    let _ = is_ready.wait_for(|is_ready| *is_ready).await;
    let mut failures = 0;
    while let Some(body) = open_body(live, id) {
        if post(live, id, body).await == Some(200) {
            return;
        }
        failures += 1;
        if failures > RETRIES {
            live.deliveries(|deliveries| deliveries.give_up(id));
            return;
        }
        wait(live, id, delay_after(failures)).await;
    }
}

async fn post(live: &Live, id: u64, body: Bytes) -> Option<u16> {
    let signed = Webhook::new(body.to_vec(), SAMPLE_SHARED_SECRET, now_seconds());
    let mut webhook = Request::post(PATH);
    for (name, value) in signed.headers() {
        webhook = webhook.header(name, value);
    }
    let webhook = webhook.body(body).expect("the headers of a signature are valid");
    let answer = live.attempt(id, live.forward(webhook), READ_TIMEOUT).await;
    answer.ok().map(|answer| answer.status().as_u16())
}

async fn wait(live: &Live, id: u64, delay: Duration) {
    let mut speed = live.purchasely.speed.subscribe();
    let (began, began_ms) = (Instant::now(), now_ms());
    loop {
        let delay = delay / *speed.borrow_and_update();
        let delay_ms = u64::try_from(delay.as_millis()).expect("at most days");
        live.deliveries(|deliveries| deliveries.schedule(id, began_ms + delay_ms));
        tokio::select! {
            () = sleep_until(began + delay) => return,
            _ = speed.changed() => {
                if open_body(live, id).is_none() {
                    return;
                }
            }
        }
    }
}

/// The body of a delivery that is not acknowledged.
fn open_body(live: &Live, id: u64) -> Option<Bytes> {
    live.deliveries(|deliveries| {
        let delivery = deliveries.get(id)?;
        (!delivery.is_acknowledged()).then(|| delivery.body().clone())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_event_differs_in_its_id_and_its_time_only() {
        let body = "{ \"event_name\": \"A\", \"event_id\" : \"old\",\n \"event_created_at_ms\": 1, \"n\": 1 }";
        let fresh = fresh(body);
        let fields: Value = serde_json::from_str(&fresh).expect("JSON");
        assert_eq!(fields["event_id"].as_str().map(str::len), Some(32));
        assert!(fields["event_created_at_ms"].as_u64() > Some(1_700_000_000_000), "{fresh}");
        assert_eq!(fields["n"], 1);
        let back = with_field(&fresh, "event_id", &json!("old"));
        assert_eq!(with_field(&back, "event_created_at_ms", &json!(1)), body);
    }

    #[test]
    fn a_field_that_is_missing_is_added_and_what_is_no_event_stays() {
        let body = with_field("{ \"event_name\": \"A\" }", "user_id", &json!("u"));
        let expected = json!({ "event_name": "A", "user_id": "u" });
        assert_eq!(serde_json::from_str::<Value>(&body).expect("JSON"), expected);
        assert_eq!(fresh("no JSON"), "no JSON");
        assert_eq!(fresh("{}"), "{}");
    }
}
