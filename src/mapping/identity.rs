//! Finds the CleverTap user of a Purchasely event.
//!
//! It does not know whether that user exists: CleverTap creates a profile for an identity it has not seen.

use crate::clevertap::{User, limits};
use crate::purchasely::Event;
use serde_json::Value;
use std::borrow::Cow;

/// Which payload fields identify the user, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRules {
    /// `USER_ID_AS`.
    pub user_id_as: UserIdAs,
    /// Whether `anonymous_user_id` is the Identity (`ANONYMOUS_USER_ID_AS=identity`) or ignored.
    pub anonymous_is_identity: bool,
    /// The field that contains the CleverTap ID, at the top or one level down (`CLEVERTAP_ID_FIELD`).
    pub clevertap_id_field: String,
}

/// What Purchasely's `user_id` is in CleverTap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserIdAs {
    /// The app gives both SDKs the same id.
    Identity,
    /// The app gives Purchasely the CleverTap ID.
    ObjectId,
}

impl Default for IdentityRules {
    fn default() -> Self {
        Self {
            user_id_as: UserIdAs::Identity,
            anonymous_is_identity: false,
            clevertap_id_field: "clevertap_id".to_owned(),
        }
    }
}

/// The user of an event, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identified<'e> {
    User(User<'e>),
    /// The buyer is not signed in, and the rules ignore anonymous ids.
    Anonymous,
    /// The payload has no id.
    Nobody,
    /// CleverTap rejects ids of this length; truncated, it could be another user's.
    TooLong,
}

/// Identifies the user by the first id present: the CleverTap ID, the user id, the anonymous id.
#[must_use]
pub fn identify<'e>(event: &'e Event, rules: &IdentityRules) -> Identified<'e> {
    #[cfg(test)]
    assert_ne!(event.name(), "PANICS_IN_MAPPING");
    let user = if let Some(id) = clevertap_id(event, &rules.clevertap_id_field) {
        User::ObjectId(id)
    } else if let Some(id) = event.fields().get("user_id").and_then(id_text) {
        match rules.user_id_as {
            UserIdAs::Identity => User::Identity(id),
            UserIdAs::ObjectId => User::ObjectId(id),
        }
    } else if let Some(id) = event.fields().get("anonymous_user_id").and_then(id_text) {
        if !rules.anonymous_is_identity {
            return Identified::Anonymous;
        }
        User::Identity(id)
    } else {
        return Identified::Nobody;
    };
    let (User::Identity(id) | User::ObjectId(id)) = &user;
    if limits::is_valid_identity(id) { Identified::User(user) } else { Identified::TooLong }
}

/// The id by which Purchasely knows the user, whatever the rules make of it.
#[must_use]
pub fn purchasely_id(event: &Event) -> Option<Cow<'_, str>> {
    ["user_id", "anonymous_user_id"].iter().find_map(|name| id_text(event.fields().get(*name)?))
}

fn clevertap_id<'e>(event: &'e Event, field: &str) -> Option<Cow<'e, str>> {
    let fields = event.fields();
    let at_the_top = fields.get(field).and_then(id_text);
    at_the_top.or_else(|| {
        let mut objects = fields.values().filter_map(Value::as_object);
        objects.find_map(|object| object.get(field).and_then(id_text))
    })
}

/// An id as text. Some backends use numbers as user ids.
fn id_text(value: &Value) -> Option<Cow<'_, str>> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(Cow::Borrowed(text)),
        Value::Number(number) if !number.is_f64() => Some(Cow::Owned(number.to_string())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::purchasely::Verified;

    #[track_caller]
    fn check(rules: &IdentityRules, fields: &str, expected: &Identified<'_>) {
        let body = format!(r#"{{"event_name":"A",{fields}}}"#);
        let event = Event::parse(Verified::unsigned(body.as_bytes())).unwrap();
        assert_eq!(&identify(&event, rules), expected, "{fields}");
    }

    fn identity(id: &str) -> Identified<'_> {
        Identified::User(User::Identity(id.into()))
    }

    fn object_id(id: &str) -> Identified<'_> {
        Identified::User(User::ObjectId(id.into()))
    }

    #[test]
    fn the_first_id_present_identifies_the_user() {
        let too_long = format!(r#""user_id":"{}""#, "x".repeat(limits::IDENTITY_CHARACTERS));
        for (fields, expected) in [
            (r#""user_id":"u-1","anonymous_user_id":"a-1""#, identity("u-1")),
            (r#""user_id":1842"#, identity("1842")),
            (r#""user_id":"u","clevertap_id":"__top""#, object_id("__top")),
            (r#""user_id":"u","custom":{"clevertap_id":"__in"}"#, object_id("__in")),
            (r#""user_id":"u","clevertap_id":"""#, identity("u")),
            (r#""user_id":"u","a":{"b":{"clevertap_id":"deep"}}"#, identity("u")),
            (r#""anonymous_user_id":"a-1""#, Identified::Anonymous),
            (r#""plan":"p""#, Identified::Nobody),
            (r#""user_id":null"#, Identified::Nobody),
            (r#""user_id":"  ""#, Identified::Nobody),
            (r#""user_id":{}"#, Identified::Nobody),
            (&too_long, Identified::TooLong),
        ] {
            check(&IdentityRules::default(), fields, &expected);
        }
    }

    #[test]
    fn settings_choose_what_an_id_is() {
        let rules = IdentityRules {
            user_id_as: UserIdAs::ObjectId,
            anonymous_is_identity: true,
            clevertap_id_field: "ct".to_owned(),
        };
        check(&rules, r#""user_id":"__h1""#, &object_id("__h1"));
        check(&rules, r#""anonymous_user_id":"a-1""#, &identity("a-1"));
        check(&rules, r#""user_id":"u","ct":"__c""#, &object_id("__c"));
    }
}
