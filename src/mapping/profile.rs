//! What an event changes on the user's profile.
//!
//! It does not know the profile as it is: each rule holds whatever came before, and for several
//! subscriptions of one user.

use crate::clevertap::{Change, Value, limits};
use crate::purchasely::Event;
use crate::purchasely::catalogue;
use std::borrow::Cow;
use std::collections::HashMap;

/// Whether the subscription of the user's last event is active.
pub const HAS_ACTIVE_SUBSCRIPTION: &str = "has_active_subscription";
/// The plans of all the user's active subscriptions.
pub const ACTIVE_PLANS: &str = "active_plans";
/// When the user first paid; Purchasely's `original_purchased_at` under the name that its own
/// integrations give it.
pub const SUBSCRIPTION_STARTED_AT: &str = "subscription_started_at";
const ORIGINAL_PURCHASED_AT: &str = "original_purchased_at";
const PROMOTIONAL_OFFER_ID: &str = "promotional_offer_id";
const SUBSCRIPTION_STATUS: &str = "subscription_status";

/// What is kept up to date unless `USER_PROPERTIES` says otherwise.
pub const DEFAULT_PROPERTIES: &[&str] = &[
    HAS_ACTIVE_SUBSCRIPTION,
    ACTIVE_PLANS,
    SUBSCRIPTION_STATUS,
    "plan",
    "product",
    "store",
    "store_country",
    "offer_type",
    "is_family_shared",
    SUBSCRIPTION_STARTED_AT,
    "effective_next_renewal_at",
    PROMOTIONAL_OFFER_ID,
];

/// Which profile properties are kept, and under which names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileRules {
    /// In the order in which they are written (`USER_PROPERTIES`); none turns profile records off.
    pub properties: Vec<String>,
    /// Our name → the owner's, valid in CleverTap (`USER_PROPERTY_NAMES`).
    pub names: HashMap<String, String>,
}

impl Default for ProfileRules {
    fn default() -> Self {
        Self {
            properties: DEFAULT_PROPERTIES
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
            names: HashMap::new(),
        }
    }
}

/// What an event may change. The README tells the same table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Effect {
    /// The row of the table that applies, from 1.
    pub row: u8,
    /// The new value of [`HAS_ACTIVE_SUBSCRIPTION`], if it is known.
    pub active: Option<bool>,
    /// Which of the other properties are written.
    pub written: Written,
    /// What happens to [`ACTIVE_PLANS`].
    pub plans: Plans,
}

/// Which properties are written, apart from the two that have rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// None of them.
    Nothing,
    /// Only the subscription's status.
    Status,
    /// All that are wanted and in the payload.
    All,
}

/// What happens to the set of active plans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plans {
    /// It stays.
    Keep,
    /// The event's plan is added.
    Add,
    /// The event's plan is removed.
    Remove,
}

/// What a subscription's status says about access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Active,
    Inactive,
    Unsaid,
}

