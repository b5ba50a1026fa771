//! The event names and payload fields that Purchasely documents, and each field's one type.
//!
//! It does not know what becomes of them; a name outside the catalogue is normal and handled elsewhere.
//! Source: <https://docs.purchasely.com> ("Webhook events", "Payload", `api_version` 3).

/// What an event speaks of, in Purchasely's own grouping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// The right to use the product.
    Entitlement,
    /// The subscription's life.
    Lifecycle,
    /// Trials, introductory offers, promo codes, promotional offers.
    Offer,
    /// Money.
    Transactional,
}

/// Every event name of the catalogue, as Purchasely groups and orders them.
#[rustfmt::skip]
pub const EVENTS: &[(&str, Category)] = {
    use Category::{Entitlement, Lifecycle, Offer, Transactional};
    &[
        ("ACTIVATE", Entitlement),
        ("DEACTIVATE", Entitlement),
        ("SUBSCRIPTION_STARTED", Lifecycle),
        ("SUBSCRIPTION_RENEWED", Lifecycle),
        ("SUBSCRIPTION_REACTIVATED", Lifecycle),
        ("SUBSCRIPTION_TERMINATED", Lifecycle),
        // The older name of `SUBSCRIPTION_TERMINATED`, still found on integration pages.
        ("SUBSCRIPTION_EXPIRED", Lifecycle),
        ("SUBSCRIPTION_CROSSGRADED", Lifecycle),
        ("SUBSCRIPTION_DOWNGRADED", Lifecycle),
        ("SUBSCRIPTION_UPGRADED", Lifecycle),
        ("SUBSCRIPTION_REFUNDED_REVOKED", Lifecycle),
        ("SUBSCRIPTION_DEFERRED", Lifecycle),
        ("SUBSCRIPTION_TRANSFERRED", Lifecycle),
        ("SUBSCRIPTION_RECEIVED", Lifecycle),
        ("ONE_TIME_PURCHASE_TRANSFERRED", Lifecycle),
        ("ONE_TIME_PURCHASE_RECEIVED", Lifecycle),
        ("RENEWAL_DISABLED", Lifecycle),
        ("RENEWAL_ENABLED", Lifecycle),
        ("FAMILY_SHARED_REVOKED", Lifecycle),
        ("GRACE_PERIOD_STARTED", Lifecycle),
        ("GRACE_PERIOD_TERMINATED", Lifecycle),
        ("SUBSCRIPTION_CANCELLED_DURING_GRACE_PERIOD", Lifecycle),
        ("SUBSCRIPTION_RECOVERED_FROM_GRACE_PERIOD", Lifecycle),
        ("ENTERED_BILLING_RETRY", Lifecycle),
        ("SUBSCRIPTION_RECOVERED_FROM_BILLING_RETRY", Lifecycle),
        ("SUBSCRIPTION_WILL_PAUSE", Lifecycle),
        ("SUBSCRIPTION_PAUSED", Lifecycle),
        ("SUBSCRIPTION_UNPAUSED", Lifecycle),
        ("SUBSCRIPTION_CANCELLED_DURING_PAUSE", Lifecycle),
        ("SUBSCRIPTION_WILL_NOT_PAUSE", Lifecycle),
        ("RETENTION_MESSAGE_REQUESTED", Lifecycle),
        ("INSTALLMENT_PAID", Lifecycle),
        ("INSTALLMENT_REFUNDED", Lifecycle),
        ("TRIAL_STARTED", Offer),
        ("TRIAL_CONVERTED", Offer),
        ("TRIAL_NOT_CONVERTED", Offer),
        ("INTRO_OFFER_STARTED", Offer),
        ("INTRO_OFFER_CONVERTED", Offer),
        ("INTRO_OFFER_NOT_CONVERTED", Offer),
        ("PROMO_CODE_STARTED", Offer),
        ("PROMO_CODE_CONVERTED", Offer),
        ("PROMO_CODE_NOT_CONVERTED", Offer),
        ("PROMOTIONAL_OFFER_STARTED", Offer),
        ("PROMOTIONAL_OFFER_CONVERTED", Offer),
        ("PROMOTIONAL_OFFER_NOT_CONVERTED", Offer),
        ("TRANSACTION_PROCESSED", Transactional),
    ]
};

/// Whether Purchasely documents an event of this name.
#[must_use]
pub fn is_known_event(name: &str) -> bool {
    EVENTS.iter().any(|(known, _)| *known == name)
}

/// The one type that a documented field has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// Money or another number with decimals.
    Decimal,
    /// True or false.
    Boolean,
    /// A moment: ISO 8601 text, with a twin `<name>_ms` in Unix milliseconds.
    Time,
    /// An object of texts.
    Texts,
    /// Documented to exist, its type is not.
    Unspecified,
}

