//! One record of an upload, and the upload's body.
//!
//! It does not decide what a record contains.
//! Source: <https://developer.clevertap.com/docs/upload-events-api>.

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Number;
use std::borrow::Cow;

/// Whole seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnixSeconds(pub i64);

/// A record's user. CleverTap does not document which id wins where there are two, so there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum User<'e> {
    /// The id that the app gives CleverTap at sign-in.
    Identity(Cow<'e, str>),
    /// The CleverTap ID with its prefix, as the SDK's `getCleverTapID` returns it.
    ObjectId(Cow<'e, str>),
}

/// A property's value. CleverTap distinguishes these types: a property must keep its own.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'e> {
    /// At most 512 bytes.
    Text(Cow<'e, str>),
    Integer(i64),
    /// Written with its point even where the decimals are zero: `10.0`.
    Decimal(f64),
    /// A number as it is in the payload.
    Number(Number),
    Boolean(bool),
    /// Written `$D_<seconds>`.
    Date(UnixSeconds),
    /// The one entry of `Items`, which only `Charged` may have.
    Item(Vec<Property<'e>>),
}

/// A key and its value.
pub type Property<'e> = (Cow<'e, str>, Value<'e>);

/// What happens to one property of a profile.
#[derive(Debug, Clone, PartialEq)]
pub enum Change<'e> {
    Set(Value<'e>),
    /// Adds a text to a multi-value property.
    Add(Cow<'e, str>),
    /// Removes a text from a multi-value property.
    Remove(Cow<'e, str>),
}

/// What a record contains. Keys are unique.
#[derive(Debug, Clone, PartialEq)]
pub enum Content<'e> {
    Event {
        name: Cow<'e, str>,
        properties: Vec<Property<'e>>,
    },
    Profile {
        changes: Vec<(Cow<'e, str>, Change<'e>)>,
    },
}

/// What a record is for. It is not uploaded; results and dead letters name records by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr, strum::EnumString)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Role {
    Profile,
    Event,
    Revenue,
}

impl Role {
    /// Whether an event is relayed only if CleverTap accepts this record of it.
    #[must_use]
    pub fn is_required(self) -> bool {
        self != Self::Profile
    }

    /// Several roles in one text, as a message carries them.
    #[must_use]
    pub fn list(roles: &[Self]) -> String {
        let words: Vec<&str> = roles.iter().map(Role::into_str).collect();
        words.join(",")
    }

    /// Reads such a text; `None` if it names no role.
    #[must_use]
    pub fn read_list(text: &str) -> Option<Vec<Self>> {
        let roles: Vec<_> = text.split(',').filter_map(|word| word.trim().parse().ok()).collect();
        (!roles.is_empty()).then_some(roles)
    }
}

/// One record of an upload.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'e> {
    pub role: Role,
    pub user: User<'e>,
    /// When it happened; for `None` CleverTap takes the time of the upload.
    pub at: Option<UnixSeconds>,
    pub content: Content<'e>,
}

/// An upload of these records, as its JSON: `{"d":[…]}`.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'r>(pub &'r [&'r Record<'r>]);

/// The body of `POST /1/upload` for these records.
#[must_use]
pub fn upload_body(records: &[&Record<'_>]) -> Vec<u8> {
    serde_json::to_vec(&Upload(records)).expect("a record always has a JSON form")
}

impl Serialize for Upload<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([("d", self.0)])
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

/// Keys and values as an object, in their order.
struct Pairs<'r, V>(&'r [(Cow<'r, str>, V)]);

impl<V: Serialize> Serialize for Pairs<'_, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

impl Serialize for Change<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(value) => value.serialize(serializer),
            Self::Add(text) => serializer.collect_map([("$add", [text])]),
            Self::Remove(text) => serializer.collect_map([("$remove", [text])]),
        }
    }
}

impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Text(text) => serializer.serialize_str(text),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Decimal(number) => serializer.serialize_f64(*number),
            Self::Number(number) => number.serialize(serializer),
            Self::Boolean(boolean) => serializer.serialize_bool(*boolean),
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

    fn event(at: Option<UnixSeconds>, properties: Vec<Property<'_>>) -> Record<'_> {
        Record {
            role: Role::Event,
            user: User::Identity("u-1842".into()),
            at,
            content: Content::Event { name: "X".into(), properties },
        }
    }

    #[track_caller]
    fn check(records: &[&Record<'_>], expected: &str) {
        let body = String::from_utf8(upload_body(records)).unwrap();
        assert_eq!(body, expected);
    }

    #[test]
    fn an_event_record_has_the_documented_form() {
        let properties = vec![
            ("plan".into(), Value::Text("yearly".into())),
            ("price".into(), Value::Decimal(10.0)),
            ("count".into(), Value::Integer(3)),
            ("shared".into(), Value::Boolean(false)),
            ("until".into(), Value::Date(UnixSeconds(1_803_975_300))),
        ];
        check(
            &[&event(Some(UnixSeconds(1_772_439_330)), properties)],
            concat!(
                r#"{"d":[{"identity":"u-1842","type":"event","evtName":"X","ts":1772439330,"#,
                r#""evtData":{"plan":"yearly","price":10.0,"count":3,"shared":false,"until":"$D_1803975300"}}]}"#,
            ),
        );
    }

    #[test]
    fn a_profile_record_sets_adds_and_removes() {
        let record = Record {
            role: Role::Profile,
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
        check(
            &[&record],
            concat!(
                r#"{"d":[{"objectId":"__hA1B2","type":"profile","ts":1772439330,"profileData":"#,
                r#"{"status":"PAUSED","plans":{"$remove":["yearly"]},"tags":{"$add":["vip"]}}}]}"#,
            ),
        );
    }

    #[test]
    fn an_upload_has_several_records_and_a_record_may_have_no_time() {
        let record = event(None, vec![]);
        check(
            &[&record, &record],
            r#"{"d":[{"identity":"u-1842","type":"event","evtName":"X","evtData":{}},{"identity":"u-1842","type":"event","evtName":"X","evtData":{}}]}"#,
        );
    }

    #[test]
    fn a_role_is_written_and_read_as_a_word() {
        for (role, word) in
            [(Role::Profile, "profile"), (Role::Event, "event"), (Role::Revenue, "revenue")]
        {
            assert_eq!(<&str>::from(role), word);
            assert_eq!(word.parse(), Ok(role));
        }
        assert!("".parse::<Role>().is_err());
    }
}
