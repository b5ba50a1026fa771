//! The library's decisions in words for people.
//! It does not know how they are arranged, and it decides nothing.

use super::account::property;
use purchasely_clevertap::clevertap::{Value, limits};
use purchasely_clevertap::mapping::profile::{
    ACTIVE_PLANS, Effect, HAS_ACTIVE_SUBSCRIPTION, Plans, SUBSCRIPTION_STARTED_AT, Written,
};
use purchasely_clevertap::mapping::revenue::RevenueCurrency;
use purchasely_clevertap::mapping::{FieldOutcome, Ignored, Rules};
use purchasely_clevertap::purchasely::Event;
use purchasely_clevertap::purchasely::catalogue::{self, Kind};
use serde_json::{Map, Value as Json};
use std::borrow::Cow;

/// Why there is nothing to send.
pub fn ignored(ignored: Ignored, event: &Event, rules: &Rules) -> String {
    match ignored {
        Ignored::EventDisabled => format!(
            "{}, and there is no profile or revenue record that could be sent",
            switched_off(event.name(), rules)
        ),
        Ignored::Sandbox => {
            "a tester's purchase (environment is SANDBOX), which SANDBOX_EVENTS=drop lets go"
                .to_owned()
        }
        Ignored::Anonymous => {
            "the buyer is not signed in, and ANONYMOUS_USER_ID_AS=ignore lets such events go"
                .to_owned()
        }
    }
}

/// Which setting keeps an event of this name from being raised.
fn switched_off(name: &str, rules: &Rules) -> String {
    if rules.events.disabled.contains(name) {
        format!("{name} is switched off by EVENTS_DISABLED")
    } else {
        format!("{name} is not among EVENTS_ENABLED")
    }
}

/// Why an event is raised under its name, or is not.
pub fn name(event: &Event, rules: &Rules, sent_as: Option<&str>) -> String {
    let name = event.name();
    match sent_as {
        _ if !rules.events.raises(name) => switched_off(name, rules),
        None => "nothing is sent of it".to_owned(),
        Some(_) if rules.event_names.contains_key(name) => "named by EVENT_NAMES".to_owned(),
        Some(same) if same == name => "Purchasely's own name".to_owned(),
        Some(_) if limits::sanitize_name(name).is_some_and(|fitted| limits::is_reserved(&fitted)) => {
            "CleverTap keeps the name for its own events".to_owned()
        }
        Some(_) => "the name is made to fit CleverTap's rules".to_owned(),
    }
}

/// Where a field went and why. `fates` are those of all fields, to find the other of a collision.
pub fn fate(field: &str, fate: &FieldOutcome<'_>, event: &Event, fates: &[(String, FieldOutcome<'_>)]) -> String {
    let kind = kind(field, event);
    match fate {
        FieldOutcome::Sent(key) => format!("{}, {}", under(field, key), sent_type(kind, field, event)),
        FieldOutcome::SentAsDate(key) => format!("{}, as a date", under(field, key)),
        FieldOutcome::Sanitized(key) => format!(
            "{}, made to fit: {}",
            under(field, key),
            fitted(value(event.fields(), field))
        ),
        FieldOutcome::MillisecondTwin => {
            let time = field.strip_suffix("_ms").unwrap_or(field);
            format!("left out: the millisecond twin of {time}, which carries the time")
        }
        FieldOutcome::Sensitive => "left out: a credential, which is never sent".to_owned(),
        FieldOutcome::Omitted => "left out by PROPERTIES_OMITTED".to_owned(),
        FieldOutcome::Unknown => {
            "left out by UNKNOWN_FIELDS=drop: Purchasely does not document it".to_owned()
        }
        FieldOutcome::Empty => "left out: there is nothing in it".to_owned(),
        FieldOutcome::WrongType => format!(
            "left out: it is {}, which cannot be read as {}",
            value(event.fields(), field).map_or("missing", found),
            wanted(kind, field, event)
        ),
        FieldOutcome::UnusableName => {
            "left out: its name has no character that CleverTap allows".to_owned()
        }
        FieldOutcome::Collision(key) => {
            let winner = fates
                .iter()
                .find(|(_, other)| property(other) == Some(key.as_ref()));
            match winner {
                Some((winner, _)) => {
                    format!("left out: its name becomes {key}, and {winner} is sent under that")
                }
                None => format!(
                    "left out: its name becomes {key}, which is kept for Purchasely's own field"
                ),
            }
        }
        FieldOutcome::OverLimit => format!(
            "left out: CleverTap takes {} properties, and the least known give way",
            limits::PROPERTIES
        ),
        FieldOutcome::NoAmount => "the transaction has no amount with its currency".to_owned(),
    }
}

/// The documented type of a field, or of the object that it came in.
fn kind(field: &str, event: &Event) -> Option<Kind> {
    let root = || field.split('.').next().unwrap_or(field);
    let name = if event.fields().contains_key(field) {
        field
    } else {
        root()
    };
    let time = name
        .strip_suffix("_ms")
        .filter(|time| time.ends_with("_at"));
    catalogue::kind(time.unwrap_or(name))
}

/// The name under which a field is sent, compared with its own.
fn under(field: &str, key: &str) -> String {
    if field == key {
        "under its own name".to_owned()
    } else if field.strip_suffix("_ms") == Some(key) {
        format!("as {key}, of which only this twin is in the payload")
    } else if field.replace('.', "_") == key {
        "with its object's name in front".to_owned()
    } else {
        "under its name made to fit CleverTap's rules".to_owned()
    }
}

