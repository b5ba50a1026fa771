//! One Purchasely event, read from a body that was verified.
//!
//! It does not know what is sent on, nor who the user is in CleverTap.

use super::signature::Verified;
use serde_json::{Map, Value, error::Category};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Milliseconds since 1970 of the last moment of the year 2999; a later time is a mistake.
const LAST_MILLISECOND: i64 = 32_503_679_999_999;

/// One event of payload version 3: its name, and every field of the payload as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    name: String,
    fields: Map<String, Value>,
}

/// Where the purchase was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// A real purchase, or one that does not say.
    Production,
    /// A tester's purchase.
    Sandbox,
}

/// Why a body is not an event. None of these can ever succeed by being sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Unreadable {
    /// Not JSON, not UTF-8, cut short or nested too deeply.
    #[error("the body is not readable JSON")]
    NotJson,
    /// JSON, but not an object.
    #[error("the body is JSON but not an object")]
    NotAnObject,
    /// The older, nested payload.
    #[error(
        "the body is payload version 2: choose version 3 in Purchasely's console, in the settings of the webhook"
    )]
    #[strum(serialize = "payload_version_two")]
    VersionTwo,
    /// An object without a string `event_name`.
    #[error("the body has no event_name")]
    NoEventName,
}

impl Event {
    /// Reads one event. Order, unknown fields and missing optional fields do not matter.
    pub fn parse(body: Verified<'_>) -> Result<Self, Unreadable> {
        let fields: Map<String, Value> =
            serde_json::from_slice(body.bytes()).map_err(|error| match error.classify() {
                Category::Data => Unreadable::NotAnObject,
                Category::Io | Category::Syntax | Category::Eof => Unreadable::NotJson,
            })?;
        match fields.get("event_name") {
            Some(Value::String(name)) => Ok(Self {
                name: name.clone(),
                fields,
            }),
            _ if is_version_two(&fields) => Err(Unreadable::VersionTwo),
            _ => Err(Unreadable::NoEventName),
        }
    }

    /// Purchasely's name of the event; may be outside the catalogue.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The idempotency key: the same for every delivery of this event. Samples from 2021 lack it.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.text("event_id")
    }

    /// Sandbox only if the payload says so.
    #[must_use]
    pub fn environment(&self) -> Environment {
        match self.text("environment") {
            Some(name) if name.eq_ignore_ascii_case("SANDBOX") => Environment::Sandbox,
            _ => Environment::Production,
        }
    }

    /// Every field of the payload, by name.
    #[must_use]
    pub fn fields(&self) -> &Map<String, Value> {
        &self.fields
    }

    /// A field that holds text with something in it.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        self.fields
            .get(field)?
            .as_str()
            .filter(|text| !text.trim().is_empty())
    }

    /// The moment that a `*_at` field names, in Unix milliseconds, from its `_ms` twin or else its text.
    #[must_use]
    pub fn time_ms(&self, field: &str) -> Option<i64> {
        time_ms(&self.fields, field)
    }
}

/// The moment that a `*_at` field of an object names, in Unix milliseconds, from its `_ms` twin or else
/// its text.
#[must_use]
pub fn time_ms(fields: &Map<String, Value>, field: &str) -> Option<i64> {
    fields
        .get(&format!("{field}_ms"))
        .and_then(milliseconds)
        .or_else(|| fields.get(field).and_then(moment))
}

fn is_version_two(fields: &Map<String, Value>) -> bool {
    let declared = fields.get("api_version");
    declared == Some(&Value::from(2))
        || declared == Some(&Value::from("2"))
        || fields.get("name").is_some_and(Value::is_string)
}

/// Unix milliseconds as a number or as digits.
fn milliseconds(value: &Value) -> Option<i64> {
    let number = match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?))?,
        Value::String(digits) => digits.trim().parse().ok()?,
        _ => return None,
    };
    (1..=LAST_MILLISECOND).contains(&number).then_some(number)
}

