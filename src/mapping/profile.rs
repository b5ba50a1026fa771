//! Decides what an event changes on the user's profile.
//!
//! It does not know the current profile: each rule is correct whatever it is, also for a user with
//! several subscriptions.

use super::revenue::RevenueCurrency;
use crate::clevertap::{Change, Property, Value, limits};
use crate::purchasely::{Event, catalogue};
use std::borrow::Cow;
use std::collections::HashMap;

/// Whether the subscription of the user's last event is active.
pub const HAS_ACTIVE_SUBSCRIPTION: &str = "has_active_subscription";
/// The plans of all the user's active subscriptions.
pub const ACTIVE_PLANS: &str = "active_plans";
/// The start of the active subscription, as in Purchasely's own integrations.
pub const SUBSCRIPTION_STARTED_AT: &str = "subscription_started_at";
/// What the user has paid in all.
pub const LIFETIME_REVENUE: &str = "lifetime_revenue";
const PURCHASED_AT: &str = "purchased_at";
/// The user's first transaction ever.
const ORIGINAL_PURCHASED_AT: &str = "original_purchased_at";
const PROMOTIONAL_OFFER_ID: &str = "promotional_offer_id";
/// Apple's two times of one first transaction differ by a second or more.
const SAME_MOMENT_MS: u64 = 60_000;
const SUBSCRIPTION_STATUS: &str = "subscription_status";

/// The properties that are updated unless `USER_PROPERTIES` lists others.
#[rustfmt::skip]
pub const DEFAULT_PROPERTIES: &[&str] = &[
    HAS_ACTIVE_SUBSCRIPTION, ACTIVE_PLANS, SUBSCRIPTION_STATUS, "plan", "product", "store",
    "store_country", "offer_type", "is_family_shared", SUBSCRIPTION_STARTED_AT,
    ORIGINAL_PURCHASED_AT, "effective_next_renewal_at", LIFETIME_REVENUE, PROMOTIONAL_OFFER_ID,
];

/// Which profile properties are updated, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileRules {
    /// In the order of the record (`USER_PROPERTIES`); empty turns profile records off.
    pub properties: Vec<String>,
    /// Property → its configured name, valid in CleverTap (`USER_PROPERTY_NAMES`).
    pub names: HashMap<String, String>,
}

impl Default for ProfileRules {
    fn default() -> Self {
        let properties = DEFAULT_PROPERTIES.iter().map(|&name| name.to_owned());
        Self {
            properties: properties.collect(),
            names: HashMap::new(),
        }
    }
}

/// What an event may change: one row of the profile table in `docs/mapping.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// The row's number, from 1.
    pub row: u8,
    /// The new value of [`HAS_ACTIVE_SUBSCRIPTION`]; `None` leaves it.
    pub active: Option<bool>,
    pub written: Written,
    pub plans: Plans,
}

/// Which properties are written, besides [`HAS_ACTIVE_SUBSCRIPTION`] and [`ACTIVE_PLANS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    Nothing,
    /// Only `subscription_status`.
    Status,
    /// All that `USER_PROPERTIES` lists and the payload has.
    All,
}

/// What happens to the event's plan in [`ACTIVE_PLANS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plans {
    Keep,
    Add,
    Remove,
}

