//! What becomes of one raw webhook body, and why: the library decides, this tells.
//! It does not know how it is shown, nor where the settings come from.

use super::identity::{self, Identity};
use super::words;
use purchasely_clevertap::clevertap::{Change, Content, Record, Upload, Value, upload_body};
use purchasely_clevertap::mapping::profile::{self, Plans, Written};
use purchasely_clevertap::mapping::revenue::{self, Revenue, RevenueCurrency};
use purchasely_clevertap::mapping::{self, Account, FieldOutcome, Mapped, Rules, SandboxRule, properties};
use purchasely_clevertap::purchasely::{Environment, Event, Verified};
use serde::Serialize;
use serde_json::Value as Json;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// What becomes of one file. As JSON its keys are stable.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// The file.
    pub file: String,
    /// What becomes of the whole.
    pub outcome: Outcome,
    /// Why nothing is sent, where that is so.
    pub why: Option<String>,
    /// The event and its name in CleverTap; `None` for what is no event.
    pub event: Option<Named>,
    /// `main` or `sandbox`: whose upload it is.
    pub account: Option<&'static str>,
    /// The upload as JSON, its keys in their order.
    pub upload: Option<Box<RawValue>>,
    /// The upload, byte for byte as the function sends it.
    pub body: Option<String>,
    /// The same, spread over lines for people.
    #[serde(skip)]
    pub pretty: Option<String>,
    /// One line per field of the payload, by name; for an object, one per field in it.
    pub fields: Vec<Destination>,
    /// Whom it is about.
    pub identity: Option<Identity>,
    /// What is written to the user's profile.
    pub profile: Option<Profile>,
    /// Whether it is money.
    pub revenue: Option<Money>,
}

/// What becomes of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is uploaded.
    Sent,
    /// There is rightly nothing to send.
    Ignored,
    /// It is an event that can never be sent as it is.
    Unmappable,
    /// It is no event.
    Unreadable,
}

/// An event and its name in CleverTap.
#[derive(Debug, Serialize)]
pub struct Named {
    /// Purchasely's name.
    pub name: String,
    /// Whether the settings let it be raised.
    pub raised: bool,
    /// Its name in CleverTap, if it is sent.
    pub sent_as: Option<String>,
    /// Why it is raised under this name, or not raised.
    pub why: String,
}

/// Where one field of the payload went.
#[derive(Debug, Serialize)]
pub struct Destination {
    /// Its name; `object.field` inside an object.
    pub field: String,
    /// Its fate in a word, as in the function's log.
    pub fate: &'static str,
    /// The event property that carries it.
    pub property: Option<String>,
    /// Its fate in words.
    pub why: String,
}

/// What is written to the user's profile.
#[derive(Debug, Serialize)]
pub struct Profile {
    /// The row of the table that applies, from 1.
    pub row: u8,
    /// What that row says.
    pub says: &'static str,
    /// What it changes.
    pub changes: String,
    /// What is written, in order.
    pub written: Vec<Kept>,
    /// What `USER_PROPERTIES` asks for and this event leaves as it is.
    pub untouched: Vec<String>,
    /// Why there is no profile record, where there is none.
    pub why: Option<String>,
}

/// One property of the profile.
#[derive(Debug, Serialize)]
pub struct Kept {
    /// Its key.
    pub property: String,
    /// What is sent for it.
    pub value: Json,
    /// Where that comes from.
    pub from: String,
}

/// Whether an event is money.
#[derive(Debug, Serialize)]
pub struct Money {
    /// `raised`, `off`, `not_money`, `not_positive`, `no_amount`, `unfit_id`, `sandbox` or `not_sent`.
    pub decision: &'static str,
    /// The name of the revenue event, if it is raised.
    pub event: Option<String>,
    /// Why.
    pub why: String,
}

/// The properties of an event as the library gives them.
type Properties<'e> = [(Cow<'e, str>, Value<'e>)];

/// Explains one file's body.
#[must_use]
pub fn of(file: &str, body: &[u8], rules: &Rules) -> Explanation {
    match Event::parse(Verified::unsigned(body)) {
        Ok(event) => of_event(file, &event, rules),
        Err(unreadable) => Explanation {
            file: file.to_owned(),
            outcome: Outcome::Unreadable,
            why: Some(unreadable.to_string()),
            event: None,
            account: None,
            upload: None,
            body: None,
            pretty: None,
            fields: Vec::new(),
            identity: None,
            profile: None,
            revenue: None,
        },
    }
}

