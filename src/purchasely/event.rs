//! One Purchasely event, parsed from a verified body.
//!
//! It does not know what is sent to CleverTap, nor who the user is there.

use super::signature::Verified;
use crate::json::{self, Object, Value};
use std::borrow::Cow;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// The last millisecond of the year 2999 in Unix time; a later one is not a time.
const MAX_TIME_MS: i64 = 32_503_679_999_999;
/// March 1973 in milliseconds, the year 5138 in seconds: a smaller `*_at_ms` is in seconds by mistake.
const MIN_TIME_MS: i64 = 100_000_000_000;
/// Fields that name a user, an event or a transaction: what two share by mistake becomes one.
const IDS: [&str; 4] = ["user_id", "anonymous_user_id", "event_id", "store_transaction_id"];

/// One event of payload version 3: its name, and all fields of the payload.
#[derive(Debug, Clone, PartialEq)]
pub struct Event<'b> {
    name: Cow<'b, str>,
    fields: Object<'b>,
    placeholders: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// A real purchase, or one whose payload does not say.
    Production,
    /// A tester's purchase.
    Sandbox,
    /// Neither of the two that Purchasely documents, such as `Xcode`.
    Unknown,
}

/// Why a body is not an event. None of these succeeds when the webhook is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Unreadable {
    /// Not JSON, not UTF-8 or truncated.
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

impl<'b> Event<'b> {
    /// Parses one event: a JSON object with a text `event_name`, and any other fields in any order.
    pub fn parse(body: Verified<'b>) -> Result<Self, Unreadable> {
        let document = json::read(body.bytes()).map_err(|_| Unreadable::NotJson)?;
        let Value::Object(mut fields) = document else {
            return Err(Unreadable::NotAnObject);
        };
        let name = match fields.get("event_name") {
            #[cfg(test)]
            Some(Value::Text(name)) if name == "PANICS_IN_PARSING" => panic!("{fields:?}"),
            Some(Value::Text(name)) => name.clone(),
            Some(Value::Repaired(name)) => Cow::Owned(name.clone()),
            _ if is_version_two(&fields) => return Err(Unreadable::VersionTwo),
            _ => return Err(Unreadable::NoEventName),
        };
        let placeholders = remove_placeholders(&mut fields);
        Ok(Self { name, fields, placeholders })
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
        let name = match self.fields.get("environment") {
            None | Some(Value::Null) => "",
            Some(Value::Text(name)) => name.trim(),
            Some(_) => return Environment::Unknown,
        };
        if name.is_empty() || name.eq_ignore_ascii_case("PRODUCTION") {
            Environment::Production
        } else if name.eq_ignore_ascii_case("SANDBOX") {
            Environment::Sandbox
        } else {
            Environment::Unknown
        }
    }

    /// Every field of the payload, by name. An id that is a number is its digits as text; one that is a
    /// placeholder is null.
    #[must_use]
    pub fn fields(&self) -> &Object<'b> {
        &self.fields
    }

    /// The ids whose value counts as absent: a placeholder or, of an event or a transaction, a text in which
    /// something had to be replaced.
    #[must_use]
    pub fn placeholders(&self) -> &[&'static str] {
        &self.placeholders
    }

    /// A field's text, if it is not blank.
    #[must_use]
    pub fn text(&self, field: &str) -> Option<&str> {
        let text = self.fields.get(field)?.as_text()?;
        (!text.trim().is_empty()).then_some(text)
    }

    /// The time in a `*_at` field of the payload, in Unix milliseconds.
    #[must_use]
    pub fn time_ms(&self, field: &str) -> Option<i64> {
        time_ms(&self.fields, field)
    }
}

/// Whether a text is what programs print by mistake where an id is missing.
#[must_use]
#[rustfmt::skip]
pub fn is_placeholder(text: &str) -> bool {
    matches!(
        text,
        "null" | "NULL" | "undefined" | "UNDEFINED" | "None" | "nil" | "NaN" | "nan" | "(null)" | "<null>"
            | "[object Object]" | "0" | "-1" | "00000000-0000-0000-0000-000000000000"
    )
}

