//! The life of each webhook on this machine: its attempts, how it was forwarded, the uploads that hold its event, and
//! where it stands.
//! Pure: it does not know how webhooks arrive, nor how an upload was made.

use crate::stand_ins;
use bytes::Bytes;
use purchasely_clevertap::clevertap::response::{self, Response, Verdict};
use purchasely_clevertap::outcome::{Outcome, Permanent};
use serde::Serialize;
use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};

/// The oldest deliveries are forgotten beyond so many.
const MAX_DELIVERIES: usize = 1000;
/// Attempts, forwards and uploads of one delivery that are kept.
const MAX_KEPT: usize = 50;

/// One line of the list.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    pub id: u64,
    pub at_ms: u64,
    pub event: Option<String>,
    pub event_id: Option<String>,
    /// CleverTap's key of the user, or Purchasely's if nothing is sent for it.
    pub user: Option<String>,
    pub status: Option<u16>,
    /// The word of the answer, `no_answer`, or what happened to a queued event.
    pub outcome: Option<String>,
    pub latency_ms: Option<u64>,
    pub attempts: u64,
    pub uploads: u64,
    pub state: State,
    pub next_attempt_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// For an answer, or for the next attempt.
    #[default]
    Waiting,
    /// Acknowledged with 200.
    Done,
    Failed,
    /// Held behind an earlier event of its user.
    Blocked,
}

#[derive(Default, Serialize)]
pub struct Delivery {
    #[serde(flatten)]
    summary: Summary,
    #[serde(serialize_with = "text")]
    body: Bytes,
    attempts_made: VecDeque<Attempt>,
    forwards_made: VecDeque<Forward>,
    uploads_made: VecDeque<Upload>,
    /// The records of an event that no upload names by its id.
    #[serde(skip)]
    records: Vec<Value>,
    /// Whether Purchasely sends it again until it is acknowledged.
    #[serde(skip)]
    is_retried: bool,
    #[serde(skip)]
    is_blocked: bool,
    /// What CleverTap has of it.
    #[serde(skip)]
    accepted: Vec<Value>,
    /// What the uploads say happened to a queued event.
    #[serde(skip)]
    relayed: Option<Outcome>,
    #[serde(skip)]
    is_settled: bool,
}

#[derive(Serialize)]
struct Attempt {
    at_ms: u64,
    status: Option<u16>,
    answer: String,
    /// As long as there is none, the attempt is in progress.
    latency_ms: Option<u64>,
}

/// One request to the team's own backend.
#[derive(Serialize)]
pub struct Forward {
    pub at_ms: u64,
    pub status: Option<u16>,
    pub answer: String,
}

/// One upload to CleverTap.
#[derive(Clone, Serialize)]
pub struct Upload {
    #[serde(skip)]
    pub number: usize,
    pub at_ms: u64,
    pub status: Option<u16>,
    pub body: Box<RawValue>,
    pub answer: String,
}

#[derive(Default)]
pub struct Deliveries {
    by_id: BTreeMap<u64, Delivery>,
    last_id: u64,
    changed: BTreeSet<u64>,
}

impl Deliveries {
    /// A new delivery. `records` are those that the function should upload for it.
    pub fn open(&mut self, body: Bytes, records: Vec<Value>, is_retried: bool, now: u64) -> u64 {
        self.last_id += 1;
        let id = self.last_id;
        let fields: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |name: &str| fields[name].as_str().map(str::to_owned);
        let user = records.first().map(|record| stand_ins::user(record).to_owned());
        let event_id = text("event_id");
        let is_named = records.iter().any(|record| event_id.is_some() && id_of(record) == event_id);
        let summary = Summary {
            id,
            at_ms: now,
            event: text("event_name"),
            event_id,
            user: user.or_else(|| text("user_id")).or_else(|| text("anonymous_user_id")),
            ..Summary::default()
        };
        let delivery = Delivery {
            summary,
            body,
            records: if is_named { Vec::new() } else { records },
            is_retried,
            ..Delivery::default()
        };
        self.by_id.insert(id, delivery);
        if self.by_id.len() > MAX_DELIVERIES {
            self.by_id.pop_first();
        }
        self.changed.insert(id);
        id
    }

