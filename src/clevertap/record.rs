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
    /// What was bought: the one entry of `Items`, which only `Charged` may carry.
    Item(Vec<(Cow<'e, str>, Value<'e>)>),
}

/// What happens to one property of a profile.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<'e> {
    /// It takes this value.
    Set(Value<'e>),
    /// This text joins a multi-value property.
    Add(Cow<'e, str>),
    /// This text leaves a multi-value property.
    Remove(Cow<'e, str>),
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
    /// What the user is like from here on.
    Profile {
        /// The changes; keys are unique.
        changes: Vec<(Cow<'e, str>, Change<'e>)>,
    },
}

/// What a record is for. It is not sent; verdicts and dead letters are told by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// Describes the user. Never decides over its event.
    Profile,
    /// Raises the event.
    Event,
    /// Tells the money of it.
    Revenue,
}

impl Role {
    /// Whether the event is delivered only once CleverTap has accepted this record.
    #[must_use]
    pub fn is_required(self) -> bool {
        self != Self::Profile
    }
}

/// One record of an upload.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'e> {
    /// What it is for.
    pub role: Role,
    /// Whom it is about.
    pub user: User<'e>,
    /// When it happened. Without it CleverTap takes the time of the upload.
    pub at: Option<UnixSeconds>,
    /// What it says.
    pub content: Content<'e>,
}

/// An upload of these records, as its JSON: `{"d":[…]}`.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'r>(pub &'r [&'r Record<'r>]);

/// The body of `POST /1/upload` for these records.
///
/// # Panics
/// Never: a record always has a JSON form.
#[must_use]
pub fn upload_body(records: &[&Record<'_>]) -> Vec<u8> {
    serde_json::to_vec(&Upload(records)).expect("a record always has a JSON form")
}

impl Serialize for Upload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("d", self.0)?;
        map.end()
    }
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.user {
            User::Identity(id) => map.serialize_entry("identity", id)?,
            User::ObjectId(id) => map.serialize_entry("objectId", id)?,
        }
        match &self.content {
            Content::Event { name, .. } => {
                map.serialize_entry("type", "event")?;
                map.serialize_entry("evtName", name)?;
            }
            Content::Profile { .. } => map.serialize_entry("type", "profile")?,
        }
        if let Some(UnixSeconds(at)) = self.at {
            map.serialize_entry("ts", &at)?;
        }
        match &self.content {
            Content::Event { properties, .. } => {
                map.serialize_entry("evtData", &Pairs(properties))?;
            }
            Content::Profile { changes } => map.serialize_entry("profileData", &Pairs(changes))?,
        }
        map.end()
    }
}

/// Keys and values that are written as an object, in their order.
struct Pairs<'r, V>(&'r [(Cow<'r, str>, V)]);

impl<V: Serialize> Serialize for Pairs<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl Serialize for Change<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (operation, text) = match self {
            Self::Set(value) => return value.serialize(serializer),
            Self::Add(text) => ("$add", text),
            Self::Remove(text) => ("$remove", text),
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(operation, &[text])?;
        map.end()
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
            Self::Item(properties) => [Pairs(properties)].serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_record_has_the_documented_form() {
        let record = Record {
            role: Role::Event,
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
    fn a_profile_record_sets_adds_and_removes() {
        let record = Record {
            role: Role::Event,
            user: User::ObjectId("__hA1B2".into()),
            at: Some(UnixSeconds(1_772_439_330)),
            content: Content::Profile {
                changes: vec![
                    ("status".into(), Change::Set(Value::Text("PAUSED".into()))),
                    ("plans".into(), Change::Remove("yearly".into())),
                    ("tags".into(), Change::Add("vip".into())),
                ],
            },
        };
        assert_eq!(
            String::from_utf8(upload_body(&[&record])).unwrap(),
            concat!(
                r#"{"d":[{"objectId":"__hA1B2","type":"profile","ts":1772439330,"profileData":"#,
                r#"{"status":"PAUSED","plans":{"$remove":["yearly"]},"tags":{"$add":["vip"]}}}]}"#,
            )
        );
    }

    #[test]
    fn a_record_without_a_time_leaves_it_out() {
        let record = Record {
            role: Role::Event,
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
