//! The users of CleverTap as the accepted records made them. Pure; it does not know where records come from.

use crate::stand_ins::{role, user};
use purchasely_clevertap::clevertap::Role;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::{HashMap, VecDeque};
use testkit::world::clevertap::apply;

/// Of each user the latest events are kept.
const MAX_EVENTS: usize = 30;

#[derive(Default)]
pub struct Users(HashMap<String, User>);

#[derive(Default, Serialize)]
pub struct User {
    #[serde(rename = "user")]
    pub id: String,
    profile: Map<String, Value>,
    /// Latest last.
    events: VecDeque<Event>,
    revenue: Vec<Total>,
    pub last_seen_ms: u64,
    #[serde(skip)]
    pub events_in_all: usize,
}

#[derive(Serialize)]
struct Event {
    name: Value,
    ts: Value,
    properties: Value,
    is_revenue: bool,
    /// Whether the same record was accepted before.
    is_duplicate: bool,
}

#[derive(Serialize)]
struct Total {
    currency: String,
    total: f64,
}

impl Users {
    pub fn accept(&mut self, record: &Value, now: u64) {
        let id = user(record);
        let user = self.0.entry(id.to_owned()).or_default();
        user.id = id.to_owned();
        user.last_seen_ms = now;
        user.accept(record);
    }

    pub fn get(&self, user: &str) -> Option<&User> {
        self.0.get(user)
    }

    /// Those that were seen last come first.
    pub fn list(&self) -> Vec<&User> {
        let mut users: Vec<_> = self.0.values().collect();
        users.sort_by(|a, b| (b.last_seen_ms, &a.id).cmp(&(a.last_seen_ms, &b.id)));
        users
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl User {
    fn accept(&mut self, record: &Value) {
        let role = role(record);
        if role == Role::Profile {
            let changes = record["profileData"].as_object().into_iter().flatten();
            changes.for_each(|(name, change)| apply(&mut self.profile, name, change));
            return;
        }
        let properties = &record["evtData"];
        let (name, ts) = (&record["evtName"], &record["ts"]);
        let is_same =
            |event: &Event| (&event.name, &event.ts, &event.properties) == (name, ts, properties);
        let event = Event {
            name: name.clone(),
            ts: ts.clone(),
            properties: properties.clone(),
            is_revenue: role == Role::Revenue,
            is_duplicate: self.events.iter().any(is_same),
        };
        if event.is_revenue {
            self.add(&properties["Currency"], &properties["Amount"]);
        }
        self.events_in_all += 1;
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// CleverTap adds up amounts without converting them, copies included.
    fn add(&mut self, currency: &Value, amount: &Value) {
        let (currency, amount) = (currency.as_str().unwrap_or("?"), amount.as_f64().unwrap_or(0.0));
        match self.revenue.iter_mut().find(|total| total.currency == currency) {
            Some(known) => known.total = cents(known.total + amount),
            None => {
                self.revenue.push(Total {
                    currency: currency.to_owned(),
                    total: cents(amount),
                });
            }
        }
    }
}

/// Sums of amounts such as 0.1 and 0.2 have no digits beyond the amounts' own.
fn cents(amount: f64) -> f64 {
    (amount * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_user_is_what_the_accepted_records_made_of_it() {
        let mut users = Users::default();
        let event = json!({ "evtName": "TRIAL_STARTED", "identity": "u-1", "ts": 5, "evtData": { "event_id": "e" } });
        let paid = json!({ "evtName": "Charged", "identity": "u-1", "ts": 6, "evtData": { "Amount": 0.1, "Currency": "EUR" } });
        let more = json!({ "evtName": "Charged", "identity": "u-1", "ts": 7, "evtData": { "Amount": 0.2, "Currency": "EUR" } });
        let profile = json!({ "type": "profile", "identity": "u-1", "profileData": { "plan": "a", "plans": { "$add": ["a"] } } });
        for record in [&event, &event, &paid, &more, &profile] {
            users.accept(record, 9);
        }
        let user = serde_json::to_value(users.get("u-1")).expect("JSON");
        assert_eq!(user["profile"], json!({ "plan": "a", "plans": ["a"] }));
        assert_eq!(user["revenue"], json!([{ "currency": "EUR", "total": 0.3 }]));
        let events = user["events"].as_array().expect("a list").iter();
        let events: Vec<_> = events
            .map(|event| [&event["is_revenue"], &event["is_duplicate"]].map(|flag| flag == true))
            .collect();
        assert_eq!(events, [[false, false], [false, true], [true, false], [true, false]]);
    }
}
