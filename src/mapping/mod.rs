//! From a Purchasely event to CleverTap records: the only place that knows both vendors.
//!
//! Pure, total and deterministic: what cannot be mapped is a value, and the same event and rules give
//! the same records. It does not know how records are sent, nor what an outcome answers.

pub mod identity;
pub mod profile;
pub mod properties;
pub mod revenue;

pub use crate::clevertap::Account;
use crate::clevertap::{self, Content, Record, Role, UnixSeconds};
use crate::purchasely::{Environment, Event};
use identity::{Identified, IdentityRules};
use profile::ProfileRules;
use properties::PropertyRules;
use revenue::{Revenue, RevenueRules};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The settings that decide how an event is mapped.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// Which events are raised.
    pub events: EventSwitches,
    /// Purchasely's name → the owner's name, valid in CleverTap (`EVENT_NAMES`).
    pub event_names: HashMap<String, String>,
    /// What becomes of testers' purchases.
    pub sandbox: SandboxRule,
    /// Who the user is.
    pub identity: IdentityRules,
    /// What is sent about the event.
    pub properties: PropertyRules,
    /// What is kept about the user.
    pub profile: ProfileRules,
    /// Whether and how money is told.
    pub revenue: RevenueRules,
}

/// What becomes of testers' purchases (`SANDBOX_EVENTS`, `CLEVERTAP_SANDBOX_ACCOUNT_ID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxRule {
    /// They are ignored.
    #[default]
    Drop,
    /// Their events go to the main account; its profiles and its revenue are real and stay untouched.
    EventsOnly,
    /// They go to the main account, which is one for tests.
    Whole,
    /// They go to an account of their own.
    OwnAccount,
}

/// `EVENTS_ENABLED` minus `EVENTS_DISABLED`, in Purchasely's names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventSwitches {
    /// `None` is every event, known or not.
    pub enabled: Option<HashSet<String>>,
    /// Switched off even if enabled.
    pub disabled: HashSet<String>,
}

/// Where a webhook comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Purchasely itself, directly or through the event queue.
    Purchasely,
    /// The dead-letter queue or a replay: it may be older than what CleverTap has, so it writes no profile.
    Redelivered,
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Mapped<'e> {
    /// To be uploaded together, in this order: the profile, so that campaigns on the event see it;
    /// the event; the revenue.
    Records {
        /// Where they go.
        account: Account,
        /// At least one.
        records: Vec<Record<'e>>,
    },
    /// Rightly nothing to send.
    Ignored(Ignored),
    /// Can never be sent as it is.
    Unmappable(Unmappable),
}

/// Why there is nothing to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum Ignored {
    /// Switched off by `EVENTS_ENABLED` or `EVENTS_DISABLED`, and no profile or revenue to tell.
    EventDisabled,
    /// A tester's purchase (`SANDBOX_EVENTS=drop`).
    Sandbox,
    /// The buyer is not signed in (`ANONYMOUS_USER_ID_AS=ignore`).
    Anonymous,
}

/// Why an event can never be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
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
    /// Cut to fit, it could be another transaction's.
    #[error(
        "the transaction's id is longer than 512 bytes or reads as a date, which CleverTap does not take as Charged ID"
    )]
    UnfitChargedId,
}

