//! Finds the CleverTap user of a Purchasely event.
//!
//! It does not know whether that user exists; CleverTap makes a profile for an identity it has not seen.

use crate::clevertap::{User, limits};
use crate::purchasely::Event;
use serde_json::Value;
use std::borrow::Cow;

/// How an event's ids are understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRules {
    /// What `user_id` is in CleverTap (`USER_ID_AS`).
    pub user_id_as: UserIdAs,
    /// Whether `anonymous_user_id` is an identity (`ANONYMOUS_USER_ID_AS=identity`) or nobody.
    pub anonymous_is_identity: bool,
    /// The payload field that carries the CleverTap ID, at the top or one level down (`CLEVERTAP_ID_FIELD`).
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

/// Who an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identified<'e> {
    /// A user of CleverTap.
    User(User<'e>),
    /// A buyer who is not signed in, and whom the rules ignore.
    Anonymous,
    /// The payload names no one.
    Nobody,
    /// An id that CleverTap would not take. Cut to fit, it would name somebody else.
    TooLong,
}

/// Decides by the first that is there: the CleverTap ID, the user id, the anonymous id.
#[must_use]
pub fn identify<'e>(event: &'e Event, rules: &IdentityRules) -> Identified<'e> {
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
    if limits::is_valid_identity(id) {
        Identified::User(user)
    } else {
        Identified::TooLong
    }
}

fn clevertap_id<'e>(event: &'e Event, field: &str) -> Option<Cow<'e, str>> {
    let fields = event.fields();
    let at_the_top = fields.get(field).and_then(id_text);
    at_the_top.or_else(|| {
        fields
            .values()
            .filter_map(Value::as_object)
            .find_map(|object| object.get(field).and_then(id_text))
    })
}

/// An id as text. Some backends count their users, so a number is one too.
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
        let body = format!(r#"{{"event_name":"A"{fields}}}"#);
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
    fn the_user_id_is_the_identity() {
        let rules = IdentityRules::default();
        check(
            &rules,
            r#","user_id":"u-1","anonymous_user_id":"a-1""#,
            &identity("u-1"),
        );
        check(&rules, r#","user_id":1842"#, &identity("1842"));
    }

    #[test]
    fn the_user_id_may_be_the_clevertap_id() {
        let rules = IdentityRules {
            user_id_as: UserIdAs::ObjectId,
            ..IdentityRules::default()
        };
        check(&rules, r#","user_id":"__h1""#, &object_id("__h1"));
    }

    #[test]
    fn a_clevertap_id_wins_wherever_it_stands() {
        let rules = IdentityRules::default();
        check(
            &rules,
            r#","user_id":"u","clevertap_id":"__top""#,
            &object_id("__top"),
        );
        check(
            &rules,
            r#","user_id":"u","custom":{"clevertap_id":"__in"}"#,
            &object_id("__in"),
        );
        check(
            &rules,
            r#","user_id":"u","clevertap_id":"""#,
            &identity("u"),
        );
        check(
            &rules,
            r#","user_id":"u","a":{"b":{"clevertap_id":"deep"}}"#,
            &identity("u"),
        );
    }

    #[test]
    fn an_anonymous_buyer_is_ignored_unless_wanted() {
        let fields = r#","anonymous_user_id":"a-1""#;
        check(&IdentityRules::default(), fields, &Identified::Anonymous);
        let wanted = IdentityRules {
            anonymous_is_identity: true,
            ..IdentityRules::default()
        };
        check(&wanted, fields, &identity("a-1"));
    }

    #[test]
    fn an_event_may_name_nobody() {
        let rules = IdentityRules::default();
        for fields in [
            "",
            r#","user_id":null"#,
            r#","user_id":"  ""#,
            r#","user_id":{}"#,
        ] {
            check(&rules, fields, &Identified::Nobody);
        }
    }

    #[test]
    fn a_long_id_is_never_cut() {
        let rules = IdentityRules::default();
        let id = "x".repeat(limits::IDENTITY_CHARACTERS);
        check(
            &rules,
            &format!(r#","user_id":"{id}""#),
            &Identified::TooLong,
        );
    }
}