    /// The delivery that another webhook with this body belongs to: the same event, or the same body if it has no
    /// id, that was not acknowledged.
    pub fn find_open(&self, body: &Bytes) -> Option<u64> {
        let fields: Value = serde_json::from_slice(body).unwrap_or_default();
        let event_id = fields["event_id"].as_str();
        let is_same = |delivery: &Delivery| match event_id {
            Some(_) => delivery.summary.event_id.as_deref() == event_id,
            None => delivery.body == *body,
        };
        let mut latest = self.by_id.iter().rev();
        let found = latest.find(|(_, delivery)| !delivery.is_acknowledged() && is_same(delivery));
        found.map(|(id, _)| *id)
    }

    /// An attempt, by its number within the delivery.
    pub fn begin(&mut self, id: u64, now: u64) -> u64 {
        self.change(id, |delivery| {
            delivery.is_blocked = false;
            delivery.is_settled = false;
            delivery.summary.next_attempt_ms = None;
            delivery.summary.attempts += 1;
            let attempt = Attempt {
                at_ms: now,
                status: None,
                answer: String::new(),
                latency_ms: None,
            };
            push(&mut delivery.attempts_made, attempt);
            delivery.summary.attempts
        })
        .unwrap_or_default()
    }

    /// The end of an attempt; no status is no answer.
    pub fn end(&mut self, id: u64, number: u64, status: Option<u16>, answer: String, now: u64) {
        self.change(id, |delivery| {
            let back = delivery.summary.attempts - number;
            let made = &mut delivery.attempts_made;
            let place = made.len().checked_sub(1 + usize::try_from(back).unwrap_or(usize::MAX));
            let latency = place.map(|place| {
                let attempt = &mut made[place];
                let latency = now.saturating_sub(attempt.at_ms);
                (attempt.status, attempt.latency_ms) = (status, Some(latency));
                attempt.answer = answer.clone();
                latency
            });
            // A webhook that was acknowledged stays so.
            if !delivery.is_acknowledged() {
                let summary = &mut delivery.summary;
                (summary.status, summary.latency_ms) = (status, latency);
                summary.outcome = Some(status.map_or("no_answer".to_owned(), |_| word(&answer)));
            }
        });
    }

    /// Holds it behind an earlier event of its user.
    pub fn block(&mut self, id: u64) {
        self.change(id, |delivery| delivery.is_blocked = true);
    }

    pub fn schedule(&mut self, id: u64, next_attempt_ms: u64) {
        self.change(id, |delivery| delivery.summary.next_attempt_ms = Some(next_attempt_ms));
    }

    /// Purchasely does not send it again.
    pub fn give_up(&mut self, id: u64) {
        self.change(id, |delivery| delivery.is_retried = false);
    }

    /// Notes what the backend was sent, with the latest delivery of that body that has no answer yet.
    pub fn forward(&mut self, body: &Bytes, forward: Forward) {
        let mut latest = self.by_id.iter().rev();
        let is_its = |delivery: &Delivery| delivery.is_in_progress() && delivery.body == *body;
        if let Some(id) = latest.find(|(_, delivery)| is_its(delivery)).map(|(id, _)| *id) {
            self.change(id, |delivery| push(&mut delivery.forwards_made, forward));
        }
    }

