//! The events of a world: what each is, and its webhook.
//! It does not know how they fare.

use super::scenario::{Length, Scenario};
use serde_json::json;
use std::collections::BTreeSet;
use std::time::Duration;

/// How all secrets and user ids begin, so that none can hide in an output.
pub const PRIVATE: &str = "private";
/// Its profile is written all the same.
pub const DISABLED_EVENT: &str = "RENEWAL_DISABLED";
/// Between the number of the user and the number of the event.
const ID_MIDDLE: &str = "-0000-4000-8000-";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A transaction has a revenue record as well.
    Plain {
        is_transaction: bool,
    },
    /// Ignored by rule.
    Anonymous,
    Sandbox,
    /// A dead letter for ever.
    Unreadable,
    /// A dead letter until CleverTap accepts its name.
    Poison,
    /// The event is disabled, so its profile is its only record.
    Profile,
    /// Without an `event_id`, and with other white space now and then.
    WithoutId,
}

pub struct Event {
    pub id: String,
    pub user: usize,
    pub kind: Kind,
    /// Its place among all events.
    pub number: usize,
    /// When it happens, since the world began.
    pub at: Duration,
    body: String,
}

impl Event {
    pub fn draw_all(scenario: &Scenario, rng: &mut fastrand::Rng) -> Vec<Self> {
        let mut events = Vec::new();
        let between = u32::try_from(scenario.events_per_user).expect("a few");
        for user in 0..scenario.users {
            // In a long world buyers do not come together: the retries of all would meet as well, for hours.
            let mut at = match (&scenario.load, scenario.length) {
                (Some(load), _) => load.window.mul_f64(rng.f64()) / between,
                (_, Length::Short | Length::Usual) => Duration::ZERO,
                (_, Length::Long) => scenario.storm.mul_f64(rng.f64() * 0.75),
            };
            for number in 0..scenario.events_per_user {
                let kind = match rng.u8(..24) {
                    _ if scenario.length == Length::Short => {
                        Kind::Plain { is_transaction: number == 0 }
                    }
                    0 => Kind::Anonymous,
                    1 => Kind::Sandbox,
                    2 => Kind::Unreadable,
                    3 => Kind::Poison,
                    4 => Kind::WithoutId,
                    5 => Kind::Profile,
                    roll => Kind::Plain { is_transaction: roll < 12 },
                };
                if let Some(load) = scenario.load.as_ref().filter(|_| number > 0) {
                    at += load.window / between;
                // Some come together, as those of one purchase.
                } else if number > 0 && rng.bool() {
                    let longest = scenario.storm.as_secs() / scenario.events_per_user as u64;
                    at += Duration::from_secs(rng.u64(..=longest));
                }
                events.push(Self {
                    number: events.len(),
                    ..Self::new(user, number, kind, at)
                });
            }
        }
        events
    }

    fn new(user: usize, number: usize, kind: Kind, at: Duration) -> Self {
        let id = format!("{user:08x}{ID_MIDDLE}{number:012x}");
        let is_transaction = matches!(kind, Kind::Plain { is_transaction: true });
        let name = match kind {
            Kind::Plain { is_transaction: true } => "TRANSACTION_PROCESSED",
            Kind::Profile => DISABLED_EVENT,
            _ => "SUBSCRIPTION_RENEWED",
        };
        let mut body = json!({
            "api_version": 3,
            "event_name": name,
            "event_id": id,
            "environment": if kind == Kind::Sandbox { "SANDBOX" } else { "PRODUCTION" },
            "event_created_at_ms": 1_772_439_330_250_u64 + u64::try_from(at.as_millis()).unwrap_or(0),
            "store": "APPLE_APP_STORE",
            "store_transaction_id": id,
            "plan": "yearly",
            // It is in the event and in the profile, and so names the event of a profile.
            "product": id,
            "subscription_status": "AUTO_RENEWING",
            "customer_currency": "EUR",
        });
        let is_anonymous = kind == Kind::Anonymous;
        let user_field = if is_anonymous { "anonymous_user_id" } else { "user_id" };
        body[user_field] = json!(format!("{PRIVATE}-user-{user}"));
        if is_transaction {
            body["amount_in_usd"] = json!(65.12);
            body["amount_in_customer_currency"] = json!(59.99);
        }
        if kind == Kind::WithoutId {
            body.as_object_mut().expect("an object").remove("event_id");
        }
        let body = match kind {
            Kind::Unreadable => format!("unreadable {id}"),
            _ => body.to_string(),
        };
        Self { id, user, kind, number, at, body }
    }

    /// The bytes of a delivery.
    pub fn bytes(&self, rng: &mut fastrand::Rng) -> Vec<u8> {
        let is_varied = self.kind == Kind::WithoutId && rng.u8(..4) == 0;
        let space = if is_varied { " " } else { "" };
        format!("{}{space}", self.body).into_bytes()
    }

    /// Whether the rules write a profile for it.
    pub fn has_profile(&self) -> bool {
        matches!(
            self.kind,
            Kind::Plain { is_transaction: false } | Kind::Poison | Kind::Profile | Kind::WithoutId
        )
    }

    pub fn is_poison(&self) -> bool {
        self.kind == Kind::Poison
    }
}

/// The ids of events in a text.
pub fn ids_in(text: &str) -> BTreeSet<String> {
    let middles = text.match_indices(ID_MIDDLE);
    let id = |at: usize| text.get(at.checked_sub(8)?..at + ID_MIDDLE.len() + 12);
    middles.filter_map(|(at, _)| id(at).map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_of_a_long_world_do_not_begin_together() {
        let mut rng = fastrand::Rng::with_seed(0);
        let events = Event::draw_all(&Scenario::long(0, false), &mut rng);
        let mut begins: Vec<_> =
            events.chunk_by(|a, b| a.user == b.user).map(|user| user[0].at).collect();
        begins.sort();
        assert_eq!(begins.len(), 500);
        // In an hour and a half, about six users begin in each minute.
        assert!(begins.windows(21).all(|at| at[20] > at[0] + Duration::from_mins(1)));
    }
}
