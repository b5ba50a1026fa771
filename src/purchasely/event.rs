//! One Purchasely event, parsed from a verified body.
//!
//! It does not know what is sent to CleverTap, nor who the user is there.

use super::signature::Verified;
use serde_json::{Map, Value, error::Category};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The last millisecond of the year 2999 in Unix time; a later one is not a time.
const MAX_TIME_MS: i64 = 32_503_679_999_999;

/// One event of payload version 3: its name, and all fields of the payload unchanged.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    name: String,
    fields: Map<String, Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// A real purchase, or one whose payload does not say.
    Production,
    /// A tester's purchase.
    Sandbox,
}

/// Why a body is not an event. None of these succeeds when the webhook is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Unreadable {
    /// Not JSON, not UTF-8, truncated or nested too deeply.
    #[error("the body is not valid JSON")]
    NotJson,
    #[error("the body is JSON but not an object")]
    NotAnObject,
    /// The older, nested payload.
    #[error(
        "the body is payload version 2: choose version 3 in Purchasely's console, in the settings of the webhook"
    )]
    #[strum(serialize = "payload_version_two")]
    VersionTwo,
    #[error("the body has no event_name")]
    NoEventName,
}

impl Event {
    /// Parses one event: a JSON object with a text `event_name`, and any other fields in any order.
    pub fn parse(body: Verified<'_>) -> Result<Self, Unreadable> {
        let fields: Map<String, Value> =
            serde_json::from_slice(body.bytes()).map_err(|error| match error.classify() {
                Category::Data => Unreadable::NotAnObject,
                Category::Io | Category::Syntax | Category::Eof => Unreadable::NotJson,
            })?;
        match fields.get("event_name") {
            #[cfg(test)]
            Some(Value::String(name)) if name == "PANICS_IN_PARSING" => panic!("{fields:?}"),
            Some(Value::String(name)) => Ok(Self { name: name.clone(), fields }),
            _ if is_version_two(&fields) => Err(Unreadable::VersionTwo),
            _ => Err(Unreadable::NoEventName),
        }
    }

    /// Purchasely's name of the event, which may be undocumented.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `event_id`: the same for every delivery of this event. Samples from 2021 have none.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.text("event_id")
    }

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

    /// A field's text, if it is not blank.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        let text = self.fields.get(field)?.as_str()?;
        (!text.trim().is_empty()).then_some(text)
    }

    /// The time in a `*_at` field of the payload, in Unix milliseconds.
    #[must_use]
    pub fn time_ms(&self, field: &str) -> Option<i64> {
        time_ms(&self.fields, field)
    }
}

/// The time in a `*_at` field of an object, in Unix milliseconds: from its twin `*_at_ms`, else from its
/// ISO 8601 text.
#[must_use]
pub fn time_ms(fields: &Map<String, Value>, field: &str) -> Option<i64> {
    fields
        .get(&format!("{field}_ms"))
        .and_then(milliseconds)
        .or_else(|| fields.get(field).and_then(iso_8601))
}

fn is_version_two(fields: &Map<String, Value>) -> bool {
    let declared = fields.get("api_version");
    declared == Some(&Value::from(2))
        || declared == Some(&Value::from("2"))
        || fields.get("name").is_some_and(Value::is_string)
}

/// Unix milliseconds, as a whole number or as digits.
fn milliseconds(value: &Value) -> Option<i64> {
    let time_ms = match value {
        Value::Number(number) => number.as_i64().or_else(|| whole(number.as_f64()?))?,
        Value::String(digits) => digits.trim().parse().ok()?,
        _ => return None,
    };
    plausible(time_ms)
}

/// Text with date, time and offset, as Unix milliseconds.
fn iso_8601(value: &Value) -> Option<i64> {
    let time = OffsetDateTime::parse(value.as_str()?.trim(), &Rfc3339).ok()?;
    plausible(i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()?)
}