    /// Notes an upload, or its answer, with the events that it holds.
    pub fn upload(&mut self, upload: &Upload) {
        let body: Value = serde_json::from_str(upload.body.get()).unwrap_or_default();
        let no_records = Vec::new();
        let records = body["d"].as_array().unwrap_or(&no_records);
        let ids: HashSet<_> = records.iter().filter_map(id_of).collect();
        let holds = |delivery: &Delivery| match &delivery.summary.event_id {
            Some(id) if ids.contains(id) => true,
            _ => {
                let own = &delivery.records;
                !own.is_empty() && own.iter().all(|record| records.contains(record))
            }
        };
        let known = |delivery: &Delivery| {
            delivery.uploads_made.iter().any(|other| other.number == upload.number)
        };
        let all = self.by_id.iter();
        let mut chosen: Vec<_> =
            all.filter(|(_, delivery)| known(delivery)).map(|(id, _)| *id).collect();
        // Of several deliveries of one event, a new upload is of the latest.
        let mut latest = BTreeMap::new();
        for (id, delivery) in self.by_id.iter().filter(|(_, delivery)| holds(delivery)) {
            let event = delivery.summary.event_id.as_deref().map(str::as_bytes);
            latest.insert(event.unwrap_or(&delivery.body), *id);
        }
        if chosen.is_empty() {
            chosen.extend(latest.into_values());
        }
        for id in chosen {
            self.change(id, |delivery| {
                let mut made = delivery.uploads_made.iter_mut();
                if let Some(known) = made.find(|other| other.number == upload.number) {
                    *known = upload.clone();
                } else {
                    delivery.summary.uploads += 1;
                    push(&mut delivery.uploads_made, upload.clone());
                }
                let (accepted, outcome) = judge(upload, records, delivery.summary.user.as_deref());
                delivery.accepted.extend(accepted);
                delivery.relayed = outcome.or(delivery.relayed);
            });
        }
    }

    pub fn get(&self, id: u64) -> Option<&Delivery> {
        self.by_id.get(&id)
    }

    pub fn summaries(&self) -> impl Iterator<Item = &Summary> {
        self.by_id.values().map(|delivery| &delivery.summary)
    }

    /// The deliveries that changed since the last call, and whether each has just settled.
    pub fn take_changed(&mut self) -> Vec<(Summary, bool)> {
        let ids = std::mem::take(&mut self.changed);
        let changed = ids.into_iter().filter_map(|id| {
            let delivery = self.by_id.get_mut(&id)?;
            let is_settled = match delivery.summary.state {
                State::Done => !delivery.is_queued(),
                State::Failed => true,
                State::Waiting | State::Blocked => false,
            };
            let was_settled = std::mem::replace(&mut delivery.is_settled, is_settled);
            Some((delivery.summary.clone(), is_settled && !was_settled))
        });
        changed.collect()
    }

    pub fn clear(&mut self) {
        self.by_id.clear();
        self.changed.clear();
    }

    fn change<T>(&mut self, id: u64, change: impl FnOnce(&mut Delivery) -> T) -> Option<T> {
        let delivery = self.by_id.get_mut(&id)?;
        let result = change(delivery);
        if let (true, Some(relayed)) = (delivery.is_queued(), delivery.relayed) {
            delivery.summary.outcome = Some(relayed.row().word.to_owned());
        }
        delivery.summary.state = delivery.state();
        self.changed.insert(id);
        Some(result)
    }
}

impl Delivery {
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The records that CleverTap accepted.
    pub fn accepted(&self) -> &[Value] {
        &self.accepted
    }

    pub fn is_acknowledged(&self) -> bool {
        self.summary.status == Some(200)
    }

    fn is_in_progress(&self) -> bool {
        self.attempts_made.iter().any(|attempt| attempt.latency_ms.is_none())
    }

    fn is_queued(&self) -> bool {
        self.summary.outcome.as_deref() == Some(Outcome::Queued.row().word)
    }

    fn state(&self) -> State {
        if self.is_acknowledged() {
            State::Done
        } else if self.is_blocked {
            State::Blocked
        } else if self.is_in_progress() || self.is_retried || self.summary.attempts == 0 {
            State::Waiting
        } else {
            State::Failed
        }
    }
}

