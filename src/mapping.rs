//! Maps a Purchasely event to CleverTap records: the only module that knows both vendors.
//!
//! It does not know how records are uploaded or what is answered. It is pure, total and deterministic:
//! an event that cannot be mapped is a value, and the same event and rules give the same records.

pub mod identity;
pub mod profile;
pub mod properties;
pub mod revenue;

pub use crate::clevertap::Account;
use crate::clevertap::{Content, Record, Role, UnixSeconds, User, limits};
use crate::purchasely::{Environment, Event};
use identity::{Identified, IdentityRules};
use profile::ProfileRules;
use properties::PropertyRules;
use revenue::{Revenue, RevenueRules};
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

/// The settings that decide how an event is mapped. Which of them are the defaults is `config`'s to say.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    pub events: EventSwitches,
    /// Purchasely's name → the configured name, valid in CleverTap (`EVENT_NAMES`).
    pub event_names: HashMap<String, String>,
    pub sandbox: SandboxRule,
    /// Whether the main account is one of CleverTap's test accounts, in which nothing real can be harmed.
    pub is_test_account: bool,
    pub identity: IdentityRules,
    pub properties: PropertyRules,
    pub profile: ProfileRules,
    pub revenue: RevenueRules,
}

/// `EVENTS_ENABLED` minus `EVENTS_DISABLED`, in Purchasely's names.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EventSwitches {
    /// `None` is every event, documented or not.
    pub enabled: Option<HashSet<String>>,
    pub disabled: HashSet<String>,
}

/// Where events of testers' purchases go (`SANDBOX_EVENTS`, `CLEVERTAP_SANDBOX_ACCOUNT_ID`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SandboxRule {
    /// Nowhere.
    #[default]
    Drop,
    /// To the main account, without profile and revenue records: those of real users must not change.
    EventsOnly,
    /// To the main account, which is a test account, with all records.
    Whole,
    /// To the sandbox account, with all records.
    OwnAccount,
}

/// What mapping an event noticed, for its log line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Notes {
    /// The first properties that were changed or left out although no setting says so, as `name: word`.
    pub adjusted: Vec<String>,
    /// All of them.
    pub adjusted_count: usize,
    /// Whether a transaction raised no revenue event, because it has no amount in the currency that counts.
    pub revenue_missing: bool,
    /// Whether an id counts as absent, because it is a placeholder or something in it had to be replaced.
    pub has_placeholder: bool,
    /// Whether `environment` is neither of the two documented ones.
    pub unknown_environment: bool,
}

/// What [`Notes::adjusted`] says of a revenue event that is not raised.
pub const NO_AMOUNT: &str = "no_amount";
/// More adjusted properties are counted, not named.
const MAX_ADJUSTED: usize = 20;
/// A longer name is cut in [`Notes`].
const MAX_NOTED_BYTES: usize = 120;

impl Notes {
    pub fn add(&mut self, field: &str, outcome: &FieldOutcome<'_>) {
        self.has_placeholder |= *outcome == FieldOutcome::Placeholder;
        self.unknown_environment |= *outcome == FieldOutcome::UnknownEnvironment;
        if outcome.is_adjustment() {
            self.adjust(field, outcome.into_str());
        }
    }

    /// Notes that a transaction has no amount in the currency that counts.
    pub fn add_missing_revenue(&mut self) {
        self.revenue_missing = true;
        self.adjust("revenue", NO_AMOUNT);
    }

    fn adjust(&mut self, name: &str, word: &str) {
        self.adjusted_count += 1;
        if self.adjusted.len() < MAX_ADJUSTED {
            let name = &name[..name.floor_char_boundary(MAX_NOTED_BYTES)];
            self.adjusted.push(format!("{name}: {word}"));
        }
    }
}

/// Where a webhook comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Purchasely, directly or through the event queue.
    Purchasely,
    /// The dead-letter queue or a replay. CleverTap may have newer values by now, so no profile is written.
    Redelivered,
}

/// An event as far as the rules decide about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Mapping<'e> {
    pub mapped: Mapped<'e>,
    /// Whether a transaction raises no revenue event, because it has no amount in the currency that counts.
    pub lacks_revenue: bool,
}

