//! The event names and payload fields that Purchasely documents, and the type of each field.
//!
//! It does not know how they are mapped. Undocumented names are normal: Purchasely adds some at any time.
//! Source: <https://docs.purchasely.com> ("Webhook events", "Payload", `api_version` 3).

/// Purchasely's groups of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    Entitlement,
    Lifecycle,
    Offer,
    Transactional,
}

/// Every documented event name, in Purchasely's order.
#[rustfmt::skip]
pub const EVENTS: &[(&str, Category)] = {
    use Category::{Entitlement, Lifecycle, Offer, Transactional};
    &[
        ("ACTIVATE", Entitlement), ("DEACTIVATE", Entitlement),
        ("SUBSCRIPTION_STARTED", Lifecycle), ("SUBSCRIPTION_RENEWED", Lifecycle),
        ("SUBSCRIPTION_REACTIVATED", Lifecycle), ("SUBSCRIPTION_TERMINATED", Lifecycle),
        // The older name of `SUBSCRIPTION_TERMINATED`, which integration pages still use.
        ("SUBSCRIPTION_EXPIRED", Lifecycle),
        ("SUBSCRIPTION_CROSSGRADED", Lifecycle), ("SUBSCRIPTION_DOWNGRADED", Lifecycle),
        ("SUBSCRIPTION_UPGRADED", Lifecycle), ("SUBSCRIPTION_REFUNDED_REVOKED", Lifecycle),
        ("SUBSCRIPTION_DEFERRED", Lifecycle), ("SUBSCRIPTION_TRANSFERRED", Lifecycle),
        ("SUBSCRIPTION_RECEIVED", Lifecycle), ("ONE_TIME_PURCHASE_TRANSFERRED", Lifecycle),
        ("ONE_TIME_PURCHASE_RECEIVED", Lifecycle), ("RENEWAL_DISABLED", Lifecycle),
        ("RENEWAL_ENABLED", Lifecycle), ("FAMILY_SHARED_REVOKED", Lifecycle),
        ("GRACE_PERIOD_STARTED", Lifecycle), ("GRACE_PERIOD_TERMINATED", Lifecycle),
        ("SUBSCRIPTION_CANCELLED_DURING_GRACE_PERIOD", Lifecycle),
        ("SUBSCRIPTION_RECOVERED_FROM_GRACE_PERIOD", Lifecycle),
        ("ENTERED_BILLING_RETRY", Lifecycle),
        ("SUBSCRIPTION_RECOVERED_FROM_BILLING_RETRY", Lifecycle),
        ("SUBSCRIPTION_WILL_PAUSE", Lifecycle), ("SUBSCRIPTION_PAUSED", Lifecycle),
        ("SUBSCRIPTION_UNPAUSED", Lifecycle), ("SUBSCRIPTION_CANCELLED_DURING_PAUSE", Lifecycle),
        ("SUBSCRIPTION_WILL_NOT_PAUSE", Lifecycle), ("RETENTION_MESSAGE_REQUESTED", Lifecycle),
        ("INSTALLMENT_PAID", Lifecycle), ("INSTALLMENT_REFUNDED", Lifecycle),
        ("TRIAL_STARTED", Offer), ("TRIAL_CONVERTED", Offer), ("TRIAL_NOT_CONVERTED", Offer),
        ("INTRO_OFFER_STARTED", Offer), ("INTRO_OFFER_CONVERTED", Offer),
        ("INTRO_OFFER_NOT_CONVERTED", Offer),
        ("PROMO_CODE_STARTED", Offer), ("PROMO_CODE_CONVERTED", Offer),
        ("PROMO_CODE_NOT_CONVERTED", Offer),
        ("PROMOTIONAL_OFFER_STARTED", Offer), ("PROMOTIONAL_OFFER_CONVERTED", Offer),
        ("PROMOTIONAL_OFFER_NOT_CONVERTED", Offer),
        ("TRANSACTION_PROCESSED", Transactional),
    ]
};