impl Upload {
    pub fn new(number: usize, at_ms: u64, body: &Bytes) -> Self {
        let raw = serde_json::from_slice(body).ok();
        let text = || to_raw_value(&String::from_utf8_lossy(body)).expect("a text is valid JSON");
        let body = raw.unwrap_or_else(text);
        Self {
            number,
            at_ms,
            status: None,
            body,
            answer: String::new(),
        }
    }
}

/// The records of this user that CleverTap accepted, and what happens to the event that came with them; nothing if it is
/// uploaded again. An upload has one event of a user.
fn judge(upload: &Upload, records: &[Value], user: Option<&str>) -> (Vec<Value>, Option<Outcome>) {
    let roles: Vec<_> = records.iter().map(stand_ins::role).collect();
    let status = upload.status.unwrap_or_default();
    let verdicts = match response::read(status, Some(upload.answer.as_bytes()), &roles) {
        Response::Verdicts(verdicts) => verdicts,
        Response::Refused(code) => {
            return (Vec::new(), Some(Outcome::DeadLettered(Permanent::Refused(code))));
        }
        Response::Unclear => return (Vec::new(), Some(Outcome::DeadLettered(Permanent::Unclear))),
        _ => return (Vec::new(), None),
    };
    let (mut accepted, mut outcome) = (Vec::new(), Some(Outcome::Relayed));
    for ((record, role), verdict) in records.iter().zip(roles).zip(verdicts) {
        match verdict {
            _ if user != Some(stand_ins::user(record)) => {}
            Verdict::Accepted => accepted.push(record.clone()),
            Verdict::Refused(code) if role.is_required() => {
                outcome = Some(Outcome::DeadLettered(Permanent::Refused(code)));
            }
            _ if role.is_required() => return (accepted, None),
            _ => {}
        }
    }
    (accepted, outcome)
}

fn id_of(record: &Value) -> Option<String> {
    record["evtData"]["event_id"].as_str().map(str::to_owned)
}

/// The word of the function's answer.
fn word(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    let word = answer["status"].as_str().or(answer["error"].as_str());
    word.unwrap_or("unexpected_response").to_owned()
}

fn push<T>(kept: &mut VecDeque<T>, entry: T) {
    if kept.len() == MAX_KEPT {
        kept.pop_front();
    }
    kept.push_back(entry);
}