/// What to do with an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Mapped<'e> {
    /// To be uploaded together.
    Records {
        account: Account,
        /// At least one, of one user: the profile, so that campaigns on the event see it; the event;
        /// the revenue.
        records: Vec<Record<'e>>,
    },
    /// There is nothing to send.
    Ignored(Ignored),
    /// It can never be sent as it is.
    Unmappable(Unmappable),
}

/// Why there is nothing to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Ignored {
    /// Excluded by `EVENTS_ENABLED` or `EVENTS_DISABLED`, and there is no profile or revenue record.
    EventDisabled,
    /// A tester's purchase (`SANDBOX_EVENTS=drop`).
    Sandbox,
    /// The buyer is not signed in (`ANONYMOUS_USER_ID_AS=ignore`).
    Anonymous,
    /// The buyer is not signed in and paid in a store that does not tell the platform, such as Stripe
    /// (`ANONYMOUS_USER_ID_AS=clevertap_id`).
    AnonymousStore,
    /// The event is disabled, and nobody can be found to write its profile or revenue record for.
    NoUser,
}

impl Ignored {
    /// Whether the event would have been sent if its user could be found.
    #[must_use]
    pub fn lacks_user(self) -> bool {
        matches!(self, Self::Anonymous | Self::AnonymousStore | Self::NoUser)
    }
}

/// Why an event can never be sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Unmappable {
    #[error(
        "the event has no user: neither user_id, anonymous_user_id nor the CleverTap ID field has an id"
    )]
    NoIdentity,
    /// Truncated, it could be another user's.
    #[error("the user's id has 1024 characters or more, which CleverTap rejects")]
    IdentityTooLong,
    /// Altered, it could be another user's.
    #[error(
        "the CleverTap ID cannot exist: CleverTap allows 1 to 64 letters, digits and ( ) ! : @ $ _ - after its prefix"
    )]
    UnfitClevertapId,
    #[error("the event's name has no character that CleverTap allows")]
    UnusableName,
    /// Truncated, it could be another transaction's.
    #[error(
        "the transaction's id is longer than 512 bytes or reads as a date, so it cannot be the Charged ID"
    )]
    UnfitChargedId,
}