/// A time of which at least the second is after 1970: CleverTap takes seconds, and refuses 0.
fn plausible(time_ms: i64) -> Option<i64> {
    (1000..=MAX_TIME_MS).contains(&time_ms).then_some(time_ms)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be whole and in range"
)]
fn whole(number: f64) -> Option<i64> {
    /// 2^53: up to here every whole number has a `f64` of its own.
    const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= MAX_EXACT).then_some(number as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: &[u8]) -> Result<Event, Unreadable> {
        Event::parse(Verified::unsigned(body))
    }

    #[test]
    fn an_object_with_a_text_name_is_an_event() {
        let event = parse(
            br#"{"event_id":"e-1","environment":"sandbox","event_name":"ACTIVATE","x":null,"user_id":" "}"#,
        )
        .unwrap();
        assert_eq!(event.name(), "ACTIVATE");
        assert_eq!(event.id(), Some("e-1"));
        assert_eq!(event.environment(), Environment::Sandbox);
        assert_eq!(event.text("user_id"), None);
        assert_eq!(event.fields().len(), 5);

        let event = parse(br#"{"event_name":"X","api_version":2,"name":"Y"}"#).unwrap();
        assert_eq!(event.name(), "X");
        assert_eq!(event.id(), None);
        assert_eq!(event.environment(), Environment::Production);
    }

    #[test]
    fn any_other_body_is_unreadable_for_a_reason() {
        let nested = [b"{\"a\":".repeat(10_000), b"1".to_vec()].concat();
        for (body, expected) in [
            (&b""[..], "not_json"),
            (b"{", "not_json"),
            (b"\xff\xfe", "not_json"),
            (b"{\"event_name\":\"\xff\"}", "not_json"),
            (&nested, "not_json"),
            (b"[]", "not_an_object"),
            (b"null", "not_an_object"),
            (b"{}", "no_event_name"),
            (br#"{"event_name":7}"#, "no_event_name"),
            (br#"{"event_name":null,"api_version":3}"#, "no_event_name"),
            (br#"{"api_version":2,"name":"ACTIVATE"}"#, "payload_version_two"),
            (br#"{"name":"ACTIVATE","user":{}}"#, "payload_version_two"),
            (br#"{"api_version":"2"}"#, "payload_version_two"),
        ] {
            let reason = parse(body).map_err(<&str>::from);
            assert_eq!(reason, Err(expected), "{}", String::from_utf8_lossy(body));
        }
    }

    #[test]
    fn a_time_is_read_from_its_millisecond_twin_or_its_text() {
        for (fields, expected) in [
            (r#""t_at_ms":1772439330250"#, Some(1_772_439_330_250)),
            (r#""t_at_ms":"1772439330250""#, Some(1_772_439_330_250)),
            (r#""t_at_ms":1772439330250.0"#, Some(1_772_439_330_250)),
            (r#""t_at":"2026-03-02T08:15:30.250Z""#, Some(1_772_439_330_250)),
            (r#""t_at":"2026-03-02T09:15:30+01:00""#, Some(1_772_439_330_000)),
            (r#""t_at":"2026-03-02T08:15:30Z","t_at_ms":1000"#, Some(1000)),
            (r#""t_at":"2026-03-02T08:15:30Z","t_at_ms":null"#, Some(1_772_439_330_000)),
            (r#""t_at":"tomorrow""#, None),
            (r#""t_at":1772439330250"#, None),
            (r#""t_at_ms":0"#, None),
            (r#""t_at_ms":999"#, None),
            (r#""t_at_ms":-5"#, None),
            (r#""t_at_ms":9e18"#, None),
            (r#""t_at":{}"#, None),
        ] {
            let event = parse(format!(r#"{{"event_name":"X",{fields}}}"#).as_bytes()).unwrap();
            assert_eq!(event.time_ms("t_at"), expected, "{fields}");
        }
    }
}