/// Every field whose name is fixed, by name.
#[rustfmt::skip]
pub const FIELDS: &[(&str, Kind)] = {
    use Kind::{Boolean, Integer, Text, Texts, Time};
    &[
        ("ab_test", Text),
        ("ab_test_variant", Text),
        ("anonymous_user_id", Text),
        ("api_version", Integer),
        ("attribution", Texts),
        ("audience", Text),
        ("auto_resume_at", Time),
        ("channel", Text),
        ("content_id", Text),
        ("customer_currency", Text),
        ("defer_end_at", Time),
        ("device_id", Text),
        ("device_type", Text),
        ("effective_next_renewal_at", Time),
        ("environment", Text),
        ("event_created_at", Time),
        ("event_id", Text),
        ("event_name", Text),
        ("from_purchasely_subscription_id", Text),
        ("grace_period_expires_at", Time),
        ("is_family_shared", Boolean),
        ("next_renewal_at", Time),
        ("offer_code_ref_name", Text),
        ("offer_identifier", Text),
        ("offer_type", Text),
        ("original_purchased_at", Time),
        ("placement", Text),
        ("plan", Text),
        ("presentation", Text),
        ("previous_offer_type", Text),
        ("previous_plan", Text),
        ("product", Text),
        ("promotional_offer_id", Text),
        ("provider", Text),
        ("purchase_token", Text),
        ("purchase_type", Text),
        ("purchased_at", Time),
        ("purchasely_one_time_purchase_id", Text),
        ("purchasely_subscription_id", Text),
        ("source_event_name", Text),
        ("store", Text),
        ("store_app_bundle_id", Text),
        ("store_country", Text),
        ("store_original_transaction_id", Text),
        ("store_product_id", Text),
        ("store_transaction_id", Text),
        ("subscription_status", Text),
        ("transferred_from_anonymous_user_id", Text),
        ("transferred_from_user_id", Text),
        ("transferred_to_anonymous_user_id", Text),
        ("transferred_to_user_id", Text),
        ("user_id", Text),
    ]
};

/// Fields whose name ends in a currency: the app's integration currency in lower case, or `customer_currency`.
pub const MONEY_PREFIXES: &[&str] = &["amount_in_", "plan_price_in_", "cumulated_revenues_in_"];

/// Campaign parameters inside `attribution`, whose names are joined when they leave it.
pub const CAMPAIGN_PREFIX: &str = "attribution_utm_";

/// Fields of 12-month commitments; Purchasely documents that they exist, not their names.
pub const COMMITMENT_PREFIX: &str = "commitment_";

/// The documented type of a field; `None` for a field outside the catalogue.
#[must_use]
pub fn kind(field: &str) -> Option<Kind> {
    if let Ok(index) = FIELDS.binary_search_by_key(&field, |(name, _)| name) {
        return Some(FIELDS[index].1);
    }
    if currency(field).is_some() {
        return Some(Kind::Decimal);
    }
    if field.starts_with(CAMPAIGN_PREFIX) {
        return Some(Kind::Text);
    }
    field
        .starts_with(COMMITMENT_PREFIX)
        .then_some(Kind::Unspecified)
}

/// The currency that a money field's name ends in: `usd` for `amount_in_usd`.
#[must_use]
pub fn currency(field: &str) -> Option<&str> {
    let rest = MONEY_PREFIXES
        .iter()
        .find_map(|prefix| field.strip_prefix(prefix))?;
    let is_code = rest.len() == 3 && rest.bytes().all(|byte| byte.is_ascii_lowercase());
    (is_code || rest == "customer_currency").then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_forty_five_names_and_an_older_one() {
        assert_eq!(EVENTS.len(), 46);
    }

    #[test]
    fn fields_are_sorted_so_that_they_can_be_searched() {
        assert!(FIELDS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn every_time_is_named_as_a_time() {
        for (name, kind) in FIELDS {
            assert_eq!(name.ends_with("_at"), *kind == Kind::Time, "{name}");
        }
    }

    #[test]
    fn money_fields_end_in_any_currency() {
        assert_eq!(kind("amount_in_usd"), Some(Kind::Decimal));
        assert_eq!(kind("plan_price_in_jpy"), Some(Kind::Decimal));
        assert_eq!(kind("amount_in_customer_currency"), Some(Kind::Decimal));
        assert_eq!(kind("cumulated_revenues_in_eur"), Some(Kind::Decimal));
        assert_eq!(kind("amount_in_points"), None);
        assert_eq!(kind("amount_in_USD"), None);
    }

    #[test]
    fn a_commitment_field_is_documented_without_a_type() {
        assert_eq!(kind("commitment_months"), Some(Kind::Unspecified));
        assert_eq!(kind("brand_new"), None);
    }
}
