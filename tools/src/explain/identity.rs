//! Which field of an event names the user, and why that one.
//! It does not decide who the user is: the library does.

use purchasely_clevertap::clevertap::User;
use purchasely_clevertap::mapping::Unmappable;
use purchasely_clevertap::mapping::identity::{Identified, IdentityRules, UserIdAs, identify};
use purchasely_clevertap::purchasely::Event;
use serde::Serialize;
use serde_json::Value as Json;

/// Whom an event is about.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Identity {
    /// `identity` or `objectId`: the key of the record; `None` where there is nobody to send it for.
    pub key: Option<&'static str>,
    /// The id as it is sent, or as it would be.
    pub id: Option<String>,
    /// The payload field that decided.
    pub field: Option<String>,
    /// Why that one.
    pub why: String,
}

/// A field that may name the user.
struct Candidate {
    kind: Kind,
    field: String,
    id: String,
}

#[derive(Clone, Copy)]
enum Kind {
    CleverTapId,
    UserId,
    Anonymous,
}

/// Tells whom an event is about.
#[must_use]
pub fn of(event: &Event, rules: &IdentityRules) -> Identity {
    let identified = identify(event, rules);
    let candidates = candidates(event, &rules.clevertap_id_field);
    let taken = match &identified {
        // The library takes the first that is there, so the first that holds what it took is the one.
        Identified::User(User::Identity(id) | User::ObjectId(id)) => {
            candidates.into_iter().find(|candidate| candidate.id == *id)
        }
        Identified::Anonymous | Identified::TooLong => candidates.into_iter().next(),
        Identified::Nobody => None,
    };
    let Some(Candidate { kind, field, id }) = taken else {
        return Identity {
            key: None,
            id: None,
            field: None,
            why: Unmappable::NoIdentity.to_string(),
        };
    };
    let because = because(kind, rules);
    let (key, why) = match identified {
        Identified::User(User::Identity(_)) => (Some("identity"), because),
        Identified::User(User::ObjectId(_)) => (Some("objectId"), because),
        Identified::TooLong => (None, format!("{because}; {}", Unmappable::IdentityTooLong)),
        Identified::Anonymous | Identified::Nobody => (None, because),
    };
    Identity {
        key,
        id: Some(id),
        field: Some(field),
        why,
    }
}

fn because(kind: Kind, rules: &IdentityRules) -> String {
    let none = format!("there is no CleverTap ID (`{}`)", rules.clevertap_id_field);
    match (kind, rules.user_id_as) {
        (Kind::CleverTapId, _) => {
            "it is the CleverTap ID (CLEVERTAP_ID_FIELD), which wins over every other id".to_owned()
        }
        (Kind::UserId, UserIdAs::Identity) => {
            format!("{none}, and user_id is the identity (USER_ID_AS=identity)")
        }
        (Kind::UserId, UserIdAs::ObjectId) => {
            format!("{none}, and user_id is the CleverTap ID (USER_ID_AS=object_id)")
        }
        (Kind::Anonymous, _) if rules.anonymous_is_identity => format!(
            "{none} and no user_id, and anonymous_user_id is an identity (ANONYMOUS_USER_ID_AS=identity)"
        ),
        (Kind::Anonymous, _) => format!(
            "the buyer is not signed in: {none} and no user_id, and anonymous_user_id is nobody in CleverTap (ANONYMOUS_USER_ID_AS=ignore)"
        ),
    }
}

/// Every field that may name the user, in the order in which the library asks.
fn candidates(event: &Event, clevertap_id_field: &str) -> Vec<Candidate> {
    let fields = event.fields();
    let top = |kind, field: &str| {
        let id = id_text(fields.get(field)?)?;
        let field = field.to_owned();
        Some(Candidate { kind, field, id })
    };
    let inside = fields.iter().filter_map(|(name, value)| {
        let id = id_text(value.as_object()?.get(clevertap_id_field)?)?;
        let field = format!("{name}.{clevertap_id_field}");
        let kind = Kind::CleverTapId;
        Some(Candidate { kind, field, id })
    });
    top(Kind::CleverTapId, clevertap_id_field)
        .into_iter()
        .chain(inside)
        .chain(top(Kind::UserId, "user_id"))
        .chain(top(Kind::Anonymous, "anonymous_user_id"))
        .collect()
}

/// What the library takes for an id.
fn id_text(value: &Json) -> Option<String> {
    match value {
        Json::String(text) if !text.trim().is_empty() => Some(text.clone()),
        Json::Number(number) if !number.is_f64() => Some(number.to_string()),
        _ => None,
    }
}