/// Finds the first row of the profile table that applies.
#[must_use]
#[rustfmt::skip]
pub fn effect(event: &Event<'_>) -> Effect {
    use Plans::{Add, Keep, Remove};
    use Written::{All, Nothing, Status};
    let access = access(event);
    let (row, active, written, plans) = match event.name() {
        _ if is_one_time(event) => (1, None, Nothing, Keep),
        "ACTIVATE" => (3, Some(true), All, Add),
        "SUBSCRIPTION_TRANSFERRED" => (4, Some(false), Status, Remove),
        "DEACTIVATE" => match event.text(SUBSCRIPTION_STATUS) {
            Some("ON_HOLD" | "PAUSED" | "UNPAID" | "REVOKED") => (5, Some(false), All, Remove),
            // A plan change, a transfer or an end: the lifecycle event that comes with it decides.
            _ => (6, None, Nothing, Remove),
        },
        "SUBSCRIPTION_TERMINATED" | "SUBSCRIPTION_EXPIRED" | "SUBSCRIPTION_REFUNDED_REVOKED"
        | "FAMILY_SHARED_REVOKED" | "GRACE_PERIOD_TERMINATED"
        | "SUBSCRIPTION_CANCELLED_DURING_GRACE_PERIOD" | "SUBSCRIPTION_CANCELLED_DURING_PAUSE"
        | "ENTERED_BILLING_RETRY" | "SUBSCRIPTION_PAUSED" => (7, Some(false), All, Remove),
        "SUBSCRIPTION_STARTED" | "SUBSCRIPTION_RENEWED" | "SUBSCRIPTION_REACTIVATED"
        | "SUBSCRIPTION_RECEIVED" | "SUBSCRIPTION_RECOVERED_FROM_GRACE_PERIOD"
        | "SUBSCRIPTION_RECOVERED_FROM_BILLING_RETRY" | "SUBSCRIPTION_UNPAUSED"
        | "SUBSCRIPTION_DEFERRED" | "GRACE_PERIOD_STARTED"
        | "TRIAL_STARTED" | "TRIAL_CONVERTED" | "INTRO_OFFER_STARTED" | "INTRO_OFFER_CONVERTED"
        | "PROMO_CODE_STARTED" | "PROMO_CODE_CONVERTED"
        | "PROMOTIONAL_OFFER_STARTED" | "PROMOTIONAL_OFFER_CONVERTED" => match access {
            Some(true) | None => (8, Some(true), All, Add),
            Some(false) => (8, Some(false), All, Remove),
        },
        "SUBSCRIPTION_UPGRADED" | "SUBSCRIPTION_DOWNGRADED" | "SUBSCRIPTION_CROSSGRADED" => {
            match access {
                Some(true) => (9, Some(true), All, Add),
                Some(false) | None => (9, None, Nothing, Keep),
            }
        }
        "RENEWAL_DISABLED" | "RENEWAL_ENABLED" | "SUBSCRIPTION_WILL_PAUSE"
        | "SUBSCRIPTION_WILL_NOT_PAUSE" | "TRIAL_NOT_CONVERTED" | "INTRO_OFFER_NOT_CONVERTED"
        | "PROMO_CODE_NOT_CONVERTED" | "PROMOTIONAL_OFFER_NOT_CONVERTED"
        | "INSTALLMENT_PAID" => (10, access, All, Keep),
        // TRANSACTION_PROCESSED, RETENTION_MESSAGE_REQUESTED, INSTALLMENT_REFUNDED, unknown names.
        _ => (2, None, Nothing, Keep),
    };
    Effect { row, active, written, plans }
}

/// The changes to the profile, in the order of the rules; unique by key.
/// `properties` are the event's, as [`super::properties::of_event`] returns them. A property that the
/// payload lacks keeps its value: CleverTap documents no way to remove it
/// (<https://developer.clevertap.com/docs/upload-user-profiles-api>).
#[must_use]
pub fn changes<'e>(
    event: &Event<'_>,
    rules: &'e ProfileRules,
    currency: &RevenueCurrency,
    properties: &[Property<'e>],
) -> Vec<(Cow<'e, str>, Change<'e>)> {
    let effect = effect(event);
    let find = |key: &str| {
        let found = properties.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone())
    };
    let change = |property: &str| match property {
        HAS_ACTIVE_SUBSCRIPTION => Some(Change::Set(Value::Boolean(effect.active?))),
        ACTIVE_PLANS => match (effect.plans, find("plan")?) {
            (Plans::Add, Value::Text(plan)) => Some(Change::Add(plan)),
            (Plans::Remove, Value::Text(plan)) => Some(Change::Remove(plan)),
            _ => None,
        },
        _ if !effect.writes(property) => None,
        SUBSCRIPTION_STARTED_AT if !starts_subscription(event, effect) => None,
        SUBSCRIPTION_STARTED_AT => find(PURCHASED_AT).map(Change::Set),
        LIFETIME_REVENUE => currency.lifetime_revenue(properties).map(Change::Set),
        PROMOTIONAL_OFFER_ID if event.text("offer_type") != Some("PROMOTIONAL_OFFER") => None,
        _ => find(property).map(Change::Set),
    };
    let changes = rules.properties.iter().filter_map(|property| {
        let change = change(property)?;
        let name = rules.names.get(property).unwrap_or(property);
        limits::check_profile_key(name).ok()?;
        Some((Cow::Borrowed(name.as_str()), change))
    });
    changes.collect()
}

