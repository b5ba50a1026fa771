//! Finds the CleverTap user of a Purchasely event.
//!
//! It does not know whether that user exists: CleverTap creates a profile for an identity it has not seen.

use crate::clevertap::{User, limits};
use crate::json::Value;
use crate::purchasely::{Event, digits, is_placeholder};
use std::borrow::Cow;

/// Which payload fields identify the user, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRules {
    /// `USER_ID_AS`.
    pub user_id_as: UserIdAs,
    /// `ANONYMOUS_USER_ID_AS`.
    pub anonymous_user_id_as: AnonymousUserIdAs,
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

/// What Purchasely's `anonymous_user_id` is in CleverTap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnonymousUserIdAs {
    /// Nothing: the app does not give it to CleverTap.
    Ignored,
    Identity,
    /// The custom CleverTap ID of the device, so its prefix depends on the platform.
    ClevertapId,
}

impl AnonymousUserIdAs {
    /// What happens to a buyer who is not signed in, for the log.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Ignored => "ignored, also their trials and first payments",
            Self::Identity => "relayed: the anonymous id is the Identity",
            Self::ClevertapId => {
                "relayed: the anonymous id is the custom CleverTap ID; ignored for Stripe and unknown stores"
            }
        }
    }
}

impl Default for IdentityRules {
    fn default() -> Self {
        Self {
            user_id_as: UserIdAs::Identity,
            anonymous_user_id_as: AnonymousUserIdAs::Ignored,
            clevertap_id_field: "clevertap_id".to_owned(),
        }
    }
}

/// The user of an event, or why there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identified<'e> {
    User(User<'e>),
    /// The objectId of the device of a buyer who is not signed in. After a sign-in it may belong to the
    /// signed-in user's profile.
    Device(Cow<'e, str>),
    /// The buyer is not signed in, and the rules ignore anonymous ids.
    Anonymous,
    /// The buyer is not signed in, and the store does not tell the platform of the device.
    UnknownDevice,
    /// The payload has no id, or a user id that cannot be one: its buyer is not an anonymous one.
    Nobody,
    /// CleverTap rejects ids of this length; truncated, it could be another user's.
    TooLong,
    /// No CleverTap ID has this form; altered, it could be another user's.
    UnfitClevertapId,
}

/// Where an event's id comes from, in the order in which they are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdField {
    /// `CLEVERTAP_ID_FIELD`, at the top or one level down.
    ClevertapId,
    UserId,
    AnonymousUserId,
}

/// Identifies the user by the first id present: the CleverTap ID, the user id, the anonymous id.
#[must_use]
pub fn identify<'e>(event: &'e Event<'_>, rules: &IdentityRules) -> Identified<'e> {
    #[cfg(test)]
    assert_ne!(event.name(), "PANICS_IN_MAPPING");
    let identified = match first_id(event, rules) {
        Some((IdField::ClevertapId, id)) => Identified::User(User::ObjectId(id.into())),
        Some((IdField::UserId, id)) => Identified::User(match rules.user_id_as {
            UserIdAs::Identity => User::Identity(id.into()),
            UserIdAs::ObjectId => User::ObjectId(id.into()),
        }),
        Some((IdField::AnonymousUserId, id)) => anonymous(event, id, rules.anonymous_user_id_as),
        None => Identified::Nobody,
    };
    match &identified {
        Identified::User(User::Identity(id) | User::ObjectId(id))
            if !limits::is_valid_identity(id) =>
        {
            Identified::TooLong
        }
        Identified::User(User::ObjectId(id)) | Identified::Device(id)
            if !limits::is_valid_object_id(id) =>
        {
            Identified::UnfitClevertapId
        }
        _ => identified,
    }
}

/// The first id present, which decides alone. An unfit user id hides the anonymous one.
#[must_use]
pub fn first_id<'e>(event: &'e Event<'_>, rules: &IdentityRules) -> Option<(IdField, &'e str)> {
    let mut clevertap_ids = clevertap_ids(event, &rules.clevertap_id_field);
    if let Some(id) = clevertap_ids.find_map(clevertap_id) {
        return Some((IdField::ClevertapId, id));
    }
    match user_id(event) {
        UserId::Is(id) => Some((IdField::UserId, id)),
        UserId::Absent => anonymous_id(event).map(|id| (IdField::AnonymousUserId, id)),
        UserId::Unfit => None,
    }
}