/// What happened to one field of the payload on its way. Told for every field, in order of mapping.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
pub enum FieldOutcome<'e> {
    /// Sent under this property name.
    Sent(Cow<'e, str>),
    /// Sent as a date under this property name.
    #[strum(serialize = "date")]
    SentAsDate(Cow<'e, str>),
    /// Sent, but made to fit CleverTap's limit on text.
    Sanitized(Cow<'e, str>),
    /// The millisecond twin of a time: the time itself is sent.
    MillisecondTwin,
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
    /// Of a transaction: there is no amount with its currency, so no revenue event.
    NoAmount,
}

impl FieldOutcome<'_> {
    /// Whether the field was changed or lost in a way that its owner did not ask for.
    #[must_use]
    pub fn is_adjustment(&self) -> bool {
        match self {
            Self::Sanitized(_)
            | Self::WrongType
            | Self::UnusableName
            | Self::Collision(_)
            | Self::OverLimit
            | Self::NoAmount => true,
            Self::Sent(_)
            | Self::SentAsDate(_)
            | Self::MillisecondTwin
            | Self::Sensitive
            | Self::Omitted
            | Self::Unknown
            | Self::Empty => false,
        }
    }
}

/// Maps one event. `on_field` is told the fate of each payload field, by its name.
pub fn map<'e>(
    event: &'e Event,
    rules: &'e Rules,
    origin: Origin,
    on_field: &mut dyn FnMut(&str, FieldOutcome<'e>),
) -> Mapped<'e> {
    let is_sandbox = event.environment() == Environment::Sandbox;
    let (account, events_only) = match rules.sandbox {
        _ if !is_sandbox => (Account::Main, false),
        SandboxRule::Drop => return Mapped::Ignored(Ignored::Sandbox),
        SandboxRule::EventsOnly => (Account::Main, true),
        SandboxRule::Whole => (Account::Main, false),
        SandboxRule::OwnAccount => (Account::Sandbox, false),
    };
    let properties = properties::of_event(event, &rules.properties, on_field);
    let user = match identity::identify(event, &rules.identity) {
        Identified::User(user) => Ok(user),
        Identified::Anonymous => return Mapped::Ignored(Ignored::Anonymous),
        Identified::Nobody => Err(Unmappable::NoIdentity),
        Identified::TooLong => Err(Unmappable::IdentityTooLong),
    };
    let mut contents = Vec::with_capacity(3);
    if !events_only && origin == Origin::Purchasely {
        let changes = profile::changes(event, &rules.profile, &properties);
        if !changes.is_empty() {
            contents.push((Role::Profile, Content::Profile { changes }));
        }
    }
    let revenue = if events_only {
        Revenue::Off
    } else {
        revenue::decide(event, &rules.revenue, &properties)
    };
    let raised = rules.events.raises(event.name());
    if raised {
        let Some(name) = rules.event_name(event.name()) else {
            return Mapped::Unmappable(Unmappable::UnusableName);
        };
        contents.push((Role::Event, Content::Event { name, properties }));
    }
    match revenue {
        Revenue::Raised { name, properties } => {
            let name = Cow::Borrowed(name);
            contents.push((Role::Revenue, Content::Event { name, properties }));
        }
        Revenue::UnfitId => return Mapped::Unmappable(Unmappable::UnfitChargedId),
        Revenue::NoAmount => on_field("revenue", FieldOutcome::NoAmount),
        Revenue::Off | Revenue::NotMoney | Revenue::NotPositive => {}
    }
    if contents.is_empty() {
        return Mapped::Ignored(Ignored::EventDisabled);
    }
    let user = match user {
        Ok(user) => user,
        // Its owner let it go; what is left of it could not be sent anyhow.
        Err(_) if !raised => return Mapped::Ignored(Ignored::EventDisabled),
        Err(why) => return Mapped::Unmappable(why),
    };
    let at = event.time_ms("event_created_at").map(seconds);
    let record = |(role, content)| Record {
        role,
        user: user.clone(),
        at,
        content,
    };
    Mapped::Records {
        account,
        records: contents.into_iter().map(record).collect(),
    }
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
        let fitted = clevertap::limits::sanitize_name(name)?;
        if clevertap::limits::is_reserved(&fitted) {
            let prefixed = format!("Purchasely {fitted}");
            return clevertap::limits::sanitize_name(&prefixed)
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

    /// Rules that write no profile.
    fn events_only() -> Rules {
        Rules {
            profile: ProfileRules {
                properties: vec![],
                ..ProfileRules::default()
            },
            ..Rules::default()
        }
    }

    /// What goes where, by the kinds of its records.
    fn kinds(rules: &Rules, body: &str) -> (Option<Account>, Vec<String>) {
        match map(&event(body), rules, Origin::Purchasely, &mut |_, _| {}) {
            Mapped::Records { account, records } => {
                let kind = |record: &Record<'_>| match &record.content {
                    Content::Event { name, .. } => name.to_string(),
                    Content::Profile { .. } => "profile".to_owned(),
                };
                (Some(account), records.iter().map(kind).collect())
            }
            Mapped::Ignored(why) => (None, vec![format!("{why:?}")]),
            Mapped::Unmappable(why) => (None, vec![format!("{why:?}")]),
        }
    }

    #[track_caller]
    fn check(rules: &Rules, body: &str, expected: &str) {
        let event = event(body);
        let Mapped::Records { records, .. } =
            map(&event, rules, Origin::Purchasely, &mut |_, _| {})
        else {
            panic!("nothing to send");
        };
        let body = upload_body(&records.iter().collect::<Vec<_>>());
        assert_eq!(String::from_utf8(body).unwrap(), expected);
    }

    #[test]
    fn maps_an_event_to_one_event_record() {
        check(
            &events_only(),
            r#"{"event_name":"ACTIVATE","event_id":"e","user_id":"u-1","event_created_at_ms":1772439330999,"plan":"yearly"}"#,
            r#"{"d":[{"identity":"u-1","type":"event","evtName":"ACTIVATE","ts":1772439330,"evtData":{"event_created_at":"$D_1772439330","event_id":"e","event_name":"ACTIVATE","plan":"yearly","user_id":"u-1"}}]}"#,
        );
    }

    #[test]
    fn an_event_that_tells_no_time_has_none() {
        check(
            &events_only(),
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
        let mapped = map(&event, &rules, Origin::Purchasely, &mut |_, _| {});
        assert_eq!(mapped, Mapped::Ignored(Ignored::EventDisabled));
    }

    const RENEWED: &str = r#"{"event_name":"SUBSCRIPTION_RENEWED","user_id":"u","plan":"p","subscription_status":"AUTO_RENEWING"}"#;
    const PAID: &str =
        r#"{"event_name":"TRANSACTION_PROCESSED","user_id":"u","amount_in_usd":5,"event_id":"e"}"#;

    fn with_revenue() -> Rules {
        Rules {
            revenue: RevenueRules {
                event: Some("Charged".into()),
                ..RevenueRules::default()
            },
            ..Rules::default()
        }
    }

    #[test]
    fn the_profile_comes_before_the_event_and_revenue_after_it() {
        let rules = with_revenue();
        let (account, records) = kinds(&rules, RENEWED);
        assert_eq!(account, Some(Account::Main));
        assert_eq!(records, ["profile", "SUBSCRIPTION_RENEWED"]);
        assert_eq!(kinds(&rules, PAID).1, ["TRANSACTION_PROCESSED", "Charged"]);
    }

    #[test]
    fn an_event_that_comes_again_writes_no_profile() {
        let event = event(RENEWED);
        let rules = with_revenue();
        let Mapped::Records { records, .. } =
            map(&event, &rules, Origin::Redelivered, &mut |_, _| {})
        else {
            panic!("nothing to send");
        };
        assert_eq!(
            records.iter().map(|record| record.role).collect::<Vec<_>>(),
            [Role::Event]
        );
    }

    #[test]
    fn switching_an_event_off_leaves_profile_and_revenue_on() {
        let disabled = ["SUBSCRIPTION_RENEWED", "TRANSACTION_PROCESSED"].map(str::to_owned);
        let rules = Rules {
            events: EventSwitches {
                enabled: None,
                disabled: disabled.into(),
            },
            ..with_revenue()
        };
        assert_eq!(kinds(&rules, RENEWED).1, ["profile"]);
        assert_eq!(kinds(&rules, PAID).1, ["Charged"]);
    }

    #[test]
    fn sandbox_events_go_where_their_rule_says() {
        let sandbox = |body: &str| body.replace('}', r#","environment":"SANDBOX"}"#);
        for (rule, account, renewed, paid) in [
            (SandboxRule::Drop, None, vec!["Sandbox"], vec!["Sandbox"]),
            (
                SandboxRule::EventsOnly,
                Some(Account::Main),
                vec!["SUBSCRIPTION_RENEWED"],
                vec!["TRANSACTION_PROCESSED"],
            ),
            (
                SandboxRule::Whole,
                Some(Account::Main),
                vec!["profile", "SUBSCRIPTION_RENEWED"],
                vec!["TRANSACTION_PROCESSED", "Charged"],
            ),
            (
                SandboxRule::OwnAccount,
                Some(Account::Sandbox),
                vec!["profile", "SUBSCRIPTION_RENEWED"],
                vec!["TRANSACTION_PROCESSED", "Charged"],
            ),
        ] {
            let rules = Rules {
                sandbox: rule,
                ..with_revenue()
            };
            let told = |records: Vec<&str>| records.into_iter().map(str::to_owned).collect();
            assert_eq!(
                kinds(&rules, &sandbox(RENEWED)),
                (account, told(renewed)),
                "{rule:?}"
            );
            assert_eq!(
                kinds(&rules, &sandbox(PAID)),
                (account, told(paid)),
                "{rule:?}"
            );
            assert_eq!(kinds(&rules, RENEWED).0, Some(Account::Main), "{rule:?}");
        }
    }

    #[test]
    fn a_transaction_without_an_amount_is_told_of() {
        let event = event(r#"{"event_name":"TRANSACTION_PROCESSED","user_id":"u"}"#);
        let rules = with_revenue();
        let mut told = Vec::new();
        map(&event, &rules, Origin::Purchasely, &mut |field, fate| {
            told.push((field.to_owned(), <&str>::from(fate)));
        });
        assert_eq!(told.last(), Some(&("revenue".to_owned(), "no_amount")));
    }

    #[test]
    fn an_event_of_nobody_is_unmappable() {
        let event = event(r#"{"event_name":"A"}"#);
        let rules = Rules::default();
        let mapped = map(&event, &rules, Origin::Purchasely, &mut |_, _| {});
        assert_eq!(mapped, Mapped::Unmappable(Unmappable::NoIdentity));
    }

    #[test]
    fn an_event_of_nobody_can_be_let_go_by_switching_it_off() {
        let rules = Rules {
            events: EventSwitches {
                enabled: None,
                disabled: HashSet::from(["SUBSCRIPTION_RENEWED".to_owned()]),
            },
            ..Rules::default()
        };
        let nobodys = r#"{"event_name":"SUBSCRIPTION_RENEWED","plan":"p"}"#;
        assert_eq!(kinds(&rules, nobodys).1, ["EventDisabled"]);
    }

    #[test]
    fn the_identity_is_the_users() {
        let event = event(r#"{"event_name":"SUBSCRIPTION_RENEWED","user_id":"u-9"}"#);
        let rules = Rules::default();
        let Mapped::Records { records, .. } =
            map(&event, &rules, Origin::Purchasely, &mut |_, _| {})
        else {
            panic!("nothing to send");
        };
        assert_eq!(records.len(), 2);
        for record in records {
            assert_eq!(record.user, User::Identity("u-9".into()));
        }
    }
}
