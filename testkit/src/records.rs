//! Whether an uploaded record is right: CleverTap accepts it, and each documented field of Purchasely's has its type.
//! It does not know which webhook the record was made of.

use crate::world::clevertap::rules::refusal_of;
use purchasely_clevertap::purchasely::catalogue::{Kind, kind};
use serde_json::Value;

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

/// Whether a property of an event record has the one type of the field that it is named after. The types are the
/// mapping's own; `tests/it/samples.rs` compares them with Purchasely's samples.
fn has_its_type(property: &str, value: &Value) -> bool {
    let is_date = value.as_str().is_some_and(|text| text.starts_with("$D_"));
    match kind(property) {
        Some(Kind::Text) => value.is_string() && !is_date,
        Some(Kind::Time) => is_date,
        Some(Kind::Integer) => value.is_i64(),
        Some(Kind::Decimal) => value.is_f64(),
        Some(Kind::Boolean) => value.is_boolean(),
        // An object, of which only the fields are properties.
        Some(Kind::Texts) => false,
        Some(Kind::Unspecified) | None => true,
    }
}
