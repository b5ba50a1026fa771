//! From a Purchasely event to CleverTap records: the only place that knows both vendors.
//!
//! Pure, total and deterministic: what cannot be mapped is a value, and the same event and rules give
//! the same records. It does not know how records are sent, nor what an outcome answers.

pub mod identity;
pub mod properties;

use crate::clevertap::{self, Content, Record, UnixSeconds};
use crate::purchasely::{Environment, Event};
use identity::IdentityRules;
use properties::PropertyRules;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The settings that decide how an event is mapped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Which events are raised.
    pub events: EventSwitches,
    /// Purchasely's name → the owner's name, valid in CleverTap (`EVENT_NAMES`).
    pub event_names: HashMap<String, String>,
    /// Whether sandbox events go on (`SANDBOX_EVENTS`).
    pub relay_sandbox: bool,
    /// Who the user is.
    pub identity: IdentityRules,
    /// What is sent about the event.
    pub properties: PropertyRules,
}

/// `EVENTS_ENABLED` minus `EVENTS_DISABLED`, in Purchasely's names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventSwitches {
    /// `None` is every event, known or not.
    pub enabled: Option<HashSet<String>>,
    /// Switched off even if enabled.
    pub disabled: HashSet<String>,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Mapped<'e> {
    /// To be uploaded together, in this order.
    Records(Vec<Record<'e>>),
    /// Rightly nothing to send.
    Ignored(Ignored),
    /// Can never be sent as it is.
    Unmappable(Unmappable),
}

/// Why there is nothing to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// Switched off by `EVENTS_ENABLED` or `EVENTS_DISABLED`.
    EventDisabled,
    /// A tester's purchase (`SANDBOX_EVENTS=drop`).
    Sandbox,
    /// The buyer is not signed in (`ANONYMOUS_USER_ID_AS=ignore`).
    Anonymous,
}

/// Why an event can never be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unmappable {
    /// Neither a user id, an anonymous id nor a CleverTap ID.
    #[error(
        "the event names no user: neither user_id, anonymous_user_id nor the CleverTap ID field"
    )]
    NoIdentity,
    /// Cut to fit, it would be somebody else's.
    #[error("the user's id has 1024 characters or more, which CleverTap does not take")]
    IdentityTooLong,
    /// Nothing is left of the name without the characters that CleverTap forbids.
    #[error("the event's name has no character that CleverTap allows")]
    UnusableName,
}

/// What happened to one field of the payload on its way. Told for every field, in order of mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate<'e> {
    /// Sent under this property name.
    Sent(Cow<'e, str>),
    /// Sent as a date under this property name.
    SentAsDate(Cow<'e, str>),
    /// Sent, but made to fit CleverTap's limit on text.
    Fitted(Cow<'e, str>),
    /// The millisecond twin of a time: the time itself is sent.
    Twin,
    /// Never sent: it is a credential.
    Sensitive,
    /// Named in `PROPERTIES_OMITTED`.
    Omitted,
    /// Outside the catalogue, with `UNKNOWN_FIELDS=drop`.
    Unknown,
    /// Null, empty text, or a list or object with nothing in it.
    Empty,
    /// Not of the type that the field is documented to have.
    WrongType,
    /// Its name has no character that CleverTap allows.
    UnusableName,
    /// Its name became that of another property, which is the one sent.
    Collision(Cow<'e, str>),
    /// Gave way to CleverTap's limit on the number of properties.
    OverLimit,
}

impl Fate<'_> {
    /// Whether the field was changed or lost in a way that its owner did not ask for.
    #[must_use]
    pub fn is_adjustment(&self) -> bool {
        match self {
            Self::Fitted(_)
            | Self::WrongType
            | Self::UnusableName
            | Self::Collision(_)
            | Self::OverLimit => true,
            Self::Sent(_)
            | Self::SentAsDate(_)
            | Self::Twin
            | Self::Sensitive
            | Self::Omitted
            | Self::Unknown
            | Self::Empty => false,
        }
    }

    /// The fate in a word, for logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Sent(_) => "sent",
            Self::SentAsDate(_) => "date",
            Self::Fitted(_) => "fitted",
            Self::Twin => "twin",
            Self::Sensitive => "sensitive",
            Self::Omitted => "omitted",
            Self::Unknown => "unknown",
            Self::Empty => "empty",
            Self::WrongType => "wrong_type",
            Self::UnusableName => "unusable_name",
            Self::Collision(_) => "collision",
            Self::OverLimit => "over_limit",
        }
    }
}

/// Maps one event. `witness` is told the fate of each payload field, by its name.
pub fn map<'e>(
    event: &'e Event,
    rules: &'e Rules,
    witness: &mut dyn FnMut(&str, Fate<'e>),
) -> Mapped<'e> {
    if event.environment() == Environment::Sandbox && !rules.relay_sandbox {
        return Mapped::Ignored(Ignored::Sandbox);
    }
    if !rules.events.raises(event.name()) {
        return Mapped::Ignored(Ignored::EventDisabled);
    }
    let user = match identity::identify(event, &rules.identity) {
        identity::Identified::User(user) => user,
        identity::Identified::Anonymous => return Mapped::Ignored(Ignored::Anonymous),
        identity::Identified::Nobody => return Mapped::Unmappable(Unmappable::NoIdentity),
        identity::Identified::TooLong => return Mapped::Unmappable(Unmappable::IdentityTooLong),
    };
    let Some(name) = rules.event_name(event.name()) else {
        return Mapped::Unmappable(Unmappable::UnusableName);
    };
    Mapped::Records(vec![Record {
        user,
        at: event.time_ms("event_created_at").map(seconds),
        content: Content::Event {
            name,
            properties: properties::of_event(event, &rules.properties, witness),
        },
    }])
}

