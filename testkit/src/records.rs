//! Whether an uploaded record is right: CleverTap accepts it, and each documented field of Purchasely's has its type.
//! It does not know which webhook the record was made of.

use crate::world::clevertap::rules::refusal_of;
use serde_json::Value;

/// Purchasely's text fields, written here again so that the mapping is not checked with its own table
/// (<https://docs.purchasely.com>, "Payload", `api_version` 3).
pub const TEXTS: &str = "\
    ab_test ab_test_variant anonymous_user_id audience channel content_id customer_currency device_id device_type \
    environment event_id event_name from_purchasely_subscription_id offer_code_ref_name offer_identifier offer_type \
    placement plan presentation previous_offer_type previous_plan product promotional_offer_id provider \
    purchase_token purchase_type purchasely_one_time_purchase_id purchasely_subscription_id source_event_name store \
    store_app_bundle_id store_country store_original_transaction_id store_product_id store_transaction_id \
    subscription_status transferred_from_anonymous_user_id transferred_from_user_id \
    transferred_to_anonymous_user_id transferred_to_user_id user_id";

/// Purchasely's times: texts in its payload, dates in CleverTap.
pub const TIMES: &str = "\
    auto_resume_at defer_end_at effective_next_renewal_at event_created_at grace_period_expires_at next_renewal_at \
    original_purchased_at purchased_at";

#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Text,
    Time,
    Integer,
    Decimal,
    Boolean,
}

/// The type of a field, if Purchasely documents a simple one.
pub fn kind(field: &str) -> Option<Kind> {
    let money = ["amount_in_", "plan_price_in_", "cumulated_revenues_in_"];
    let is_currency = |code: &str| {
        code == "customer_currency"
            || code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_lowercase())
    };
    let mut currency = money.iter().filter_map(|prefix| field.strip_prefix(prefix));
    match field {
        "api_version" => Some(Kind::Integer),
        "is_family_shared" => Some(Kind::Boolean),
        field if TEXTS.split(' ').any(|text| text == field) => Some(Kind::Text),
        field if TIMES.split(' ').any(|time| time == field) => Some(Kind::Time),
        field if field.starts_with("attribution_utm_") => Some(Kind::Text),
        _ => currency.any(is_currency).then_some(Kind::Decimal),
    }
}

/// What is wrong with a record; `None` if it is right.
pub fn mistake_in(record: &Value) -> Option<String> {
    if let Some(refusal) = refusal_of(record) {
        return Some(refusal);
    }
    let fields = |part: &str| record[part].as_object().into_iter().flatten();
    let mut names = fields("evtData").chain(fields("profileData")).map(|(name, _)| name);
    if let Some(name) = names.find(|name| name.contains("purchase_token")) {
        return Some(format!("{name} is a credential"));
    }
    let mut properties = fields("evtData");
    let wrong = properties.find(|(property, value)| !has_its_type(property, value));
    wrong.map(|(property, value)| format!("{property} is not of its type: {value}"))
}

/// Whether a property of an event record has the one type of the field that it is named after.
fn has_its_type(property: &str, value: &Value) -> bool {
    let is_date = value.as_str().is_some_and(|text| text.starts_with("$D_"));
    match kind(property) {
        Some(Kind::Text) => value.is_string() && !is_date,
        Some(Kind::Time) => is_date,
        Some(Kind::Integer) => value.is_i64(),
        Some(Kind::Decimal) => value.is_f64(),
        Some(Kind::Boolean) => value.is_boolean(),
        // An object, of which only the fields are properties.
        None => property != "attribution",
    }
}