/// ISO 8601 text with a date, a time and an offset, as Unix milliseconds.
fn moment(value: &Value) -> Option<i64> {
    let moment = OffsetDateTime::parse(value.as_str()?.trim(), &Rfc3339).ok()?;
    let milliseconds = i64::try_from(moment.unix_timestamp_nanos() / 1_000_000).ok()?;
    (1..=LAST_MILLISECOND)
        .contains(&milliseconds)
        .then_some(milliseconds)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be whole and in range"
)]
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &[u8]) -> Result<Event, Unreadable> {
        Event::parse(Verified::unsigned(body))
    }

    #[test]
    fn reads_the_parts_that_the_relay_needs() {
        let event = parse(
            br#"{"event_id":"e-1","environment":"sandbox","event_name":"ACTIVATE","x":null,"user_id":" "}"#,
        )
        .unwrap();
        assert_eq!(event.name(), "ACTIVATE");
        assert_eq!(event.id(), Some("e-1"));
        assert_eq!(event.environment(), Environment::Sandbox);
        assert_eq!(event.text("user_id"), None);
        assert_eq!(event.fields().len(), 5);
    }

    #[test]
    fn anything_with_a_string_name_is_version_three() {
        let event = parse(br#"{"event_name":"X","api_version":2,"name":"Y"}"#).unwrap();
        assert_eq!(event.name(), "X");
        assert_eq!(event.id(), None);
        assert_eq!(event.environment(), Environment::Production);
    }

    #[test]
    fn tells_why_a_body_is_no_event() {
        let nested = [b"{\"a\":".repeat(10_000), b"1".to_vec()].concat();
        for (body, expected) in [
            (&b""[..], Unreadable::NotJson),
            (b"{", Unreadable::NotJson),
            (b"\xff\xfe", Unreadable::NotJson),
            (b"{\"event_name\":\"\xff\"}", Unreadable::NotJson),
            (&nested, Unreadable::NotJson),
            (b"[]", Unreadable::NotAnObject),
            (b"null", Unreadable::NotAnObject),
            (b"{}", Unreadable::NoEventName),
            (br#"{"event_name":7}"#, Unreadable::NoEventName),
            (
                br#"{"event_name":null,"api_version":3}"#,
                Unreadable::NoEventName,
            ),
            (
                br#"{"api_version":2,"name":"ACTIVATE"}"#,
                Unreadable::VersionTwo,
            ),
            (br#"{"name":"ACTIVATE","user":{}}"#, Unreadable::VersionTwo),
            (br#"{"api_version":"2"}"#, Unreadable::VersionTwo),
        ] {
            assert_eq!(
                parse(body),
                Err(expected),
                "{}",
                String::from_utf8_lossy(body)
            );
        }
    }

    #[test]
    fn a_time_is_read_from_its_twin_and_else_from_its_text() {
        for (fields, expected) in [
            (r#""t_at_ms":1772439330250"#, Some(1_772_439_330_250)),
            (r#""t_at_ms":"1772439330250""#, Some(1_772_439_330_250)),
            (r#""t_at_ms":1772439330250.0"#, Some(1_772_439_330_250)),
            (
                r#""t_at":"2026-03-02T08:15:30.250Z""#,
                Some(1_772_439_330_250),
            ),
            (
                r#""t_at":"2026-03-02T09:15:30+01:00""#,
                Some(1_772_439_330_000),
            ),
            (
                r#""t_at":"2026-03-02T08:15:30Z","t_at_ms":1000"#,
                Some(1000),
            ),
            (
                r#""t_at":"2026-03-02T08:15:30Z","t_at_ms":null"#,
                Some(1_772_439_330_000),
            ),
            (r#""t_at":"tomorrow""#, None),
            (r#""t_at":1772439330250"#, None),
            (r#""t_at_ms":0"#, None),
            (r#""t_at_ms":-5"#, None),
            (r#""t_at_ms":9e18"#, None),
            (r#""t_at":{}"#, None),
        ] {
            let event = parse(format!(r#"{{"event_name":"X",{fields}}}"#).as_bytes()).unwrap();
            assert_eq!(event.time_ms("t_at"), expected, "{fields}");
        }
    }
}