/// Finds the first row of the table that fits.
#[must_use]
pub fn effect(event: &Event) -> Effect {
    use Plans::{Add, Keep, Remove};
    use Written::{All, Nothing};
    let status = status(event);
    let row = |row, active, written, plans| Effect {
        row,
        active,
        written,
        plans,
    };
    if is_one_time(event) {
        return row(1, None, Nothing, Keep);
    }
    match event.name() {
        "ACTIVATE" => row(3, Some(true), All, Add),
        "SUBSCRIPTION_TRANSFERRED" => row(4, Some(false), Written::Status, Remove),
        "DEACTIVATE" => match event.text(SUBSCRIPTION_STATUS) {
            Some("ON_HOLD" | "PAUSED" | "UNPAID" | "REVOKED") => row(5, Some(false), All, Remove),
            // A plan change, a transfer or an end: its lifecycle twin decides.
            _ => row(6, None, Nothing, Remove),
        },
        "SUBSCRIPTION_TERMINATED"
        | "SUBSCRIPTION_EXPIRED"
        | "SUBSCRIPTION_REFUNDED_REVOKED"
        | "FAMILY_SHARED_REVOKED"
        | "GRACE_PERIOD_TERMINATED"
        | "SUBSCRIPTION_CANCELLED_DURING_GRACE_PERIOD"
        | "SUBSCRIPTION_CANCELLED_DURING_PAUSE"
        | "ENTERED_BILLING_RETRY"
        | "SUBSCRIPTION_PAUSED" => row(7, Some(false), All, Remove),
        "SUBSCRIPTION_STARTED"
        | "SUBSCRIPTION_RENEWED"
        | "SUBSCRIPTION_REACTIVATED"
        | "SUBSCRIPTION_RECEIVED"
        | "SUBSCRIPTION_RECOVERED_FROM_GRACE_PERIOD"
        | "SUBSCRIPTION_RECOVERED_FROM_BILLING_RETRY"
        | "SUBSCRIPTION_UNPAUSED"
        | "SUBSCRIPTION_DEFERRED"
        | "GRACE_PERIOD_STARTED"
        | "TRIAL_STARTED"
        | "TRIAL_CONVERTED"
        | "INTRO_OFFER_STARTED"
        | "INTRO_OFFER_CONVERTED"
        | "PROMO_CODE_STARTED"
        | "PROMO_CODE_CONVERTED"
        | "PROMOTIONAL_OFFER_STARTED"
        | "PROMOTIONAL_OFFER_CONVERTED" => match status {
            Status::Active | Status::Unsaid => row(8, Some(true), All, Add),
            Status::Inactive => row(8, Some(false), All, Remove),
        },
        "SUBSCRIPTION_UPGRADED" | "SUBSCRIPTION_DOWNGRADED" | "SUBSCRIPTION_CROSSGRADED" => {
            match status {
                Status::Active => row(9, Some(true), All, Add),
                Status::Inactive | Status::Unsaid => row(9, None, Nothing, Keep),
            }
        }
        "RENEWAL_DISABLED"
        | "RENEWAL_ENABLED"
        | "SUBSCRIPTION_WILL_PAUSE"
        | "SUBSCRIPTION_WILL_NOT_PAUSE"
        | "TRIAL_NOT_CONVERTED"
        | "INTRO_OFFER_NOT_CONVERTED"
        | "PROMO_CODE_NOT_CONVERTED"
        | "PROMOTIONAL_OFFER_NOT_CONVERTED"
        | "INSTALLMENT_PAID" => match status {
            Status::Active => row(10, Some(true), All, Keep),
            Status::Inactive => row(10, Some(false), All, Keep),
            Status::Unsaid => row(10, None, All, Keep),
        },
        // TRANSACTION_PROCESSED, RETENTION_MESSAGE_REQUESTED, INSTALLMENT_REFUNDED, unknown names.
        _ => row(2, None, Nothing, Keep),
    }
}

/// The changes to the profile, in the owner's order; unique by key. `properties` are those of the
/// event, already of their types and made to fit.
#[must_use]
pub fn changes<'e>(
    event: &Event,
    rules: &'e ProfileRules,
    properties: &[(Cow<'e, str>, Value<'e>)],
) -> Vec<(Cow<'e, str>, Change<'e>)> {
    let effect = effect(event);
    let find = |key: &str| {
        let found = properties.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.clone())
    };
    let of = |wanted: &str| match wanted {
        HAS_ACTIVE_SUBSCRIPTION => Some(Change::Set(Value::Boolean(effect.active?))),
        ACTIVE_PLANS => match (effect.plans, find("plan")?) {
            (Plans::Add, Value::Text(plan)) => Some(Change::Add(plan)),
            (Plans::Remove, Value::Text(plan)) => Some(Change::Remove(plan)),
            _ => None,
        },
        _ if !effect.writes(wanted) => None,
        SUBSCRIPTION_STARTED_AT => find(ORIGINAL_PURCHASED_AT).map(Change::Set),
        PROMOTIONAL_OFFER_ID if event.text("offer_type") != Some("PROMOTIONAL_OFFER") => None,
        _ => find(wanted).map(Change::Set),
    };
    rules
        .properties
        .iter()
        .filter_map(|wanted| {
            let change = of(wanted)?;
            let name = rules.names.get(wanted).unwrap_or(wanted);
            limits::check_profile_key(name).ok()?;
            Some((Cow::Borrowed(name.as_str()), change))
        })
        .collect()
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