impl EventSwitches {
    /// Whether an event of this name is raised in CleverTap.
    #[must_use]
    pub fn raises(&self, name: &str) -> bool {
        let enabled = self.enabled.as_ref().is_none_or(|set| set.contains(name));
        enabled && !self.disabled.contains(name)
    }
}

impl Rules {
    /// The event's name in CleverTap: the owner's, or Purchasely's made to fit. `None` if nothing fits.
    fn event_name<'e>(&'e self, name: &'e str) -> Option<Cow<'e, str>> {
        if let Some(renamed) = self.event_names.get(name) {
            return Some(Cow::Borrowed(renamed));
        }
        let fitted = clevertap::limits::fit_name(name)?;
        if clevertap::limits::is_reserved(&fitted) {
            let prefixed = format!("Purchasely {fitted}");
            return clevertap::limits::fit_name(&prefixed)
                .map(|name| Cow::Owned(name.into_owned()));
        }
        Some(fitted)
    }
}

fn seconds(milliseconds: i64) -> UnixSeconds {
    UnixSeconds(milliseconds.div_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clevertap::{User, upload_body};
    use crate::purchasely::Verified;

    fn event(body: &str) -> Event {
        Event::parse(Verified::unsigned(body.as_bytes())).unwrap()
    }

    #[track_caller]
    fn check(rules: &Rules, body: &str, expected: &str) {
        let event = event(body);
        let Mapped::Records(records) = map(&event, rules, &mut |_, _| {}) else {
            panic!("nothing to send");
        };
        let body = upload_body(&records.iter().collect::<Vec<_>>());
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn maps_an_event_to_one_event_record() {
        check(
            &Rules::default(),
            r#"{"event_name":"ACTIVATE","event_id":"e","user_id":"u-1","event_created_at_ms":1772439330999,"plan":"yearly"}"#,
            r#"{"d":[{"identity":"u-1","type":"event","evtName":"ACTIVATE","ts":1772439330,"evtData":{"event_created_at":"$D_1772439330","event_id":"e","event_name":"ACTIVATE","plan":"yearly","user_id":"u-1"}}]}"#,
        );
    }

    #[test]
    fn an_event_that_tells_no_time_has_none() {
        check(
            &Rules::default(),
            r#"{"event_name":"ACTIVATE","user_id":"u"}"#,
            r#"{"d":[{"identity":"u","type":"event","evtName":"ACTIVATE","evtData":{"event_name":"ACTIVATE","user_id":"u"}}]}"#,
        );
    }

    #[test]
    fn a_name_is_the_owners_or_purchaselys() {
        let rules = Rules {
            event_names: HashMap::from([("ACTIVATE".into(), "Access Granted".into())]),
            ..Rules::default()
        };
        for (name, expected) in [
            ("ACTIVATE", Some("Access Granted")),
            ("SUBSCRIPTION_STARTED", Some("SUBSCRIPTION_STARTED")),
            ("BRAND.NEW", Some("BRANDNEW")),
            ("App Launched", Some("Purchasely App Launched")),
            ("apPINSTALLED", Some("Purchasely apPINSTALLED")),
            ("wzrk_x", Some("Purchasely wzrk_x")),
            ("$$$", None),
        ] {
            assert_eq!(rules.event_name(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_prefixed_reserved_name_still_fits() {
        let long = format!("wzrk_{}", "x".repeat(115));
        let rules = Rules::default();
        let name = rules.event_name(&long).unwrap();
        assert_eq!(clevertap::limits::check_event_name(&name), Ok(()));
    }

    #[test]
    fn what_is_switched_off_is_ignored() {
        let rules = Rules {
            events: EventSwitches {
                enabled: Some(HashSet::from(["A".to_owned(), "B".to_owned()])),
                disabled: HashSet::from(["B".to_owned()]),
            },
            ..Rules::default()
        };
        assert!(rules.events.raises("A"));
        assert!(!rules.events.raises("B"));
        assert!(!rules.events.raises("C"));
        let event = event(r#"{"event_name":"B","user_id":"u"}"#);
        let mapped = map(&event, &rules, &mut |_, _| {});
        assert_eq!(mapped, Mapped::Ignored(Ignored::EventDisabled));
    }

    #[test]
    fn sandbox_events_are_dropped_unless_wanted() {
        let event = event(r#"{"event_name":"A","user_id":"u","environment":"SANDBOX"}"#);
        let dropping = Rules::default();
        let mapped = map(&event, &dropping, &mut |_, _| {});
        assert_eq!(mapped, Mapped::Ignored(Ignored::Sandbox));
        let relaying = Rules {
            relay_sandbox: true,
            ..Rules::default()
        };
        assert!(matches!(
            map(&event, &relaying, &mut |_, _| {}),
            Mapped::Records(_)
        ));
    }

    #[test]
    fn an_event_of_nobody_is_unmappable() {
        let event = event(r#"{"event_name":"A"}"#);
        let rules = Rules::default();
        let mapped = map(&event, &rules, &mut |_, _| {});
        assert_eq!(mapped, Mapped::Unmappable(Unmappable::NoIdentity));
    }

    #[test]
    fn the_identity_is_the_users() {
        let event = event(r#"{"event_name":"A","user_id":"u-9"}"#);
        let rules = Rules::default();
        let Mapped::Records(records) = map(&event, &rules, &mut |_, _| {}) else {
            panic!("nothing to send");
        };
        assert_eq!(records[0].user, User::Identity("u-9".into()));
    }
}