/// The buyer who is not signed in.
fn anonymous<'e>(event: &'e Event<'_>, id: &'e str, id_as: AnonymousUserIdAs) -> Identified<'e> {
    match (id_as, custom_id_prefix(event)) {
        (AnonymousUserIdAs::Ignored, _) => Identified::Anonymous,
        (AnonymousUserIdAs::Identity, _) => Identified::User(User::Identity(id.into())),
        (AnonymousUserIdAs::ClevertapId, None) => Identified::UnknownDevice,
        (AnonymousUserIdAs::ClevertapId, Some(prefix)) => {
            Identified::Device(Cow::Owned(format!("{prefix}{id}")))
        }
    }
}

/// The prefix of custom CleverTap IDs on the platform of the event's store.
fn custom_id_prefix(event: &Event<'_>) -> Option<&'static str> {
    match event.text("store")? {
        "APPLE_APP_STORE" => Some(limits::IOS_CUSTOM_ID),
        // Purchasely's pages spell two of them with one underscore and with two.
        "GOOGLE_PLAY_STORE" | "AMAZON_APPSTORE" | "AMAZON_APP_STORE" | "HUAWEI_APPGALLERY"
        | "HUAWEI_APP_GALLERY" => Some(limits::ANDROID_CUSTOM_ID),
        _ => None,
    }
}

/// The id by which Purchasely knows the user, whatever the rules make of it: `user_id`, else
/// `anonymous_user_id`. A placeholder is none.
#[must_use]
pub fn purchasely_id<'e>(event: &'e Event<'_>) -> Option<Cow<'e, str>> {
    match user_id(event) {
        UserId::Is(id) => Some(id.into()),
        UserId::Absent | UserId::Unfit => anonymous_id(event).map(Cow::from),
    }
}

/// Whether the payload has a placeholder, or a text in which something had to be replaced, instead of a
/// CleverTap ID.
#[must_use]
pub fn has_placeholder_clevertap_id(event: &Event<'_>, rules: &IdentityRules) -> bool {
    clevertap_ids(event, &rules.clevertap_id_field).any(|value| match value {
        Value::Text(text) => is_placeholder(text),
        Value::Number(number) => is_placeholder(digits(number)),
        Value::Repaired(_) => true,
        _ => false,
    })
}

/// A payload's `user_id`.
enum UserId<'e> {
    Is(&'e str),
    Absent,
    /// Of another type, not readable, or a text in which something had to be replaced.
    Unfit,
}

fn user_id<'e>(event: &'e Event<'_>) -> UserId<'e> {
    match event.fields().get("user_id") {
        None | Some(Value::Null) => UserId::Absent,
        Some(Value::Text(text)) if text.trim().is_empty() => UserId::Absent,
        Some(Value::Text(text)) => UserId::Is(text),
        Some(_) => UserId::Unfit,
    }
}

fn anonymous_id<'e>(event: &'e Event<'_>) -> Option<&'e str> {
    match event.fields().get("anonymous_user_id")? {
        Value::Text(text) if !text.trim().is_empty() => Some(text),
        _ => None,
    }
}

/// The values that may be the CleverTap ID: at the top, then one level down.
fn clevertap_ids<'e, 'b>(event: &'e Event<'b>, field: &str) -> impl Iterator<Item = &'e Value<'b>> {
    let fields = event.fields();
    let nested = fields.iter().filter_map(move |(_, value)| value.get(field));
    fields.get(field).into_iter().chain(nested)
}

/// Some backends use numbers as user ids.
fn clevertap_id<'e>(value: &'e Value<'_>) -> Option<&'e str> {
    let id = match value {
        Value::Text(text) => text,
        Value::Number(number) => digits(number),
        _ => return None,
    };
    (!id.trim().is_empty() && !is_placeholder(id)).then_some(id)
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
            (r#""clevertap_id":"-h a""#, Identified::UnfitClevertapId),
            (r#""user_id":"u","a":{"b":{"clevertap_id":"deep"}}"#, identity("u")),
            (r#""anonymous_user_id":"a-1""#, Identified::Anonymous),
            (r#""plan":"p""#, Identified::Nobody),
            (r#""user_id":null"#, Identified::Nobody),
            (r#""user_id":"  ""#, Identified::Nobody),
            (r#""user_id":{}"#, Identified::Nobody),
            (r#""user_id":"undefined","anonymous_user_id":"a-1""#, Identified::Anonymous),
            (r#""user_id":"undefined","anonymous_user_id":"null""#, Identified::Nobody),
            (r#""user_id":1842.0"#, identity("1842")),
            (r#""user_id":"u","clevertap_id":"undefined""#, identity("u")),
            (r#""user_id":"u","clevertap_id":"__\ud83c""#, identity("u")),
            (
                r#""user_id":"u","clevertap_id":0,"custom":{"clevertap_id":"__in"}"#,
                object_id("__in"),
            ),
            (r#""user_id":[1],"clevertap_id":7.0"#, object_id("7")),
            (&too_long, Identified::TooLong),
        ] {
            check(&IdentityRules::default(), fields, &expected);
        }
    }

    #[test]
    fn whoever_has_a_user_id_that_cannot_be_one_is_not_anonymous() {
        for id in ["[1842]", "{}", "true", "1e400", r#""u\ud83c""#] {
            let fields = format!(r#""user_id":{id},"anonymous_user_id":"a-1""#);
            check(&IdentityRules::default(), &fields, &Identified::Nobody);
        }
    }

    #[test]
    fn purchasely_knows_a_user_by_the_user_id_or_else_the_anonymous_id() {
        for (fields, expected) in [
            (r#""user_id":"u","anonymous_user_id":"a","clevertap_id":"__c""#, Some("u")),
            (r#""user_id":1842.0"#, Some("1842")),
            (r#""user_id":"undefined","anonymous_user_id":"a""#, Some("a")),
            (r#""user_id":"null","anonymous_user_id":"0""#, None),
            (r#""user_id":[1],"anonymous_user_id":"a""#, Some("a")),
            (r#""clevertap_id":"__c""#, None),
        ] {
            let body = format!(r#"{{"event_name":"A",{fields}}}"#);
            let event = Event::parse(Verified::unsigned(body.as_bytes())).unwrap();
            assert_eq!(purchasely_id(&event).as_deref(), expected, "{fields}");
        }
    }

    #[test]
    fn a_clevertap_id_that_is_none_is_noticed_at_both_levels() {
        for (fields, expected) in [
            (r#""clevertap_id":"undefined""#, true),
            (r#""custom":{"clevertap_id":0}"#, true),
            (r#""clevertap_id":"__\ud83c""#, true),
            (r#""clevertap_id":"__c","a":{"b":{"clevertap_id":"null"}}"#, false),
            (r#""clevertap_id":null"#, false),
        ] {
            let body = format!(r#"{{"event_name":"A",{fields}}}"#);
            let event = Event::parse(Verified::unsigned(body.as_bytes())).unwrap();
            let has = has_placeholder_clevertap_id(&event, &IdentityRules::default());
            assert_eq!(has, expected, "{fields}");
        }
    }

    #[test]
    fn settings_choose_what_an_id_is() {
        let rules = IdentityRules {
            user_id_as: UserIdAs::ObjectId,
            anonymous_user_id_as: AnonymousUserIdAs::Identity,
            clevertap_id_field: "ct".to_owned(),
        };
        check(&rules, r#""user_id":"__h1""#, &object_id("__h1"));
        check(&rules, r#""anonymous_user_id":"a-1""#, &identity("a-1"));
        check(&rules, r#""user_id":"u","ct":"__c""#, &object_id("__c"));
    }

    #[test]
    fn an_anonymous_id_gets_the_prefix_of_the_stores_platform_and_is_never_altered() {
        let rules = IdentityRules {
            anonymous_user_id_as: AnonymousUserIdAs::ClevertapId,
            ..IdentityRules::default()
        };
        let device = |id: &str| Identified::Device(id.to_owned().into());
        let check_bought = |store: &str, id: &str, expected: &Identified<'_>| {
            let fields = format!(r#""store":"{store}","anonymous_user_id":"{id}""#);
            check(&rules, &fields, expected);
        };
        for store in [
            "GOOGLE_PLAY_STORE",
            "AMAZON_APPSTORE",
            "AMAZON_APP_STORE",
            "HUAWEI_APPGALLERY",
            "HUAWEI_APP_GALLERY",
        ] {
            check_bought(store, "B3CD-aB", &device("__hB3CD-aB"));
        }
        check_bought("APPLE_APP_STORE", "B3CD-aB", &device("-hB3CD-aB"));
        let longest = "x".repeat(64);
        check_bought("APPLE_APP_STORE", &longest, &device(&format!("-h{longest}")));
        for store in ["STRIPE", "NEW_STORE", ""] {
            check_bought(store, "B3CD", &Identified::UnknownDevice);
        }
        for unfit in ["a b", "é", "a.b", &"x".repeat(65), &"x".repeat(2000)] {
            check_bought("APPLE_APP_STORE", unfit, &Identified::UnfitClevertapId);
        }
        let signed_in = r#""store":"STRIPE","user_id":"u","anonymous_user_id":"B3CD""#;
        check(&rules, signed_in, &identity("u"));
    }
}