/// Whether this is about something bought once, which says nothing about a subscription.
fn is_one_time(event: &Event) -> bool {
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

fn status(event: &Event) -> Status {
    match event.text(SUBSCRIPTION_STATUS) {
        // Purchasely's pages spell the second with one L and with two.
        Some(
            "AUTO_RENEWING"
            | "AUTO_RENEWING_CANCELED"
            | "AUTO_RENEWING_CANCELLED"
            | "IN_GRACE_PERIOD",
        ) => Status::Active,
        Some("ON_HOLD" | "PAUSED" | "UNPAID" | "REVOKED" | "DEACTIVATED" | "CANCELED") => {
            Status::Inactive
        }
        _ => Status::Unsaid,
    }
}

/// Whether a profile property of this name can come from Purchasely at all, as far as is documented.
#[must_use]
pub fn is_known_property(name: &str) -> bool {
    DEFAULT_PROPERTIES.contains(&name) || catalogue::kind(name).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clevertap::{Content, Record, UnixSeconds, Upload, User};
    use crate::mapping::properties::{self, PropertyRules};
    use crate::purchasely::Verified;
    use catalogue::EVENTS;
    use serde_json::Value as Json;

    const PAID: &str = "RENEWING_SUBSCRIPTION";

    fn event(name: &str, kind: &str, status: &str) -> Event {
        let body = format!(
            r#"{{"event_name":"{name}","user_id":"u","plan":"yearly","purchase_type":"{kind}","subscription_status":"{status}"}}"#
        );
        Event::parse(Verified::unsigned(body.as_bytes())).unwrap()
    }

    #[track_caller]
    fn check(names: &[&str], statuses: &[&str], expected: (u8, Option<bool>, Written, Plans)) {
        let (row, active, written, plans) = expected;
        let expected = Effect {
            row,
            active,
            written,
            plans,
        };
        for name in names {
            for status in statuses {
                assert_eq!(
                    effect(&event(name, PAID, status)),
                    expected,
                    "{name} {status}"
                );
            }
        }
    }

    const ACTIVE: &[&str] = &[
        "AUTO_RENEWING",
        "AUTO_RENEWING_CANCELED",
        "AUTO_RENEWING_CANCELLED",
        "IN_GRACE_PERIOD",
    ];
    const INACTIVE: &[&str] = &[
        "ON_HOLD",
        "PAUSED",
        "UNPAID",
        "REVOKED",
        "DEACTIVATED",
        "CANCELED",
    ];
    const UNSAID: &[&str] = &["", "SOMETHING_NEW"];

    fn any() -> Vec<&'static str> {
        [ACTIVE, INACTIVE, UNSAID].concat()
    }

    #[test]
    fn row_1_a_one_time_purchase_changes_no_profile() {
        let none = Effect {
            row: 1,
            active: None,
            written: Written::Nothing,
            plans: Plans::Keep,
        };
        for kind in ["CONSUMABLE", "NON_CONSUMABLE"] {
            for name in ["ACTIVATE", "DEACTIVATE", "SUBSCRIPTION_STARTED"] {
                assert_eq!(effect(&event(name, kind, "AUTO_RENEWING")), none);
            }
        }
        for name in [
            "ONE_TIME_PURCHASE_TRANSFERRED",
            "ONE_TIME_PURCHASE_RECEIVED",
        ] {
            assert_eq!(effect(&event(name, PAID, "AUTO_RENEWING")), none);
        }
        assert_eq!(
            effect(&event("ACTIVATE", "NON_RENEWING_SUBSCRIPTION", "")),
            none
        );
        let by_id = br#"{"event_name":"ACTIVATE","purchasely_one_time_purchase_id":"otp_1"}"#;
        let by_id = Event::parse(Verified::unsigned(by_id)).unwrap();
        assert_eq!(effect(&by_id), none);
        let still_one = effect(&event(
            "ACTIVATE",
            "NON_RENEWING_SUBSCRIPTION",
            "AUTO_RENEWING",
        ));
        assert_eq!(still_one.row, 3);
    }

    #[test]
    fn row_2_what_says_nothing_about_access_changes_no_profile() {
        check(
            &[
                "TRANSACTION_PROCESSED",
                "RETENTION_MESSAGE_REQUESTED",
                "INSTALLMENT_REFUNDED",
                "NEW",
            ],
            &any(),
            (2, None, Written::Nothing, Plans::Keep),
        );
    }

    #[test]
    fn row_3_activate_is_access_whatever_the_status() {
        check(
            &["ACTIVATE"],
            &any(),
            (3, Some(true), Written::All, Plans::Add),
        );
    }

    #[test]
    fn row_4_the_old_owner_of_a_transfer_has_no_access() {
        let expected = (4, Some(false), Written::Status, Plans::Remove);
        check(&["SUBSCRIPTION_TRANSFERRED"], &any(), expected);
    }

    #[test]
    fn row_5_deactivate_with_a_reason_ends_access() {
        let expected = (5, Some(false), Written::All, Plans::Remove);
        check(
            &["DEACTIVATE"],
            &["ON_HOLD", "PAUSED", "UNPAID", "REVOKED"],
            expected,
        );
    }

    #[test]
    fn row_6_another_deactivate_only_removes_the_plan() {
        let statuses = [ACTIVE, UNSAID, &["DEACTIVATED", "CANCELED"]].concat();
        check(
            &["DEACTIVATE"],
            &statuses,
            (6, None, Written::Nothing, Plans::Remove),
        );
    }

    #[test]
    fn row_7_an_end_ends_access_whatever_the_status() {
        check(
            &[
                "SUBSCRIPTION_TERMINATED",
                "SUBSCRIPTION_EXPIRED",
                "SUBSCRIPTION_REFUNDED_REVOKED",
                "FAMILY_SHARED_REVOKED",
                "GRACE_PERIOD_TERMINATED",
                "SUBSCRIPTION_CANCELLED_DURING_GRACE_PERIOD",
                "SUBSCRIPTION_CANCELLED_DURING_PAUSE",
                "ENTERED_BILLING_RETRY",
                "SUBSCRIPTION_PAUSED",
            ],
            &any(),
            (7, Some(false), Written::All, Plans::Remove),
        );
    }

    #[test]
    fn row_8_a_beginning_is_access_unless_the_status_denies_it() {
        let names = [
            "SUBSCRIPTION_STARTED",
            "SUBSCRIPTION_RENEWED",
            "SUBSCRIPTION_REACTIVATED",
            "SUBSCRIPTION_RECEIVED",
            "SUBSCRIPTION_RECOVERED_FROM_GRACE_PERIOD",
            "SUBSCRIPTION_RECOVERED_FROM_BILLING_RETRY",
            "SUBSCRIPTION_UNPAUSED",
            "SUBSCRIPTION_DEFERRED",
            "GRACE_PERIOD_STARTED",
            "TRIAL_STARTED",
            "TRIAL_CONVERTED",
            "INTRO_OFFER_STARTED",
            "INTRO_OFFER_CONVERTED",
            "PROMO_CODE_STARTED",
            "PROMO_CODE_CONVERTED",
            "PROMOTIONAL_OFFER_STARTED",
            "PROMOTIONAL_OFFER_CONVERTED",
        ];
        let active = [ACTIVE, UNSAID].concat();
        check(&names, &active, (8, Some(true), Written::All, Plans::Add));
        check(
            &names,
            INACTIVE,
            (8, Some(false), Written::All, Plans::Remove),
        );
    }

    #[test]
    fn row_9_a_plan_change_counts_only_while_active() {
        let names = [
            "SUBSCRIPTION_UPGRADED",
            "SUBSCRIPTION_DOWNGRADED",
            "SUBSCRIPTION_CROSSGRADED",
        ];
        check(&names, ACTIVE, (9, Some(true), Written::All, Plans::Add));
        let inactive = [INACTIVE, UNSAID].concat();
        check(&names, &inactive, (9, None, Written::Nothing, Plans::Keep));
    }

    #[test]
    fn row_10_an_intention_leaves_the_plans_and_follows_the_status() {
        let names = [
            "RENEWAL_DISABLED",
            "RENEWAL_ENABLED",
            "SUBSCRIPTION_WILL_PAUSE",
            "SUBSCRIPTION_WILL_NOT_PAUSE",
            "TRIAL_NOT_CONVERTED",
            "INTRO_OFFER_NOT_CONVERTED",
            "PROMO_CODE_NOT_CONVERTED",
            "PROMOTIONAL_OFFER_NOT_CONVERTED",
            "INSTALLMENT_PAID",
        ];
        check(&names, ACTIVE, (10, Some(true), Written::All, Plans::Keep));
        check(
            &names,
            INACTIVE,
            (10, Some(false), Written::All, Plans::Keep),
        );
        check(&names, UNSAID, (10, None, Written::All, Plans::Keep));
    }

    #[test]
    fn every_event_of_the_catalogue_has_a_row_of_its_own_choice() {
        let row_2 = [
            "TRANSACTION_PROCESSED",
            "RETENTION_MESSAGE_REQUESTED",
            "INSTALLMENT_REFUNDED",
        ];
        for (name, _) in EVENTS {
            let row = effect(&event(name, PAID, "AUTO_RENEWING")).row;
            assert_eq!(row == 2, row_2.contains(name), "{name}");
        }
    }

    fn written(rules: &ProfileRules, fields: &str) -> Json {
        let body = format!(r#"{{"user_id":"u",{fields}}}"#);
        let event = Event::parse(Verified::unsigned(body.as_bytes())).unwrap();
        let everything = PropertyRules::default();
        let properties = properties::of_event(&event, &everything, &mut |_, _| {});
        let record = Record {
            role: crate::clevertap::Role::Event,
            user: User::Identity("u".into()),
            at: Some(UnixSeconds(1)),
            content: Content::Profile {
                changes: changes(&event, rules, &properties),
            },
        };
        let upload = serde_json::to_value(Upload(&[&record])).unwrap();
        upload["d"][0]["profileData"].clone()
    }

    #[test]
    fn writes_what_is_wanted_and_present() {
        let fields = r#""event_name":"TRIAL_STARTED","plan":"yearly","subscription_status":"AUTO_RENEWING",
            "original_purchased_at_ms":1772439330000,"offer_type":"FREE_TRIAL","promotional_offer_id":"p",
            "device_id":"d","store":"STRIPE""#;
        assert_eq!(
            written(&ProfileRules::default(), fields),
            serde_json::json!({
                "has_active_subscription": true,
                "active_plans": { "$add": ["yearly"] },
                "subscription_status": "AUTO_RENEWING",
                "plan": "yearly",
                "store": "STRIPE",
                "offer_type": "FREE_TRIAL",
                "subscription_started_at": "$D_1772439330",
            })
        );
        let rules = ProfileRules {
            properties: vec!["device_id".into(), "plan".into()],
            names: HashMap::from([("plan".into(), "Current Plan".into())]),
        };
        let expected = serde_json::json!({ "device_id": "d", "Current Plan": "yearly" });
        assert_eq!(written(&rules, fields), expected);
    }

    #[test]
    fn a_promotional_offer_is_written_only_while_it_runs() {
        let fields = r#""event_name":"PROMOTIONAL_OFFER_STARTED","offer_type":"PROMOTIONAL_OFFER","promotional_offer_id":"p""#;
        assert_eq!(
            written(&ProfileRules::default(), fields)["promotional_offer_id"],
            "p"
        );
    }

    #[test]
    fn a_transfer_writes_status_access_and_plan_only() {
        let fields = r#""event_name":"SUBSCRIPTION_TRANSFERRED","plan":"yearly","store":"STRIPE","subscription_status":"DEACTIVATED""#;
        assert_eq!(
            written(&ProfileRules::default(), fields),
            serde_json::json!({
                "has_active_subscription": false,
                "active_plans": { "$remove": ["yearly"] },
                "subscription_status": "DEACTIVATED",
            })
        );
    }
}