fn text<S: serde::Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn body(event_id: &str) -> Bytes {
        let body = json!({ "event_name": "TRIAL_STARTED", "event_id": event_id, "user_id": "u-1" });
        body.to_string().into()
    }

    fn event(event_id: &str) -> Value {
        json!({ "evtName": "TRIAL_STARTED", "identity": "u-1", "evtData": { "event_id": event_id } })
    }

    fn uploaded(number: usize, records: &[Value], status: Option<u16>, answer: &Value) -> Upload {
        let body = json!({ "d": records }).to_string().into();
        Upload {
            status,
            answer: answer.to_string(),
            ..Upload::new(number, 5, &body)
        }
    }

    fn attempt(deliveries: &mut Deliveries, id: u64, status: Option<u16>, word: &str, now: u64) {
        let number = deliveries.begin(id, now);
        deliveries.end(id, number, status, json!({ "status": word }).to_string(), now + 2);
    }

    #[track_caller]
    fn check(deliveries: &Deliveries, id: u64, state: State, outcome: &str, counts: (u64, u64)) {
        let summary = deliveries.get(id).expect("a delivery").summary();
        assert_eq!((summary.state, summary.outcome.as_deref()), (state, Some(outcome)));
        assert_eq!((summary.attempts, summary.uploads), counts);
    }

    #[test]
    fn a_retried_event_is_one_delivery_and_a_resend_of_an_acknowledged_one_is_another() {
        let mut deliveries = Deliveries::default();
        let id = deliveries.open(body("e-1"), vec![event("e-1")], false, 10);
        attempt(&mut deliveries, id, Some(503), "unavailable", 20);
        check(&deliveries, id, State::Failed, "unavailable", (1, 0));
        assert_eq!(deliveries.find_open(&body("e-1")), Some(id));
        attempt(&mut deliveries, id, Some(200), "relayed", 30);
        check(&deliveries, id, State::Done, "relayed", (2, 0));
        assert_eq!(deliveries.find_open(&body("e-1")), None);
        let changed = deliveries.take_changed();
        assert_eq!(changed.len(), 1);
        assert!(changed[0].1, "it has settled");
    }

    #[test]
    fn an_upload_belongs_to_the_delivery_that_waits_for_it() {
        let mut deliveries = Deliveries::default();
        let first = deliveries.open(body("e-1"), vec![event("e-1")], false, 10);
        attempt(&mut deliveries, first, Some(200), "relayed", 20);
        let second = deliveries.open(body("e-1"), vec![event("e-1")], false, 30);
        let number = deliveries.begin(second, 30);
        let mut upload = uploaded(0, &[event("e-1")], None, &json!(""));
        deliveries.upload(&upload);
        upload.status = Some(200);
        upload.answer = json!({ "status": "success" }).to_string();
        deliveries.upload(&upload);
        deliveries.end(second, number, Some(200), r#"{"status":"relayed"}"#.to_owned(), 32);
        check(&deliveries, first, State::Done, "relayed", (1, 0));
        check(&deliveries, second, State::Done, "relayed", (1, 1));
        let accepted = [first, second].map(|id| deliveries.get(id).expect("one").accepted().len());
        assert_eq!(accepted, [0, 1]);
    }

    #[test]
    fn a_queued_event_is_relayed_once_clevertap_has_it_and_dead_lettered_if_refused() {
        let mut deliveries = Deliveries::default();
        let ids = [("e-1", "u-1"), ("e-2", "u-2")].map(|(name, user)| {
            let mut record = event(name);
            record["identity"] = json!(user);
            let id = deliveries.open(body(name), vec![record], false, 10);
            attempt(&mut deliveries, id, Some(200), "queued", 20);
            id
        });
        assert!(deliveries.take_changed().iter().all(|(_, has_settled)| !has_settled));
        let refused = json!({ "code": 513, "error": "record number : 2", "record": event("e-2") });
        let answer = json!({ "status": "partial", "unprocessed": [refused] });
        let mut other = event("e-2");
        other["identity"] = json!("u-2");
        deliveries.upload(&uploaded(0, &[event("e-1"), other], Some(200), &answer));
        check(&deliveries, ids[0], State::Done, "relayed", (1, 1));
        check(&deliveries, ids[1], State::Done, "dead_lettered", (1, 1));
        assert!(deliveries.take_changed().iter().all(|(_, has_settled)| *has_settled));
    }

    #[test]
    fn an_upload_of_a_profile_alone_is_recognized_by_its_records() {
        let mut deliveries = Deliveries::default();
        let profile =
            json!({ "type": "profile", "identity": "u-1", "profileData": { "plan": "a" } });
        let id = deliveries.open(body("e-1"), vec![profile.clone()], false, 10);
        deliveries.begin(id, 20);
        deliveries.upload(&uploaded(0, &[profile], Some(200), &json!({ "status": "success" })));
        assert_eq!(deliveries.get(id).expect("a delivery").summary().uploads, 1);
    }

    #[test]
    fn the_oldest_deliveries_are_forgotten() {
        let mut deliveries = Deliveries::default();
        for number in 0..=MAX_DELIVERIES {
            deliveries.open(body(&number.to_string()), Vec::new(), false, 10);
        }
        assert_eq!(deliveries.summaries().count(), MAX_DELIVERIES);
        assert!(deliveries.get(1).is_none());
    }
}