/// Whether `purchased_at` is the start of the active subscription. Other events carry its last renewal.
fn starts_subscription(event: &Event<'_>, effect: Effect) -> bool {
    let is_start = match event.name() {
        "SUBSCRIPTION_STARTED"
        | "SUBSCRIPTION_REACTIVATED"
        | "TRIAL_STARTED"
        | "INTRO_OFFER_STARTED" => true,
        // These can come in the middle of a subscription, unless it is the user's first transaction.
        "SUBSCRIPTION_RECEIVED" | "PROMO_CODE_STARTED" | "PROMOTIONAL_OFFER_STARTED" => {
            let times = event.time_ms(PURCHASED_AT).zip(event.time_ms(ORIGINAL_PURCHASED_AT));
            times.is_some_and(|(last, first)| last.abs_diff(first) <= SAME_MOMENT_MS)
        }
        _ => false,
    };
    is_start && effect.active == Some(true)
}

/// Whether the event may be sent about an anonymous buyer because the buyer has signed in. The profile of
/// their device may then be the signed-in user's, who has access.
#[must_use]
pub fn may_follow_a_sign_in(event: &Event<'_>) -> bool {
    matches!(event.name(), "SUBSCRIPTION_TRANSFERRED" | "DEACTIVATE")
}

impl Effect {
    fn writes(self, property: &str) -> bool {
        match self.written {
            Written::Nothing => false,
            Written::Status => property == SUBSCRIPTION_STATUS,
            Written::All => true,
        }
    }
}

/// Whether the event is about a one-time purchase, which says nothing about a subscription.
fn is_one_time(event: &Event<'_>) -> bool {
    let is_subscription = || {
        let id = event.text("purchasely_subscription_id");
        id.is_some() || event.text(SUBSCRIPTION_STATUS).is_some()
    };
    event.text("purchasely_one_time_purchase_id").is_some()
        || event.name().starts_with("ONE_TIME_PURCHASE_")
        || match event.text("purchase_type") {
            Some("CONSUMABLE" | "NON_CONSUMABLE") => true,
            Some("NON_RENEWING_SUBSCRIPTION") => !is_subscription(),
            _ => false,
        }
}

/// Whether the subscription's status means access; `None` if it is missing or unknown.
#[rustfmt::skip]
fn access(event: &Event<'_>) -> Option<bool> {
    match event.text(SUBSCRIPTION_STATUS)? {
        // Purchasely's pages spell CANCELED with one L and with two.
        "AUTO_RENEWING" | "AUTO_RENEWING_CANCELED" | "AUTO_RENEWING_CANCELLED"
        | "IN_GRACE_PERIOD" => Some(true),
        "ON_HOLD" | "PAUSED" | "UNPAID" | "REVOKED" | "DEACTIVATED" | "CANCELED" => Some(false),
        _ => None,
    }
}