fn sent_type(kind: Option<Kind>, field: &str, event: &Event) -> String {
    let told = match kind {
        Some(Kind::Text | Kind::Texts) => "as text",
        Some(Kind::Integer) => "as a whole number",
        Some(Kind::Decimal) => "as a decimal number",
        Some(Kind::Boolean) => "as true or false",
        Some(Kind::Time) => "as a date",
        Some(Kind::Unspecified) => "as it is (documented without a type)",
        None => "as it is (not documented)",
    };
    match value(event.fields(), field) {
        Some(Json::Array(_)) => format!("{told}, the list joined to one text"),
        _ => told.to_owned(),
    }
}

/// What had to be done to a value.
fn fitted(value: Option<&Json>) -> String {
    let cut = format!("cut to {} bytes", limits::TEXT_BYTES);
    match value {
        Some(Json::String(text)) => {
            let fitted = limits::truncate_text(text);
            match (text.starts_with(fitted), text.len() - fitted.len()) {
                (true, _) => cut,
                (false, 1) => "without its leading $, or CleverTap would read a date".to_owned(),
                (false, _) => format!("without its leading $, and {cut}"),
            }
        }
        Some(Json::Array(_)) => format!(
            "the list joined to one text, without what is no text or is beyond {} bytes",
            limits::TEXT_BYTES
        ),
        _ => cut,
    }
}

fn wanted(kind: Option<Kind>, field: &str, event: &Event) -> &'static str {
    match kind {
        Some(Kind::Texts) if event.fields().contains_key(field) => "an object of texts",
        Some(Kind::Text | Kind::Texts | Kind::Unspecified) | None => "text",
        Some(Kind::Integer) => "a whole number",
        Some(Kind::Decimal) => "a number",
        Some(Kind::Boolean) => "true or false",
        Some(Kind::Time) => "a time",
    }
}

fn found(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "true or false",
        Json::Number(_) => "a number",
        Json::String(_) => "text",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}

/// What stands at a field, or at `object.field`. Names may hold dots of their own.
fn value<'e>(fields: &'e Map<String, Json>, path: &str) -> Option<&'e Json> {
    fields.get(path).or_else(|| {
        fields.iter().find_map(|(name, value)| {
            let rest = path.strip_prefix(name.as_str())?.strip_prefix('.')?;
            self::value(value.as_object()?, rest)
        })
    })
}

/// What the row of the profile table says.
pub fn row(row: u8) -> &'static str {
    match row {
        1 => "something bought once, which says nothing about a subscription",
        2 => "an event that says nothing about access, or one of an unknown name",
        3 => "ACTIVATE is access, whatever the status",
        4 => "a transfer: the holder in the payload is the old owner, who has lost access",
        5 => "DEACTIVATE with a status that ends access (ON_HOLD, PAUSED, UNPAID, REVOKED)",
        6 => {
            "another DEACTIVATE: a plan change, a transfer or an end, which its lifecycle twin tells"
        }
        7 => "an end, a pause, a refund or a failed payment: no access",
        8 => {
            "a start, a renewal, a recovery or an offer taken: access, unless the status denies it"
        }
        9 => "a plan change, which counts only while the status is active",
        10 => "an event that leaves access as the status says",
        _ => "a row that this tool has no words for",
    }
}

/// What an event may change on the profile.
pub fn changes(effect: Effect) -> String {
    let active = effect
        .active
        .map(|active| format!("{HAS_ACTIVE_SUBSCRIPTION} becomes {active}"));
    let written = match effect.written {
        Written::Nothing => None,
        Written::Status => Some("the status is written".to_owned()),
        Written::All => Some("what USER_PROPERTIES asks for is written".to_owned()),
    };
    let plans = match effect.plans {
        Plans::Keep => None,
        Plans::Add => Some(format!("the plan joins {ACTIVE_PLANS}")),
        Plans::Remove => Some(format!("the plan leaves {ACTIVE_PLANS}")),
    };
    let changes: Vec<_> = [active, written, plans].into_iter().flatten().collect();
    if changes.is_empty() {
        "nothing changes".to_owned()
    } else {
        changes.join(", ")
    }
}

/// Where a profile property comes from.
pub fn source(wanted: &str) -> String {
    match wanted {
        HAS_ACTIVE_SUBSCRIPTION => "the row".to_owned(),
        ACTIVE_PLANS => "plan".to_owned(),
        SUBSCRIPTION_STARTED_AT => "original_purchased_at".to_owned(),
        field => field.to_owned(),
    }
}

/// What revenue is told, and where it comes from.
pub fn raised(event: &Event, rules: &Rules, told: &[(Cow<'_, str>, Value<'_>)]) -> String {
    let of = |wanted: &str| {
        let found = told.iter().find(|(key, _)| key == wanted);
        found.map_or(String::new(), |(_, value)| plain(value))
    };
    let currency = match rules.revenue.currency {
        RevenueCurrency::Integration => "the integration currency (REVENUE_CURRENCY=integration)",
        RevenueCurrency::Customer => "what the buyer paid (REVENUE_CURRENCY=customer)",
    };
    let id = if event.text("store_transaction_id").is_some() {
        format!("Charged ID {} from store_transaction_id", of("Charged ID"))
    } else if event.id().is_some() {
        format!("Charged ID {} from event_id", of("Charged ID"))
    } else {
        "no Charged ID".to_owned()
    };
    format!("{} {}, {currency}; {id}", of("Amount"), of("Currency"))
}

fn plain(value: &Value<'_>) -> String {
    match serde_json::to_value(value) {
        Ok(Json::String(text)) => text,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