fn of_event(file: &str, event: &Event, rules: &Rules) -> Explanation {
    let mut read = Vec::new();
    let properties = properties::of_event(event, &rules.properties, &mut |field, fate| {
        read.push((field.to_owned(), fate));
    });
    let mut told = Vec::new();
    let mapped = mapping::map(
        event,
        rules,
        mapping::Origin::Purchasely,
        &mut |field, fate| {
            told.push((field.to_owned(), fate));
        },
    );
    // A tester's purchase that is dropped is not even read: then this is how it would be.
    let fates = if told.is_empty() { read } else { told };
    let (outcome, why) = match &mapped {
        Mapped::Records { .. } => (Outcome::Sent, None),
        Mapped::Ignored(ignored) => {
            let why = words::ignored(*ignored, event, rules);
            (Outcome::Ignored, Some(why))
        }
        Mapped::Unmappable(unmappable) => (Outcome::Unmappable, Some(unmappable.to_string())),
    };
    let (account, records) = match &mapped {
        Mapped::Records { account, records } => (Some(*account), &records[..]),
        Mapped::Ignored(_) | Mapped::Unmappable(_) => (None, &[][..]),
    };
    let upload = (!records.is_empty()).then(|| upload(records));
    let (body, pretty) = upload.unzip();
    Explanation {
        file: file.to_owned(),
        outcome,
        why,
        event: Some(named(event, rules, records)),
        account: account.map(|account| match account {
            Account::Main => "main",
            Account::Sandbox => "sandbox",
        }),
        upload: body
            .clone()
            .and_then(|body| RawValue::from_string(body).ok()),
        body,
        pretty,
        fields: fields(event, &fates),
        identity: Some(identity::of(event, &rules.identity)),
        profile: Some(profile(event, rules, records, outcome)),
        revenue: Some(money(event, rules, &properties, outcome)),
    }
}