/// Whether Purchasely documents a payload field for this profile property.
#[must_use]
pub fn is_known_property(name: &str) -> bool {
    DEFAULT_PROPERTIES.contains(&name) || catalogue::kind(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clevertap::{Content, Record, Role, Upload, User};
    use crate::mapping::properties::{self, PropertyRules};
    use crate::purchasely::Verified;
    use serde_json::{Value as Json, json};

    const ACTIVE: &str =
        "AUTO_RENEWING AUTO_RENEWING_CANCELED AUTO_RENEWING_CANCELLED IN_GRACE_PERIOD";
    const INACTIVE: &str = "ON_HOLD PAUSED UNPAID REVOKED DEACTIVATED CANCELED";
    const UNKNOWN: &str = "SOMETHING_NEW";
    const NO_CHANGE: (Option<bool>, Written, Plans) = (None, Written::Nothing, Plans::Keep);

    fn event(body: &str) -> Event<'_> {
        Event::parse(Verified::unsigned(body.as_bytes())).expect(body)
    }

    fn effect_of(name: &str, purchase_type: &str, status: &str) -> Effect {
        effect(&event(&format!(
            r#"{{"event_name":"{name}","purchase_type":"{purchase_type}","subscription_status":"{status}"}}"#
        )))
    }

    /// Checks the effect of each event with each status; `names` and `statuses` are separated by spaces.
    #[track_caller]
    fn check(
        row: u8,
        names: &str,
        statuses: &[&str],
        (active, written, plans): (Option<bool>, Written, Plans),
    ) {
        let expected = Effect { row, active, written, plans };
        for name in names.split_whitespace() {
            for status in statuses.iter().flat_map(|statuses| statuses.split(' ')) {
                let effect = effect_of(name, "RENEWING_SUBSCRIPTION", status);
                assert_eq!(effect, expected, "{name} {status}");
            }
        }
    }

    #[test]
    fn row_1_a_one_time_purchase_changes_nothing() {
        for (name, purchase_type, status, row) in [
            ("ACTIVATE", "CONSUMABLE", "AUTO_RENEWING", 1),
            ("DEACTIVATE", "NON_CONSUMABLE", "AUTO_RENEWING", 1),
            ("SUBSCRIPTION_STARTED", "CONSUMABLE", "AUTO_RENEWING", 1),
            ("ONE_TIME_PURCHASE_TRANSFERRED", "", "AUTO_RENEWING", 1),
            ("ONE_TIME_PURCHASE_RECEIVED", "", "AUTO_RENEWING", 1),
            ("ACTIVATE", "NON_RENEWING_SUBSCRIPTION", "", 1),
            ("ACTIVATE", "NON_RENEWING_SUBSCRIPTION", "AUTO_RENEWING", 3),
        ] {
            let effect = effect_of(name, purchase_type, status);
            assert_eq!(effect.row, row, "{name} {purchase_type} {status}");
            let is_unchanged = (effect.active, effect.written, effect.plans) == NO_CHANGE;
            assert_eq!(is_unchanged, row == 1, "{name} {purchase_type} {status}");
        }
        for (id, row) in [("purchasely_one_time_purchase_id", 1), ("purchasely_subscription_id", 3)]
        {
            let fields = format!(
                r#"{{"event_name":"ACTIVATE","{id}":"x","purchase_type":"NON_RENEWING_SUBSCRIPTION"}}"#
            );
            assert_eq!(effect(&event(&fields)).row, row, "{id}");
        }
    }

    #[test]
    fn rows_2_to_10_follow_the_event_and_the_status() {
        use Plans::{Add, Keep, Remove};
        use Written::{All, Nothing, Status};
        let any = &[ACTIVE, INACTIVE, UNKNOWN, ""][..];
        let unknown = &[UNKNOWN, ""][..];
        let no_access = (Some(false), All, Remove);
        let says_nothing =
            "TRANSACTION_PROCESSED RETENTION_MESSAGE_REQUESTED INSTALLMENT_REFUNDED NEW";
        check(2, says_nothing, any, NO_CHANGE);
        check(3, "ACTIVATE", any, (Some(true), All, Add));
        let transferred = (Some(false), Status, Remove);
        check(4, "SUBSCRIPTION_TRANSFERRED", any, transferred);
        let with_reason = &["ON_HOLD PAUSED UNPAID REVOKED"];
        check(5, "DEACTIVATE", with_reason, no_access);
        let without_reason = &[ACTIVE, "DEACTIVATED CANCELED", UNKNOWN, ""];
        check(6, "DEACTIVATE", without_reason, (None, Nothing, Remove));
        let end = "SUBSCRIPTION_TERMINATED SUBSCRIPTION_EXPIRED SUBSCRIPTION_REFUNDED_REVOKED
            FAMILY_SHARED_REVOKED GRACE_PERIOD_TERMINATED ENTERED_BILLING_RETRY SUBSCRIPTION_PAUSED
            SUBSCRIPTION_CANCELLED_DURING_GRACE_PERIOD SUBSCRIPTION_CANCELLED_DURING_PAUSE";
        check(7, end, any, no_access);
        let start = "SUBSCRIPTION_STARTED SUBSCRIPTION_RENEWED SUBSCRIPTION_REACTIVATED
            SUBSCRIPTION_RECEIVED SUBSCRIPTION_RECOVERED_FROM_GRACE_PERIOD SUBSCRIPTION_UNPAUSED
            SUBSCRIPTION_RECOVERED_FROM_BILLING_RETRY SUBSCRIPTION_DEFERRED GRACE_PERIOD_STARTED
            TRIAL_STARTED TRIAL_CONVERTED INTRO_OFFER_STARTED INTRO_OFFER_CONVERTED
            PROMO_CODE_STARTED PROMO_CODE_CONVERTED
            PROMOTIONAL_OFFER_STARTED PROMOTIONAL_OFFER_CONVERTED";
        check(8, start, &[ACTIVE, UNKNOWN, ""], (Some(true), All, Add));
        check(8, start, &[INACTIVE], no_access);
        let plan_change = "SUBSCRIPTION_UPGRADED SUBSCRIPTION_DOWNGRADED SUBSCRIPTION_CROSSGRADED";
        check(9, plan_change, &[ACTIVE], (Some(true), All, Add));
        check(9, plan_change, &[INACTIVE, UNKNOWN, ""], NO_CHANGE);
        let intention = "RENEWAL_DISABLED RENEWAL_ENABLED SUBSCRIPTION_WILL_PAUSE
            SUBSCRIPTION_WILL_NOT_PAUSE TRIAL_NOT_CONVERTED INTRO_OFFER_NOT_CONVERTED
            PROMO_CODE_NOT_CONVERTED PROMOTIONAL_OFFER_NOT_CONVERTED INSTALLMENT_PAID";
        check(10, intention, &[ACTIVE], (Some(true), All, Keep));
        check(10, intention, &[INACTIVE], (Some(false), All, Keep));
        check(10, intention, unknown, (None, All, Keep));
    }

    #[test]
    fn only_three_documented_events_fall_through_to_row_2() {
        let row_2: Vec<_> = catalogue::EVENTS
            .iter()
            .map(|(name, _)| *name)
            .filter(|name| effect_of(name, "RENEWING_SUBSCRIPTION", "AUTO_RENEWING").row == 2)
            .collect();
        let expected =
            ["RETENTION_MESSAGE_REQUESTED", "INSTALLMENT_REFUNDED", "TRANSACTION_PROCESSED"];
        assert_eq!(row_2, expected);
    }

    #[track_caller]
    fn check_profile(rules: &ProfileRules, fields: &str, expected: &Json) {
        let body = format!("{{{fields}}}");
        let event = event(&body);
        let all = PropertyRules::default();
        let properties = properties::of_event(&event, &all, &mut |_, _| {});
        let record = Record {
            role: Role::Profile,
            user: User::Identity("u".into()),
            at: None,
            content: Content::Profile {
                changes: changes(&event, rules, &RevenueCurrency::Integration, &properties),
            },
        };
        let upload = serde_json::to_value(Upload(&[&record])).unwrap();
        assert_eq!(&upload["d"][0]["profileData"], expected);
    }

    #[test]
    fn writes_the_listed_properties_that_the_payload_has() {
        let fields = r#""event_name":"TRIAL_STARTED","plan":"yearly","subscription_status":"AUTO_RENEWING",
            "original_purchased_at_ms":1772439330000,"purchased_at_ms":1772439331000,"offer_type":"FREE_TRIAL",
            "promotional_offer_id":"p","cumulated_revenues_in_usd":5,"device_id":"d","store":"STRIPE""#;
        check_profile(
            &ProfileRules::default(),
            fields,
            &json!({
                "has_active_subscription": true,
                "active_plans": { "$add": ["yearly"] },
                "subscription_status": "AUTO_RENEWING",
                "plan": "yearly",
                "store": "STRIPE",
                "offer_type": "FREE_TRIAL",
                "subscription_started_at": "$D_1772439331",
                "original_purchased_at": "$D_1772439330",
                "lifetime_revenue": 5.0,
            }),
        );
        let rules = ProfileRules {
            properties: vec!["device_id".into(), "plan".into()],
            names: HashMap::from([("plan".into(), "Current Plan".into())]),
        };
        let expected = json!({ "device_id": "d", "Current Plan": "yearly" });
        check_profile(&rules, fields, &expected);
    }

    #[test]
    fn a_subscription_starts_only_with_an_event_that_carries_its_first_purchase() {
        const ALWAYS: &str =
            "SUBSCRIPTION_STARTED SUBSCRIPTION_REACTIVATED TRIAL_STARTED INTRO_OFFER_STARTED";
        const IF_FIRST: &str = "SUBSCRIPTION_RECEIVED PROMO_CODE_STARTED PROMOTIONAL_OFFER_STARTED";
        let rules = ProfileRules {
            properties: vec![SUBSCRIPTION_STARTED_AT.to_owned()],
            ..ProfileRules::default()
        };
        let started = json!({ "subscription_started_at": "$D_2000000000" });
        for name in catalogue::EVENTS.iter().map(|(name, _)| *name).chain(["NEW"]) {
            let is = |names: &str| names.split(' ').any(|other| other == name);
            for (times, status, is_started) in [
                ("2000000000000 2000000000000", "AUTO_RENEWING", is(ALWAYS) || is(IF_FIRST)),
                ("2000000000000 1999999940000", "", is(ALWAYS) || is(IF_FIRST)),
                ("2000000000000 2000000060000", "AUTO_RENEWING", is(ALWAYS) || is(IF_FIRST)),
                ("2000000000000 2000000060001", "AUTO_RENEWING", is(ALWAYS)),
                ("2000000000000 null", "AUTO_RENEWING", is(ALWAYS)),
                ("2000000000000 2000000000000", "DEACTIVATED", false),
                ("null 2000000000000", "AUTO_RENEWING", false),
            ] {
                let (purchased, original) = times.split_once(' ').unwrap();
                let fields = format!(
                    r#""event_name":"{name}","purchased_at_ms":{purchased},"original_purchased_at_ms":{original},"subscription_status":"{status}""#
                );
                let expected = if is_started { &started } else { &json!({}) };
                check_profile(&rules, &fields, expected);
            }
        }
    }

    #[test]
    fn a_promotional_offer_is_written_only_while_it_runs() {
        let rules = ProfileRules {
            properties: vec![PROMOTIONAL_OFFER_ID.to_owned()],
            ..ProfileRules::default()
        };
        for (offer_type, expected) in [
            ("PROMOTIONAL_OFFER", json!({ "promotional_offer_id": "p" })),
            ("NONE", json!({})),
        ] {
            let fields = format!(
                r#""event_name":"SUBSCRIPTION_STARTED","offer_type":"{offer_type}","promotional_offer_id":"p""#
            );
            check_profile(&rules, &fields, &expected);
        }
    }

    #[test]
    fn a_transfer_writes_status_access_and_plan_only() {
        check_profile(
            &ProfileRules::default(),
            r#""event_name":"SUBSCRIPTION_TRANSFERRED","plan":"yearly","store":"STRIPE","subscription_status":"DEACTIVATED""#,
            &json!({
                "has_active_subscription": false,
                "active_plans": { "$remove": ["yearly"] },
                "subscription_status": "DEACTIVATED",
            }),
        );
    }
}