/// Whether Purchasely documents an event of this name.
#[must_use]
pub fn is_known_event(name: &str) -> bool {
    EVENTS.iter().any(|(known, _)| *known == name)
}

/// The type of a documented field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Integer,
    /// An amount or a price, with or without decimals.
    Decimal,
    Boolean,
    /// ISO 8601 text, with a twin `<name>_ms` in Unix milliseconds.
    Time,
    /// An object of texts.
    Texts,
    /// The field is documented, its type is not.
    Unspecified,
}

/// Every documented field with a fixed name, sorted by name.
#[rustfmt::skip]
pub const FIELDS: &[(&str, Kind)] = {
    use Kind::{Boolean, Integer, Text, Texts, Time};
    &[
        ("ab_test", Text), ("ab_test_variant", Text), ("anonymous_user_id", Text),
        ("api_version", Integer), ("attribution", Texts), ("audience", Text),
        ("auto_resume_at", Time), ("channel", Text), ("content_id", Text),
        ("customer_currency", Text), ("defer_end_at", Time), ("device_id", Text),
        ("device_type", Text), ("effective_next_renewal_at", Time), ("environment", Text),
        ("event_created_at", Time), ("event_id", Text), ("event_name", Text),
        ("from_purchasely_subscription_id", Text), ("grace_period_expires_at", Time),
        ("is_family_shared", Boolean), ("next_renewal_at", Time), ("offer_code_ref_name", Text),
        ("offer_identifier", Text), ("offer_type", Text), ("original_purchased_at", Time),
        ("placement", Text), ("plan", Text), ("presentation", Text),
        ("previous_offer_type", Text), ("previous_plan", Text), ("product", Text),
        ("promotional_offer_id", Text), ("provider", Text), ("purchase_token", Text),
        ("purchase_type", Text), ("purchased_at", Time), ("purchasely_one_time_purchase_id", Text),
        ("purchasely_subscription_id", Text), ("source_event_name", Text), ("store", Text),
        ("store_app_bundle_id", Text), ("store_country", Text),
        ("store_original_transaction_id", Text), ("store_product_id", Text),
        ("store_transaction_id", Text), ("subscription_status", Text),
        ("transferred_from_anonymous_user_id", Text), ("transferred_from_user_id", Text),
        ("transferred_to_anonymous_user_id", Text), ("transferred_to_user_id", Text),
        ("user_id", Text),
    ]
};

/// Decimals whose names end in a currency: the app's integration currency in lower case (`usd`), or
/// `customer_currency`.
pub const MONEY_PREFIXES: &[&str] = &["amount_in_", "plan_price_in_", "cumulated_revenues_in_"];

/// Campaign parameters of `attribution`, named as event properties.
pub const CAMPAIGN_PREFIX: &str = "attribution_utm_";

/// Fields of 12-month commitments: Purchasely documents that there are some, but not their names.
pub const COMMITMENT_PREFIX: &str = "commitment_";
/// The object in which the same fields may come.
const COMMITMENT: &str = "commitment";

/// The type of a documented field; `None` if the field is not documented.
#[must_use]
pub fn kind(field: &str) -> Option<Kind> {
    if let Ok(index) = FIELDS.binary_search_by_key(&field, |(name, _)| name) {
        Some(FIELDS[index].1)
    } else if currency(field).is_some() {
        Some(Kind::Decimal)
    } else if field.starts_with(CAMPAIGN_PREFIX) {
        Some(Kind::Text)
    } else if field.starts_with(COMMITMENT_PREFIX) || field == COMMITMENT {
        Some(Kind::Unspecified)
    } else {
        None
    }
}

