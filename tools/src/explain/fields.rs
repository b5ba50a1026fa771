//! What happens to each field of a payload, in a word and in a sentence.
//! It does not know the payload's values.

use purchasely_clevertap::clevertap::limits;
use purchasely_clevertap::mapping::FieldOutcome;
use purchasely_clevertap::purchasely::catalogue::{self, Kind};
use serde::Serialize;

/// A field of the payload or of an object in it.
#[derive(Serialize)]
pub struct Field {
    /// `object.field` inside an object.
    pub name: String,
    /// One word, as in the function's log.
    pub outcome: &'static str,
    /// The event property that carries the value.
    pub property: Option<String>,
    pub why: String,
}

type Outcome<'e> = (String, FieldOutcome<'e>);

/// Explains all fields, sorted by name.
pub fn explain(outcomes: &[Outcome<'_>]) -> Vec<Field> {
    let explain = |(field, outcome): &Outcome<'_>| Field {
        name: field.clone(),
        outcome: outcome.into(),
        property: property(outcome).map(str::to_owned),
        why: why(field, outcome, outcomes),
    };
    let mut fields: Vec<_> = outcomes.iter().map(explain).collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    fields
}

fn property<'f>(outcome: &'f FieldOutcome<'_>) -> Option<&'f str> {
    match outcome {
        FieldOutcome::Sent(key) | FieldOutcome::SentAsDate(key) | FieldOutcome::Sanitized(key) => {
            Some(key)
        }
        _ => None,
    }
}

fn why(field: &str, outcome: &FieldOutcome<'_>, all: &[Outcome<'_>]) -> String {
    match outcome {
        FieldOutcome::Sent(key) => sent_as(field, key).to_owned(),
        FieldOutcome::SentAsDate(key) => format!("{}, as a date", sent_as(field, key)),
        FieldOutcome::Sanitized(key) => format!(
            "{}, changed: at most {} characters of name, {} bytes of text that does not begin with `$D_`, no half of a surrogate pair",
            sent_as(field, key),
            limits::NAME_CHARACTERS,
            limits::TEXT_BYTES
        ),
        FieldOutcome::MillisecondTwin => {
            format!("{} carries the same time", field.trim_end_matches("_ms"))
        }
        FieldOutcome::Sensitive => "a credential, never sent".to_owned(),
        FieldOutcome::Omitted => "named in PROPERTIES_OMITTED".to_owned(),
        FieldOutcome::Unknown => "not documented by Purchasely, and UNKNOWN_FIELDS=drop".to_owned(),
        FieldOutcome::Empty => "empty".to_owned(),
        FieldOutcome::WrongType => format!("the documented type is {}", documented_type(field)),
        FieldOutcome::Unreadable => "a number out of range, or nested too deeply".to_owned(),
        FieldOutcome::Placeholder => {
            "a placeholder or a damaged id, which counts as absent".to_owned()
        }
        FieldOutcome::UnknownEnvironment => "neither PRODUCTION nor SANDBOX".to_owned(),
        FieldOutcome::UnusableName => "its name has no character that CleverTap allows".to_owned(),
        FieldOutcome::Collision(key) => {
            let mut all = all.iter();
            match all.find(|(_, other)| property(other) == Some(key.as_ref())) {
                Some((other, _)) => format!("{other} is already sent as {key}"),
                None => format!("{key} is the name of a documented field"),
            }
        }
        FieldOutcome::OverLimit => format!("beyond CleverTap's limit of {}", limits::PROPERTIES),
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