/// The body that the function posts, and the same for people.
fn upload(records: &[Record<'_>]) -> (String, String) {
    let records: Vec<_> = records.iter().collect();
    let body = String::from_utf8(upload_body(&records)).expect("JSON is UTF-8");
    let pretty =
        serde_json::to_string_pretty(&Upload(&records)).expect("a record always has a JSON form");
    (body, pretty)
}

fn named(event: &Event, rules: &Rules, records: &[Record<'_>]) -> Named {
    let raised = rules.events.raises(event.name());
    let sent_as = records
        .iter()
        .find_map(|record| match &record.content {
            Content::Event { name, .. } => Some(name.to_string()),
            Content::Profile { .. } => None,
        })
        // Otherwise the first event is the revenue.
        .filter(|_| raised);
    Named {
        name: event.name().to_owned(),
        raised,
        why: words::name(event, rules, sent_as.as_deref()),
        sent_as,
    }
}

/// One line per field, by name.
fn fields(event: &Event, fates: &[(String, FieldOutcome<'_>)]) -> Vec<Destination> {
    let mut fields: Vec<_> = fates
        .iter()
        // It speaks of the transaction, not of a field.
        .filter(|(_, fate)| *fate != FieldOutcome::NoAmount)
        .map(|(field, fate)| Destination {
            field: field.clone(),
            fate: <&str>::from(fate),
            property: property(fate).map(str::to_owned),
            why: words::fate(field, fate, event, fates),
        })
        .collect();
    fields.sort_by(|a, b| a.field.cmp(&b.field));
    fields
}

/// The property that carries a field of this fate.
pub fn property<'f>(fate: &'f FieldOutcome<'_>) -> Option<&'f str> {
    match fate {
        FieldOutcome::Sent(key) | FieldOutcome::SentAsDate(key) | FieldOutcome::Sanitized(key) => Some(key),
        FieldOutcome::MillisecondTwin
        | FieldOutcome::Sensitive
        | FieldOutcome::Omitted
        | FieldOutcome::Unknown
        | FieldOutcome::Empty
        | FieldOutcome::WrongType
        | FieldOutcome::UnusableName
        | FieldOutcome::Collision(_)
        | FieldOutcome::OverLimit
        | FieldOutcome::NoAmount => None,
    }
}

fn profile(event: &Event, rules: &Rules, records: &[Record<'_>], outcome: Outcome) -> Profile {
    let effect = profile::effect(event);
    let changes = records.iter().find_map(|record| match &record.content {
        Content::Profile { changes } => Some(&changes[..]),
        Content::Event { .. } => None,
    });
    let names = |wanted: &String| rules.profile.names.get(wanted).unwrap_or(wanted).clone();
    let written: Vec<_> = changes
        .unwrap_or_default()
        .iter()
        .map(|(key, change)| Kept {
            property: key.to_string(),
            value: json(change),
            from: rules
                .profile
                .properties
                .iter()
                .find(|wanted| names(wanted) == *key)
                .map_or(String::new(), |wanted| words::source(wanted)),
        })
        .collect();
    let untouched = rules.profile.properties.iter().map(names);
    let untouched = untouched
        .filter(|key| written.iter().all(|property| property.property != *key))
        .collect();
    let changes_nothing = effect.active.is_none()
        && effect.written == Written::Nothing
        && effect.plans == Plans::Keep;
    let why = if changes.is_some() {
        None
    } else if outcome != Outcome::Sent {
        Some("nothing is sent of this event".to_owned())
    } else if is_events_only(event, rules) {
        Some("a tester's purchase changes no real profile (SANDBOX_EVENTS=relay)".to_owned())
    } else if rules.profile.properties.is_empty() {
        Some("USER_PROPERTIES is `none`".to_owned())
    } else if changes_nothing {
        Some(format!("row {} changes nothing", effect.row))
    } else {
        Some(format!(
            "the payload has nothing of what row {} writes and USER_PROPERTIES asks for",
            effect.row
        ))
    };
    Profile {
        row: effect.row,
        says: words::row(effect.row),
        changes: words::changes(effect),
        written,
        untouched,
        why,
    }
}

fn json(change: &Change<'_>) -> Json {
    serde_json::to_value(change).expect("a change always has a JSON form")
}

fn money(event: &Event, rules: &Rules, properties: &Properties<'_>, outcome: Outcome) -> Money {
    let no = |decision, why: &str| Money {
        decision,
        event: None,
        why: why.to_owned(),
    };
    if is_events_only(event, rules) {
        return no(
            "sandbox",
            "a tester's purchase is no real revenue (SANDBOX_EVENTS=relay)",
        );
    }
    match revenue::decide(event, &rules.revenue, properties) {
        Revenue::Off => no("off", "REVENUE_EVENT is not set, so no event is revenue"),
        Revenue::NotMoney => no("not_money", "only TRANSACTION_PROCESSED is money"),
        Revenue::NotPositive => no(
            "not_positive",
            "the amount is not positive, as of a refund: it is seen in the event itself and is never revenue",
        ),
        Revenue::NoAmount => no(
            "no_amount",
            match rules.revenue.currency {
                RevenueCurrency::Integration => {
                    "no amount_in_<currency> holds a number, so there is nothing to sum (REVENUE_CURRENCY=integration)"
                }
                RevenueCurrency::Customer => {
                    "amount_in_customer_currency and a customer_currency of three letters are not both there (REVENUE_CURRENCY=customer)"
                }
            },
        ),
        Revenue::UnfitId => no("unfit_id", &mapping::Unmappable::UnfitChargedId.to_string()),
        Revenue::Raised { .. } if outcome != Outcome::Sent => no(
            "not_sent",
            "it would be revenue, but nothing is sent of this event",
        ),
        Revenue::Raised { name, properties } => Money {
            decision: "raised",
            event: Some(name.to_owned()),
            why: words::raised(event, rules, &properties),
        },
    }
}

/// Whether nothing but the event itself is sent of this purchase.
fn is_events_only(event: &Event, rules: &Rules) -> bool {
    event.environment() == Environment::Sandbox && rules.sandbox == SandboxRule::EventsOnly
}

impl Outcome {
    /// Whether the function answers 200 to it, with or without an upload.
    #[must_use]
    pub fn is_settled(self) -> bool {
        match self {
            Self::Sent | Self::Ignored => true,
            Self::Unmappable | Self::Unreadable => false,
        }
    }
}