/// A number's digits as written, without a fraction of zero: some backends store ids as floats.
#[must_use]
pub fn digits(number: &str) -> &str {
    match number.split_once('.') {
        Some((whole, fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
        _ => number,
    }
}

/// The time in a `*_at` field of an object, in Unix milliseconds: from its twin `*_at_ms`, else from its
/// ISO 8601 text.
#[must_use]
pub fn time_ms(fields: &Object<'_>, field: &str) -> Option<i64> {
    fields
        .get(&format!("{field}_ms"))
        .and_then(milliseconds)
        .or_else(|| fields.get(field).and_then(iso_8601))
}

/// Makes each id a text, or null where it is none. A user's id of another type stays, because whoever has
/// it is not an anonymous buyer.
fn remove_placeholders(fields: &mut Object<'_>) -> Vec<&'static str> {
    let mut placeholders = Vec::new();
    for id in IDS {
        let Some(value) = fields.get_mut(id) else {
            continue;
        };
        if let Value::Number(number) = value {
            *value = Value::Text(Cow::Borrowed(digits(number)));
        }
        let is_users = id.ends_with("user_id");
        let is_absent = match value {
            Value::Text(text) => is_placeholder(text),
            Value::Repaired(_) => !is_users,
            _ => false,
        };
        if is_absent {
            *value = Value::Null;
            placeholders.push(id);
        }
    }
    placeholders
}

fn is_version_two(fields: &Object<'_>) -> bool {
    let declared = fields.get("api_version").and_then(Value::parse::<u8>);
    declared == Some(2) || fields.get("name").is_some_and(|name| name.as_text().is_some())
}

/// Unix milliseconds, as a whole number or as digits.
fn milliseconds(value: &Value<'_>) -> Option<i64> {
    let time_ms = match value {
        Value::Number(number) => number.parse().ok().or_else(|| whole(number.parse().ok()?))?,
        other => other.parse()?,
    };
    (MIN_TIME_MS..=MAX_TIME_MS).contains(&time_ms).then_some(time_ms)
}

/// Text with date, time and offset, as Unix milliseconds.
///
/// At least the second is after 1970: CleverTap takes seconds, and refuses 0.
fn iso_8601(value: &Value<'_>) -> Option<i64> {
    let time = OffsetDateTime::parse(value.as_text()?.trim(), &Rfc3339).ok()?;
    let time_ms = i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()?;
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

    fn parse(body: &[u8]) -> Result<Event<'_>, Unreadable> {
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
        let cut_short = [b"{\"a\":".repeat(10_000), b"1".to_vec()].concat();
        for (body, expected) in [
            (&b""[..], "not_json"),
            (b"{", "not_json"),
            (b"\xff\xfe", "not_json"),
            (b"{\"event_name\":\"\xff\"}", "not_json"),
            (&cut_short, "not_json"),
            (b"{\"event_name\":\"A\",\"x\":NaN}", "not_json"),
            (b"{\"event_name\":\"A\nB\"}", "not_json"),
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
            (r#""t_at":"2026-03-02T08:15:30Z","t_at_ms":1772439000"#, Some(1_772_439_330_000)),
            (
                r#""t_at":"2026-03-02T08:15:30Z","t_at_ms":99999999999"#,
                Some(1_772_439_330_000),
            ),
            (r#""t_at":"2026-03-02T08:15:30Z","t_at_ms":100000000000"#, Some(100_000_000_000)),
            (r#""t_at":"2026-03-02T08:15:30Z","t_at_ms":1e400"#, Some(1_772_439_330_000)),
            (r#""t_at_ms":1772439330"#, None),
            (r#""t_at":"2026-03-02T08:15:30Z","t_at_ms":null"#, Some(1_772_439_330_000)),
            (r#""t_at":"tomorrow""#, None),
            (r#""t_at":1772439330250"#, None),
            (r#""t_at_ms":0"#, None),
            (r#""t_at":"1970-01-01T00:00:00.999Z""#, None),
            (r#""t_at_ms":9e18"#, None),
            (r#""t_at":{}"#, None),
        ] {
            let body = format!(r#"{{"event_name":"X",{fields}}}"#);
            let event = parse(body.as_bytes()).unwrap();
            assert_eq!(event.time_ms("t_at"), expected, "{fields}");
        }
    }

    #[test]
    fn one_bad_value_does_not_cost_the_event() {
        let nested =
            format!(r#""event_name":"A","x":{}{}"#, "[".repeat(10_000), "]".repeat(10_000));
        for fields in [
            r#""event_name":"A","placement":"Spring \ud83c""#,
            r#""event_name":"A","\ud83c":{"a":["\udf0d"]}"#,
            r#""event_name":"A","x":1e400"#,
            r#""event_name":"first","event_name":"A""#,
            &nested,
        ] {
            let body = format!("\u{feff}{{{fields},\"plan\":\"p\"}}");
            let event = parse(body.as_bytes()).expect(fields);
            assert_eq!((event.name(), event.text("plan")), ("A", Some("p")), "{fields}");
        }
    }

    #[test]
    fn a_placeholder_is_no_id_and_a_number_is_its_digits() {
        for (value, expected, is_counted) in [
            (r#""undefined""#, None, true),
            (r#""null""#, None, true),
            (r#""[object Object]""#, None, true),
            (r#""00000000-0000-0000-0000-000000000000""#, None, true),
            ("0", None, true),
            ("-1.0", None, true),
            (r#""Null""#, Some("Null"), false),
            (r#""undefined-1""#, Some("undefined-1"), false),
            ("1842", Some("1842"), false),
            ("1842.00", Some("1842"), false),
            ("1842.50", Some("1842.50"), false),
            ("2000000900000000123456789", Some("2000000900000000123456789"), false),
            ("1e400", None, false),
            ("null", None, false),
            ("[]", None, false),
        ] {
            for id in IDS {
                let body = format!(r#"{{"event_name":"A","{id}":{value}}}"#);
                let event = parse(body.as_bytes()).unwrap();
                assert_eq!(event.text(id), expected, "{body}");
                assert_eq!(event.placeholders(), &[id][..usize::from(is_counted)], "{body}");
            }
        }
        let body = br#"{"event_name":"A","event_id":"e\ud83c","store_transaction_id":"t\ud83c","user_id":"u\ud83c"}"#;
        let event = parse(body).unwrap();
        assert_eq!(event.placeholders(), ["event_id", "store_transaction_id"]);
        assert_eq!((event.id(), event.text("store_transaction_id")), (None, None));
        assert!(matches!(event.fields().get("user_id"), Some(Value::Repaired(_))));
    }

    #[test]
    fn an_environment_is_one_of_the_documented_two_or_unknown() {
        use Environment::{Production, Sandbox, Unknown};
        for (value, expected) in [
            (r#""PRODUCTION""#, Production),
            (r#"" production ""#, Production),
            ("null", Production),
            (r#""  ""#, Production),
            (r#""Sandbox\n""#, Sandbox),
            (r#""Xcode""#, Unknown),
            (r#""PRODUCTION\ud83c""#, Unknown),
            ("1", Unknown),
            ("[]", Unknown),
            ("1e400", Unknown),
        ] {
            let body = format!(r#"{{"event_name":"A","environment":{value}}}"#);
            assert_eq!(parse(body.as_bytes()).unwrap().environment(), expected, "{value}");
        }
    }
}