/// The currency in the name of a money field: `usd` of `amount_in_usd`.
#[must_use]
pub fn currency(field: &str) -> Option<&str> {
    let mut prefixes = MONEY_PREFIXES.iter();
    let currency = prefixes.find_map(|prefix| field.strip_prefix(prefix))?;
    let is_code = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_lowercase());
    (is_code || currency == "customer_currency").then_some(currency)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fmt::Debug;

    /// Copied from Purchasely's pages, not from the tables above.
    const DOCUMENTED_EVENTS: &str = "
        Entitlement: ACTIVATE DEACTIVATE
        Lifecycle: SUBSCRIPTION_STARTED SUBSCRIPTION_RENEWED SUBSCRIPTION_REACTIVATED SUBSCRIPTION_TERMINATED SUBSCRIPTION_EXPIRED SUBSCRIPTION_CROSSGRADED SUBSCRIPTION_DOWNGRADED SUBSCRIPTION_UPGRADED SUBSCRIPTION_REFUNDED_REVOKED SUBSCRIPTION_DEFERRED SUBSCRIPTION_TRANSFERRED SUBSCRIPTION_RECEIVED ONE_TIME_PURCHASE_TRANSFERRED ONE_TIME_PURCHASE_RECEIVED RENEWAL_DISABLED RENEWAL_ENABLED FAMILY_SHARED_REVOKED GRACE_PERIOD_STARTED GRACE_PERIOD_TERMINATED SUBSCRIPTION_CANCELLED_DURING_GRACE_PERIOD SUBSCRIPTION_RECOVERED_FROM_GRACE_PERIOD ENTERED_BILLING_RETRY SUBSCRIPTION_RECOVERED_FROM_BILLING_RETRY SUBSCRIPTION_WILL_PAUSE SUBSCRIPTION_PAUSED SUBSCRIPTION_UNPAUSED SUBSCRIPTION_CANCELLED_DURING_PAUSE SUBSCRIPTION_WILL_NOT_PAUSE RETENTION_MESSAGE_REQUESTED INSTALLMENT_PAID INSTALLMENT_REFUNDED
        Offer: TRIAL_STARTED TRIAL_CONVERTED TRIAL_NOT_CONVERTED INTRO_OFFER_STARTED INTRO_OFFER_CONVERTED INTRO_OFFER_NOT_CONVERTED PROMO_CODE_STARTED PROMO_CODE_CONVERTED PROMO_CODE_NOT_CONVERTED PROMOTIONAL_OFFER_STARTED PROMOTIONAL_OFFER_CONVERTED PROMOTIONAL_OFFER_NOT_CONVERTED
        Transactional: TRANSACTION_PROCESSED";

    type Groups = BTreeMap<String, BTreeSet<String>>;

    fn documented(text: &str) -> Groups {
        let lines = text.lines().filter_map(|line| line.split_once(": "));
        let names = |names: &str| names.split(' ').map(str::to_owned).collect();
        lines.map(|(group, of)| (group.trim().to_owned(), names(of))).collect()
    }

    fn grouped<G: Debug>(table: &[(&str, G)]) -> Groups {
        let mut groups = Groups::new();
        for (name, group) in table {
            let group = groups.entry(format!("{group:?}")).or_default();
            assert!(group.insert((*name).to_owned()), "{name} is there twice");
        }
        groups
    }

    #[test]
    fn the_table_has_exactly_the_documented_events() {
        assert_eq!(grouped(EVENTS), documented(DOCUMENTED_EVENTS));
        assert!(is_known_event("ACTIVATE") && !is_known_event("BRAND_NEW"));
    }

    #[test]
    fn fields_are_sorted_so_that_they_can_be_searched() {
        assert!(FIELDS.is_sorted_by(|a, b| a.0 < b.0));
    }

    #[test]
    fn a_field_without_a_fixed_name_is_known_by_its_prefix() {
        for (field, expected) in [
            ("amount_in_usd", Some(Kind::Decimal)),
            ("plan_price_in_jpy", Some(Kind::Decimal)),
            ("amount_in_customer_currency", Some(Kind::Decimal)),
            ("cumulated_revenues_in_eur", Some(Kind::Decimal)),
            ("amount_in_points", None),
            ("amount_in_USD", None),
            ("attribution_utm_source", Some(Kind::Text)),
            ("commitment_months", Some(Kind::Unspecified)),
            ("commitment", Some(Kind::Unspecified)),
            ("commitments", None),
            ("brand_new", None),
        ] {
            assert_eq!(kind(field), expected, "{field}");
        }
    }
}
