//! What happens to each field of a payload, in a word and in a sentence.
//! It does not know the payload's values.

use purchasely_clevertap::clevertap::limits;
use purchasely_clevertap::mapping::Fate;
use purchasely_clevertap::purchasely::catalogue::{self, Kind};
use serde::Serialize;

/// A field of the payload or of an object in it.
#[derive(Serialize)]
pub struct Field {
    /// `object.field` inside an object.
    pub field: String,
    /// One word, as in the function's log.
    pub outcome: &'static str,
    /// The event property that carries the value.
    pub property: Option<String>,
    pub why: String,
}

type Outcome<'e> = (String, Fate<'e>);

/// Explains all fields, sorted by name.
pub fn explain(outcomes: &[Outcome<'_>]) -> Vec<Field> {
    let explain = |(field, outcome): &Outcome<'_>| Field {
        field: field.clone(),
        outcome: outcome.code(),
        property: property(outcome).map(str::to_owned),
        why: why(field, outcome, outcomes),
    };
    let mut fields: Vec<_> = outcomes.iter().map(explain).collect();
    fields.sort_by(|a, b| a.field.cmp(&b.field));
    fields
}

fn property<'f>(outcome: &'f Fate<'_>) -> Option<&'f str> {
    match outcome {
        Fate::Sent(key) | Fate::SentAsDate(key) | Fate::Fitted(key) => Some(key),
        _ => None,
    }
}

fn why(field: &str, outcome: &Fate<'_>, all: &[Outcome<'_>]) -> String {
    match outcome {
        Fate::Sent(key) => sent_as(field, key).to_owned(),
        Fate::SentAsDate(key) => format!("{}, as a date", sent_as(field, key)),
        Fate::Fitted(key) => format!(
            "{}, changed to a text of at most {} bytes that does not begin with `$D_`",
            sent_as(field, key),
            limits::TEXT_BYTES
        ),
        Fate::Twin => format!("{} carries the same time", field.trim_end_matches("_ms")),
        Fate::Sensitive => "a credential, never sent".to_owned(),
        Fate::Omitted => "named in PROPERTIES_OMITTED".to_owned(),
        Fate::Unknown => "not documented by Purchasely, and UNKNOWN_FIELDS=drop".to_owned(),
        Fate::Empty => "empty".to_owned(),
        Fate::WrongType => format!("the documented type is {}", documented_type(field)),
        Fate::UnusableName => "its name has no character that CleverTap allows".to_owned(),
        Fate::Collision(key) => {
            let mut all = all.iter();
            match all.find(|(_, other)| property(other) == Some(key.as_ref())) {
                Some((other, _)) => format!("{other} is already sent as {key}"),
                None => format!("{key} is the name of a documented field"),
            }
        }
        Fate::OverLimit => format!("beyond CleverTap's limit of {}", limits::PROPERTIES),
        Fate::NoAmount => "no amount with its currency".to_owned(),
    }
}

fn sent_as(field: &str, key: &str) -> &'static str {
    if field == key {
        "under the same name"
    } else if field.strip_suffix("_ms") == Some(key) {
        "under the name without _ms"
    } else if field.replace('.', "_") == key {
        "after the name of its object"
    } else {
        "without the characters that CleverTap does not allow in names"
    }
}

fn documented_type(field: &str) -> &'static str {
    let time = field.trim_end_matches("_ms");
    match catalogue::kind(time) {
        Some(Kind::Texts) => "an object of texts",
        Some(Kind::Integer) => "a whole number",
        Some(Kind::Decimal) => "a number",
        Some(Kind::Boolean) => "true or false",
        Some(Kind::Time) => "a time",
        Some(Kind::Text | Kind::Unspecified) | None => "text",
    }
}