/// What happened to one payload field. Variants with a name carry that of the property.
#[derive(Debug, Clone, PartialEq, Eq, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum FieldOutcome<'e> {
    Sent(Cow<'e, str>),
    #[strum(serialize = "date")]
    SentAsDate(Cow<'e, str>),
    /// Sent after its text or name was truncated, a part of it replaced or left out, or its text stripped of
    /// what CleverTap would read as a date.
    Sanitized(Cow<'e, str>),
    /// Not sent: it repeats a `*_at` field, which is sent.
    MillisecondTwin,
    /// Never sent: it is a credential.
    Sensitive,
    /// Listed in `PROPERTIES_OMITTED`.
    Omitted,
    /// Not documented by Purchasely, with `UNKNOWN_FIELDS=drop`.
    Unknown,
    /// Null, blank, or a list or object without values.
    Empty,
    /// Not of its documented type.
    WrongType,
    /// A number out of range, or a list or an object that is nested too deeply.
    Unreadable,
    /// An id that is a placeholder such as `undefined`, or in which something had to be replaced: it counts
    /// as absent.
    Placeholder,
    /// Of `environment`: neither `PRODUCTION` nor `SANDBOX`, so the event is sent alone.
    UnknownEnvironment,
    /// Its name has no character that CleverTap allows.
    UnusableName,
    /// Its sanitized name is that of another property, which is sent.
    Collision(Cow<'e, str>),
    /// CleverTap's maximum number of properties was reached, or that of properties made of undocumented fields.
    OverLimit,
}

impl FieldOutcome<'_> {
    /// Whether the field was changed or dropped although no setting says so.
    #[must_use]
    pub fn is_adjustment(&self) -> bool {
        matches!(
            self,
            Self::Sanitized(_)
                | Self::WrongType
                | Self::Unreadable
                | Self::Placeholder
                | Self::UnknownEnvironment
                | Self::UnusableName
                | Self::Collision(_)
                | Self::OverLimit
        )
    }
}

/// Maps one event. `on_field` is called with each payload field's name and outcome.
pub fn map<'e>(
    event: &'e Event<'_>,
    rules: &'e Rules,
    origin: Origin,
    on_field: &mut dyn FnMut(&str, FieldOutcome<'e>),
) -> Mapping<'e> {
    let environment = event.environment();
    let (account, is_events_only) = match (environment, rules.sandbox) {
        (Environment::Unknown, _) => (Account::Main, !rules.is_test_account),
        (Environment::Sandbox, SandboxRule::Drop) => {
            return Mapped::Ignored(Ignored::Sandbox).into();
        }
        (Environment::Sandbox, SandboxRule::EventsOnly) => (Account::Main, true),
        (Environment::Sandbox, SandboxRule::OwnAccount) => (Account::Sandbox, false),
        (Environment::Sandbox, SandboxRule::Whole) | (Environment::Production, _) => {
            (Account::Main, false)
        }
    };
    let properties = properties::of_event(event, &rules.properties, on_field);
    if environment == Environment::Unknown {
        on_field("environment", FieldOutcome::UnknownEnvironment);
    }
    if identity::has_placeholder_clevertap_id(event, &rules.identity) {
        on_field(&rules.identity.clevertap_id_field, FieldOutcome::Placeholder);
    }
    let identified = identity::identify(event, &rules.identity);
    let is_device = matches!(identified, Identified::Device(_));
    let user = match identified {
        Identified::User(user) => Ok(user),
        Identified::Device(id) => Ok(User::ObjectId(id)),
        Identified::Anonymous => return Mapped::Ignored(Ignored::Anonymous).into(),
        Identified::UnknownDevice => return Mapped::Ignored(Ignored::AnonymousStore).into(),
        Identified::Nobody => Err(Unmappable::NoIdentity),
        Identified::TooLong => Err(Unmappable::IdentityTooLong),
        Identified::UnfitClevertapId => Err(Unmappable::UnfitClevertapId),
    };
    let mut contents = Vec::with_capacity(3);
    let writes_profile = !is_events_only && origin == Origin::Purchasely;
    if writes_profile && !(is_device && profile::may_follow_a_sign_in(event)) {
        let changes = profile::changes(event, &rules.profile, &rules.revenue.currency, &properties);
        if !changes.is_empty() {
            contents.push((Role::Profile, Content::Profile { changes }));
        }
    }
    let revenue = if is_events_only {
        Revenue::Off
    } else {
        revenue::decide(event, &rules.revenue, &properties)
    };
    let is_raised = rules.events.raises(event.name());
    if is_raised {
        let Some(name) = rules.event_name(event.name()) else {
            return Mapped::Unmappable(Unmappable::UnusableName).into();
        };
        contents.push((Role::Event, Content::Event { name, properties }));
    }
    let lacks_revenue = revenue == Revenue::NoAmount;
    match revenue {
        Revenue::Raised { name, properties } => {
            let name = Cow::Borrowed(name);
            contents.push((Role::Revenue, Content::Event { name, properties }));
        }
        Revenue::UnfitId => return Mapped::Unmappable(Unmappable::UnfitChargedId).into(),
        Revenue::Off | Revenue::NotMoney | Revenue::NotPositive | Revenue::NoAmount => {}
    }
    let mapped = match user {
        _ if contents.is_empty() => Mapped::Ignored(Ignored::EventDisabled),
        Ok(user) => {
            let at = event.time_ms("event_created_at").map(seconds);
            let record = |(role, content)| Record { role, user: user.clone(), at, content };
            Mapped::Records {
                account,
                records: contents.into_iter().map(record).collect(),
            }
        }
        // The event itself is disabled, so its other records are no reason for a dead letter.
        Err(_) if !is_raised => Mapped::Ignored(Ignored::NoUser),
        Err(why) => Mapped::Unmappable(why),
    };
    Mapping { mapped, lacks_revenue }
}

impl<'e> From<Mapped<'e>> for Mapping<'e> {
    fn from(mapped: Mapped<'e>) -> Self {
        Self { mapped, lacks_revenue: false }
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
    /// The event's name in CleverTap: the configured one, or Purchasely's as far as CleverTap allows it.
    fn event_name<'e>(&'e self, name: &'e str) -> Option<Cow<'e, str>> {
        if let Some(renamed) = self.event_names.get(name) {
            return Some(Cow::Borrowed(renamed));
        }
        let sanitized = limits::sanitize_name(name)?;
        if limits::is_reserved(&sanitized) {
            let prefixed = format!("Purchasely {sanitized}");
            return limits::sanitize_name(&prefixed).map(|name| Cow::Owned(name.into_owned()));
        }
        Some(sanitized)
    }
}

fn seconds(milliseconds: i64) -> UnixSeconds {
    UnixSeconds(milliseconds.div_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clevertap::upload_body;
    use crate::purchasely::Verified;

    const RENEWED: &str = r#"{"event_name":"SUBSCRIPTION_RENEWED","user_id":"u","plan":"p","subscription_status":"AUTO_RENEWING"}"#;
    const PAID: &str =
        r#"{"event_name":"TRANSACTION_PROCESSED","user_id":"u","amount_in_usd":5,"event_id":"e"}"#;

    fn event(body: &str) -> Event<'_> {
        Event::parse(Verified::unsigned(body.as_bytes())).unwrap()
    }

    fn without_profile() -> Rules {
        let mut rules = Rules::default();
        rules.profile.properties.clear();
        rules
    }

    fn with_revenue() -> Rules {
        let mut rules = Rules::default();
        rules.revenue.event = Some("Charged".into());
        rules
    }

    fn without(mut rules: Rules, disabled: &[&str]) -> Rules {
        rules.events.disabled = disabled.iter().map(|&name| name.to_owned()).collect();
        rules
    }

    /// The account, and each record as `profile` or its event's name; or why there is none.
    fn summary(rules: &Rules, origin: Origin, body: &str) -> String {
        match map(&event(body), rules, origin, &mut |_, _| {}).mapped {
            Mapped::Records { account, records } => {
                let name = |record: &Record<'_>| match &record.content {
                    Content::Event { name, .. } => name.to_string(),
                    Content::Profile { .. } => "profile".to_owned(),
                };
                let names: Vec<_> = records.iter().map(name).collect();
                format!("{account:?}: {}", names.join(", "))
            }
            Mapped::Ignored(why) => format!("{why:?}"),
            Mapped::Unmappable(why) => format!("{why:?}"),
        }
    }

    #[track_caller]
    fn check(rules: &Rules, body: &str, expected: &str) {
        assert_eq!(summary(rules, Origin::Purchasely, body), expected, "{body}");
    }

    #[test]
    fn an_event_becomes_one_event_record() {
        for (body, expected) in [
            (
                r#"{"event_name":"ACTIVATE","event_id":"e","user_id":"u-1","event_created_at_ms":1772439330999,"plan":"yearly"}"#,
                r#"{"d":[{"identity":"u-1","type":"event","evtName":"ACTIVATE","ts":1772439330,"evtData":{"event_created_at":"$D_1772439330","event_id":"e","event_name":"ACTIVATE","plan":"yearly","user_id":"u-1"}}]}"#,
            ),
            (
                r#"{"event_name":"ACTIVATE","user_id":"u"}"#,
                r#"{"d":[{"identity":"u","type":"event","evtName":"ACTIVATE","evtData":{"event_name":"ACTIVATE","user_id":"u"}}]}"#,
            ),
        ] {
            let (event, rules) = (event(body), without_profile());
            let Mapped::Records { records, .. } =
                map(&event, &rules, Origin::Purchasely, &mut |_, _| {}).mapped
            else {
                panic!("nothing to send");
            };
            let body = upload_body(&records.iter().collect::<Vec<_>>());
            assert_eq!(String::from_utf8(body).unwrap(), expected);
        }
    }

    #[test]
    fn every_record_has_the_events_user() {
        let body = r#"{"event_name":"SUBSCRIPTION_RENEWED","user_id":"u-9"}"#;
        let (event, rules) = (event(body), Rules::default());
        let Mapped::Records { records, .. } =
            map(&event, &rules, Origin::Purchasely, &mut |_, _| {}).mapped
        else {
            panic!("nothing to send");
        };
        assert_eq!(records.len(), 2);
        for record in records {
            assert_eq!(record.user, User::Identity("u-9".into()));
        }
    }

    #[test]
    fn a_name_is_the_configured_one_or_purchaselys() {
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
        let long = format!("wzrk_{}", "x".repeat(115));
        let name = rules.event_name(&long).unwrap();
        assert_eq!(limits::check_event_name(&name), Ok(()));
    }

    #[test]
    fn the_profile_comes_before_the_event_and_revenue_after_it() {
        let rules = with_revenue();
        check(&rules, RENEWED, "Main: profile, SUBSCRIPTION_RENEWED");
        check(&rules, PAID, "Main: TRANSACTION_PROCESSED, Charged");
    }

    #[test]
    fn a_redelivered_event_writes_no_profile() {
        let rules = with_revenue();
        for (body, expected) in [
            (RENEWED, "Main: SUBSCRIPTION_RENEWED"),
            (PAID, "Main: TRANSACTION_PROCESSED, Charged"),
        ] {
            assert_eq!(summary(&rules, Origin::Redelivered, body), expected);
        }
    }

    #[test]
    fn switches_choose_the_events_that_are_raised() {
        let mut rules = without(without_profile(), &["B"]);
        rules.events.enabled = Some(HashSet::from(["A".to_owned(), "B".to_owned()]));
        for (name, expected) in [("A", "Main: A"), ("B", "EventDisabled"), ("C", "EventDisabled")] {
            let body = format!(r#"{{"event_name":"{name}","user_id":"u"}}"#);
            check(&rules, &body, expected);
        }
    }

    #[test]
    fn a_disabled_event_still_sends_profile_and_revenue() {
        let disabled = ["SUBSCRIPTION_RENEWED", "TRANSACTION_PROCESSED"];
        let rules = without(with_revenue(), &disabled);
        check(&rules, RENEWED, "Main: profile");
        check(&rules, PAID, "Main: Charged");
    }

    #[test]
    fn sandbox_events_follow_their_rule() {
        let sandbox = |body: &str| body.replace('}', r#","environment":"SANDBOX"}"#);
        for (rule, renewed, paid) in [
            (SandboxRule::Drop, "Sandbox", "Sandbox"),
            (
                SandboxRule::EventsOnly,
                "Main: SUBSCRIPTION_RENEWED",
                "Main: TRANSACTION_PROCESSED",
            ),
            (
                SandboxRule::Whole,
                "Main: profile, SUBSCRIPTION_RENEWED",
                "Main: TRANSACTION_PROCESSED, Charged",
            ),
            (
                SandboxRule::OwnAccount,
                "Sandbox: profile, SUBSCRIPTION_RENEWED",
                "Sandbox: TRANSACTION_PROCESSED, Charged",
            ),
        ] {
            let rules = Rules { sandbox: rule, ..with_revenue() };
            check(&rules, &sandbox(RENEWED), renewed);
            check(&rules, &sandbox(PAID), paid);
            check(&rules, RENEWED, "Main: profile, SUBSCRIPTION_RENEWED");
        }
    }

    #[test]
    fn an_unknown_environment_is_the_event_alone_in_the_main_account() {
        let xcode = |body: &str| body.replace('}', r#","environment":"Xcode"}"#);
        for sandbox in [SandboxRule::Drop, SandboxRule::EventsOnly, SandboxRule::OwnAccount] {
            let rules = Rules { sandbox, ..with_revenue() };
            check(&rules, &xcode(RENEWED), "Main: SUBSCRIPTION_RENEWED");
            check(&rules, &xcode(PAID), "Main: TRANSACTION_PROCESSED");
            let rules = Rules { is_test_account: true, ..rules };
            check(&rules, &xcode(RENEWED), "Main: profile, SUBSCRIPTION_RENEWED");
            check(&rules, &xcode(PAID), "Main: TRANSACTION_PROCESSED, Charged");
        }
    }

    fn notes(body: &str) -> Notes {
        let mut notes = Notes::default();
        let event = event(body);
        map(&event, &with_revenue(), Origin::Purchasely, &mut |field, outcome| {
            notes.add(field, &outcome);
        });
        notes
    }

    #[test]
    fn what_was_replaced_or_left_out_is_noted() {
        for (fields, expected) in [
            (r#""placement":"Spring \ud83c""#, "placement: sanitized"),
            (r#""x\ud83c":1"#, "x\u{fffd}: sanitized"),
            (r#""a":{"b":[1,"\ud83c"]}"#, "a.b: sanitized"),
            (r#""x":1e400"#, "x: unreadable"),
            (r#""event_id":"null""#, "event_id: placeholder"),
            (r#""clevertap_id":"undefined""#, "clevertap_id: placeholder"),
            (r#""environment":"Xcode""#, "environment: unknown_environment"),
        ] {
            let body = format!(r#"{{"event_name":"ACTIVATE","user_id":"u",{fields}}}"#);
            let notes = notes(&body);
            assert_eq!((notes.adjusted_count, &*notes.adjusted), (1, &[expected.to_owned()][..]));
            assert_eq!(notes.has_placeholder, expected.ends_with("placeholder"), "{fields}");
            assert_eq!(notes.unknown_environment, expected.ends_with("environment"), "{fields}");
        }
    }

    #[test]
    fn notes_are_short_however_much_was_adjusted() {
        let fields: String =
            (0..300).map(|n| format!(r#","{n}{}":1e400"#, "x".repeat(500))).collect();
        let notes = notes(&format!(r#"{{"event_name":"ACTIVATE","user_id":"u"{fields}}}"#));
        assert_eq!((notes.adjusted_count, notes.adjusted.len()), (300, MAX_ADJUSTED));
        assert!(notes.adjusted.iter().all(|note| note.len() < 150), "{notes:?}");
    }

    #[test]
    fn a_payment_with_one_bad_value_keeps_its_revenue() {
        let rules = with_revenue();
        for fields in [r#""placement":"Spring sale \ud83c""#, r#""x":1e400"#] {
            let body = PAID.replace('}', &format!(",{fields}}}"));
            check(&rules, &body, "Main: TRANSACTION_PROCESSED, Charged");
        }
    }

    #[test]
    fn a_transaction_without_an_amount_is_reported() {
        let event = event(r#"{"event_name":"TRANSACTION_PROCESSED","user_id":"u"}"#);
        let rules = with_revenue();
        let mapping = map(&event, &rules, Origin::Purchasely, &mut |_, _| {});
        assert!(mapping.lacks_revenue);
        let mut notes = Notes::default();
        notes.add_missing_revenue();
        assert_eq!(notes.adjusted, ["revenue: no_amount"]);
    }

    #[test]
    fn an_event_without_a_user_is_unmappable_unless_it_is_disabled() {
        let body = r#"{"event_name":"SUBSCRIPTION_RENEWED","plan":"p"}"#;
        check(&Rules::default(), body, "NoIdentity");
        let disabled = without(Rules::default(), &["SUBSCRIPTION_RENEWED"]);
        check(&disabled, body, "NoUser");
        let nothing_to_write = without(without_profile(), &["SUBSCRIPTION_RENEWED"]);
        check(&nothing_to_write, body, "EventDisabled");
    }

    #[test]
    fn a_device_is_sent_whole_but_no_profile_after_its_buyer_may_have_signed_in() {
        let mut rules = with_revenue();
        rules.identity.anonymous_user_id_as = identity::AnonymousUserIdAs::ClevertapId;
        for (name, expected) in [
            ("TRIAL_STARTED", "Main: profile, TRIAL_STARTED"),
            ("TRANSACTION_PROCESSED", "Main: TRANSACTION_PROCESSED, Charged"),
            ("SUBSCRIPTION_TRANSFERRED", "Main: SUBSCRIPTION_TRANSFERRED"),
            ("DEACTIVATE", "Main: DEACTIVATE"),
        ] {
            let body = |store: &str, id: &str| {
                format!(
                    r#"{{"event_name":"{name}","{id}":"A","store":"{store}","plan":"p","amount_in_usd":5}}"#
                )
            };
            check(&rules, &body("APPLE_APP_STORE", "anonymous_user_id"), expected);
            check(&rules, &body("STRIPE", "anonymous_user_id"), "AnonymousStore");
            check(&Rules::default(), &body("STRIPE", "anonymous_user_id"), "Anonymous");
        }
        let signed_in = r#"{"event_name":"DEACTIVATE","user_id":"u","plan":"p"}"#;
        check(&rules, signed_in, "Main: profile, DEACTIVATE");
        let unfit = r#"{"event_name":"A","anonymous_user_id":"a b","store":"APPLE_APP_STORE"}"#;
        check(&rules, unfit, "UnfitClevertapId");
    }
}
