//! One record of an upload, and the upload's body.
//!
//! It does not decide what goes into a record; limits are in `limits`.
//! Source: <https://developer.clevertap.com/docs/upload-events-api>.

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Number;
use std::borrow::Cow;

/// Whole seconds since 1970, as CleverTap counts time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixSeconds(pub i64);

/// The one identification that a record carries; CleverTap does not say which wins where there are two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User<'e> {
    /// The id that the app gives CleverTap at sign-in.
    Identity(Cow<'e, str>),
    /// The CleverTap ID, with its prefix, as the SDK's `getCleverTapID` returns it.
    ObjectId(Cow<'e, str>),
}

/// A property's value. CleverTap treats each variant as a type of its own: a property keeps one.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'e> {
    /// Text of at most 512 bytes.
    Text(Cow<'e, str>),
    /// A whole number.
    Integer(i64),
    /// A number with decimals, written with its point even where they are zero (`10.0`).
    Decimal(f64),
    /// A number as the payload wrote it.
    Number(&'e Number),
    /// True or false.
    Boolean(bool),
    /// A moment, written `$D_<seconds>`.
    Date(UnixSeconds),
}

/// What a record says of its user.
#[derive(Debug, Clone, PartialEq)]
pub enum Content<'e> {
    /// Something that happened.
    Event {
        /// The event's name in CleverTap.
        name: Cow<'e, str>,
        /// The event's properties; keys are unique.
        properties: Vec<(Cow<'e, str>, Value<'e>)>,
    },
}

/// One record of an upload.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'e> {
    /// Whom it is about.
    pub user: User<'e>,
    /// When it happened. Without it CleverTap takes the time of the upload.
    pub at: Option<UnixSeconds>,
    /// What it says.
    pub content: Content<'e>,
}

/// The body of `POST /1/upload` for these records: `{"d":[…]}`.
///
/// # Panics
/// Never: a record always has a JSON form.
#[must_use]
pub fn upload_body(records: &[&Record<'_>]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'r> {
        d: &'r [&'r Record<'r>],
    }
    serde_json::to_vec(&Body { d: records }).expect("a record always has a JSON form")
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.user {
            User::Identity(id) => map.serialize_entry("identity", id)?,
            User::ObjectId(id) => map.serialize_entry("objectId", id)?,
        }
        match &self.content {
            Content::Event { name, properties } => {
                map.serialize_entry("type", "event")?;
                map.serialize_entry("evtName", name)?;
                if let Some(UnixSeconds(at)) = self.at {
                    map.serialize_entry("ts", &at)?;
                }
                map.serialize_entry("evtData", &Properties(properties))?;
            }
        }
        map.end()
    }
}

struct Properties<'r>(&'r [(Cow<'r, str>, Value<'r>)]);

impl Serialize for Properties<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Decimal(number) => serializer.serialize_f64(*number),
            Self::Number(number) => number.serialize(serializer),
            Self::Boolean(truth) => serializer.serialize_bool(*truth),
            Self::Date(UnixSeconds(seconds)) => {
                serializer.collect_str(&format_args!("$D_{seconds}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_record_has_the_documented_form() {
        let record = Record {
            user: User::Identity("u-1842".into()),
            at: Some(UnixSeconds(1_772_439_330)),
            content: Content::Event {
                name: "SUBSCRIPTION_RENEWED".into(),
                properties: vec![
                    ("plan".into(), Value::Text("yearly".into())),
                    ("price".into(), Value::Decimal(10.0)),
                    ("count".into(), Value::Integer(3)),
                    ("shared".into(), Value::Boolean(false)),
                    ("until".into(), Value::Date(UnixSeconds(1_803_975_300))),
                ],
            },
        };
        assert_eq!(
            String::from_utf8(upload_body(&[&record])).unwrap(),
            concat!(
                r#"{"d":[{"identity":"u-1842","type":"event","evtName":"SUBSCRIPTION_RENEWED","ts":1772439330,"#,
                r#""evtData":{"plan":"yearly","price":10.0,"count":3,"shared":false,"until":"$D_1803975300"}}]}"#,
            )
        );
    }

    #[test]
    fn a_record_without_a_time_leaves_it_out() {
        let record = Record {
            user: User::ObjectId("__hA1B2".into()),
            at: None,
            content: Content::Event {
                name: "X".into(),
                properties: vec![],
            },
        };
        assert_eq!(
            String::from_utf8(upload_body(&[&record, &record])).unwrap(),
            r#"{"d":[{"objectId":"__hA1B2","type":"event","evtName":"X","evtData":{}},{"objectId":"__hA1B2","type":"event","evtName":"X","evtData":{}}]}"#
        );
    }
}
