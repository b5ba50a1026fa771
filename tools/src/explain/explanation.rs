//! What the function would do with one raw webhook body: the mapping's decisions, with their reasons.
//! It does not decide anything itself, and does not know how an explanation is printed.

use super::fields::{self, Field};
use purchasely_clevertap::clevertap::upload_body;
use purchasely_clevertap::clevertap::{Content, Record, Role, Upload, User, Value};
use purchasely_clevertap::config::Config;
use purchasely_clevertap::json;
use purchasely_clevertap::mapping::identity::{
    IdField, Identified, IdentityRules, UserIdAs, first_id, identify,
};
use purchasely_clevertap::mapping::profile::{
    self, ACTIVE_PLANS, Effect, HAS_ACTIVE_SUBSCRIPTION, Plans, Written,
};
use purchasely_clevertap::mapping::revenue::{self, Revenue};
use purchasely_clevertap::mapping::{self, Account, Ignored, Mapped, Rules};
use purchasely_clevertap::mapping::{Origin, Unmappable, properties};
use purchasely_clevertap::purchasely::{Event, Verified, digits};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

#[derive(Default, Serialize)]
pub struct Explanation {
    pub file: String,
    /// `sent`, `ignored`, `unmappable` (it can never be sent) or `unreadable` (it is not an event).
    pub outcome: &'static str,
    pub why: String,
    /// Purchasely's name of the event; this and all that follows is empty if there is no event.
    pub name: Option<String>,
    /// The CleverTap account of the upload.
    pub account: Option<&'static str>,
    /// The host of the team's own backend.
    pub forward: Option<Choice>,
    /// The event's name in CleverTap.
    pub event: Option<Choice>,
    pub identity: Option<Choice>,
    /// What happens to the user's profile.
    pub profile: Option<Choice>,
    /// The name of the revenue event.
    pub revenue: Option<Choice>,
    pub fields: Vec<Field>,
    /// Byte for byte as it is sent.
    pub upload: Option<Box<RawValue>>,
    /// The same, formatted for people.
    #[serde(skip)]
    pub pretty_upload: Option<String>,
}

/// A part of the upload, or none, and the reason.
#[derive(Serialize)]
pub struct Choice {
    pub sent: Option<String>,
    pub why: String,
}

type Properties<'e> = [(Cow<'e, str>, Value<'e>)];

impl Explanation {
    /// Whether the function answers 200 without writing a dead letter.
    pub fn is_settled(&self) -> bool {
        matches!(self.outcome, "sent" | "ignored")
    }
}

/// Where a webhook goes first, which does not depend on the webhook.
pub fn forward(config: &Config) -> Option<Choice> {
    let why = "every webhook goes there first, and only a 2xx lets the rest happen (FORWARD_URL)";
    config
        .forward_host()
        .map(|host| Choice { sent: Some(host), why: why.to_owned() })
}

pub fn explain(file: String, body: &[u8], rules: &Rules) -> Explanation {
    let event = match Event::parse(Verified::unsigned(body)) {
        Ok(event) => event,
        Err(unreadable) => {
            return Explanation {
                file,
                outcome: "unreadable",
                why: unreadable.to_string(),
                ..Explanation::default()
            };
        }
    };
    let mut outcomes = Vec::new();
    let properties = properties::of_event(&event, &rules.properties, &mut |field, outcome| {
        outcomes.push((field.to_owned(), outcome));
    });
    let mapped = mapping::map(&event, rules, Origin::Purchasely, &mut |_, _| {}).mapped;
    let (outcome, why, account, records) = match mapped {
        Mapped::Records { account, records } => {
            let account = match account {
                Account::Main => "main",
                Account::Sandbox => "sandbox",
            };
            let why = format!("in one upload to the {account} account");
            ("sent", why, Some(account), records)
        }
        Mapped::Ignored(why) => ("ignored", ignored(why, &event, rules), None, Vec::new()),
        Mapped::Unmappable(why) => ("unmappable", why.to_string(), None, Vec::new()),
    };
    let (upload, pretty_upload) = account.map(|_| upload(&records)).unzip();
    Explanation {
        file,
        outcome,
        why,
        name: Some(event.name().to_owned()),
        account,
        forward: None,
        event: Some(event_name(&event, rules, &records)),
        identity: Some(identity(&event, &rules.identity)),
        profile: Some(profile(&event, rules, &records)),
        revenue: Some(revenue(&event, rules, &properties, &records)),
        fields: fields::explain(&outcomes),
        upload,
        pretty_upload,
    }
}

fn upload(records: &[Record<'_>]) -> (Box<RawValue>, String) {
    let records: Vec<_> = records.iter().collect();
    let body = String::from_utf8(upload_body(&records)).expect("JSON is UTF-8");
    let pretty = serde_json::to_string_pretty(&Upload(&records)).expect("a record is valid JSON");
    let body = RawValue::from_string(body).expect("an upload is valid JSON");
    (body, pretty)
}

fn ignored(ignored: Ignored, event: &Event<'_>, rules: &Rules) -> String {
    match ignored {
        Ignored::EventDisabled => {
            let off = switched_off(event, rules);
            format!("{off}, and there is no profile or revenue record to send")
        }
        Ignored::Sandbox => "it is a sandbox purchase, and SANDBOX_EVENTS=drop".to_owned(),
        Ignored::Anonymous => {
            "the buyer is not signed in, and ANONYMOUS_USER_ID_AS=ignore".to_owned()
        }
        Ignored::AnonymousStore => {
            "the buyer is not signed in, and the store does not tell the platform, which ANONYMOUS_USER_ID_AS=clevertap_id needs"
                .to_owned()
        }
        Ignored::NoUser => {
            let off = switched_off(event, rules);
            format!("{off}, and there is no user for its other records")
        }
    }
}

fn switched_off(event: &Event<'_>, rules: &Rules) -> &'static str {
    if rules.events.disabled.contains(event.name()) {
        "the event is in EVENTS_DISABLED"
    } else {
        "the event is not in EVENTS_ENABLED"
    }
}

fn record<'r, 'e>(records: &'r [Record<'e>], role: Role) -> Option<&'r Content<'e>> {
    let mut records = records.iter();
    records.find(|record| record.role == role).map(|record| &record.content)
}

fn event_name(event: &Event<'_>, rules: &Rules, records: &[Record<'_>]) -> Choice {
    let sent = match record(records, Role::Event) {
        Some(Content::Event { name, .. }) => Some(name.to_string()),
        _ => None,
    };
    let why = match &sent {
        _ if !rules.events.raises(event.name()) => switched_off(event, rules),
        None => "nothing is sent for this event",
        Some(_) if rules.event_names.contains_key(event.name()) => "renamed by EVENT_NAMES",
        Some(name) if name == event.name() => "Purchasely's own name",
        Some(_) => "CleverTap does not allow Purchasely's name",
    };
    let why = why.to_owned();
    Choice { sent, why }
}

fn identity(event: &Event<'_>, rules: &IdentityRules) -> Choice {
    let Some((field, id)) = first_id(event, rules) else {
        return Choice {
            sent: None,
            why: Unmappable::NoIdentity.to_string(),
        };
    };
    let (field, why) = match field {
        IdField::ClevertapId => (
            clevertap_id_path(event, &rules.clevertap_id_field, id),
            "the CleverTap ID comes before every other id (CLEVERTAP_ID_FIELD)",
        ),
        IdField::UserId => (
            "user_id".to_owned(),
            match rules.user_id_as {
                UserIdAs::Identity => "there is no CleverTap ID, and USER_ID_AS=identity",
                UserIdAs::ObjectId => "there is no CleverTap ID, and USER_ID_AS=object_id",
            },
        ),
        IdField::AnonymousUserId => (
            "anonymous_user_id".to_owned(),
            "there is neither a CleverTap ID nor a user_id; see ANONYMOUS_USER_ID_AS",
        ),
    };
    let why = format!("{field} `{id}`: {why}");
    let (sent, why) = match identify(event, rules) {
        Identified::User(User::Identity(id)) => (Some(format!("identity {id}")), why),
        Identified::User(User::ObjectId(id)) | Identified::Device(id) => {
            (Some(format!("objectId {id}")), why)
        }
        Identified::TooLong => (None, format!("{why}; {}", Unmappable::IdentityTooLong)),
        Identified::UnfitClevertapId => (None, format!("{why}; {}", Unmappable::UnfitClevertapId)),
        Identified::Anonymous | Identified::UnknownDevice | Identified::Nobody => (None, why),
    };
    Choice { sent, why }
}

/// The field that is this CleverTap ID, after the object that contains it.
fn clevertap_id_path(event: &Event<'_>, field: &str, id: &str) -> String {
    let is_it = |value: &json::Value<'_>| match value {
        json::Value::Number(number) => digits(number) == id,
        other => other.as_text() == Some(id),
    };
    let mut objects = event.fields().iter();
    let object = objects.find(|(_, value)| value.get(field).is_some_and(is_it));
    match (event.fields().get(field).is_some_and(is_it), object) {
        (false, Some((object, _))) => format!("{object}.{field}"),
        _ => field.to_owned(),
    }
}

fn profile(event: &Event<'_>, rules: &Rules, records: &[Record<'_>]) -> Choice {
    let effect = profile::effect(event);
    let row = format!("row {} ({})", effect.row, row(effect.row));
    let Some(Content::Profile { changes }) = record(records, Role::Profile) else {
        let device = identify(event, &rules.identity);
        let why = if records.is_empty() {
            "nothing is sent for this event".to_owned()
        } else if matches!(device, Identified::Device(_)) && profile::may_follow_a_sign_in(event) {
            format!("{row}; the buyer may have signed in, so the device's profile is left as it is")
        } else if describe(effect).is_empty() {
            row
        } else {
            format!("{row}; the payload has no property of USER_PROPERTIES to write")
        };
        return Choice { sent: None, why };
    };
    let wanted = rules.profile.properties.iter();
    let wanted = wanted.map(|name| rules.profile.names.get(name).unwrap_or(name).as_str());
    let unchanged: Vec<_> =
        wanted.filter(|name| changes.iter().all(|(key, _)| key != name)).collect();
    let why = match unchanged.join(", ") {
        none if none.is_empty() => row,
        names => format!("{row}; left unchanged: {names}"),
    };
    let sent = Some(describe(effect));
    Choice { sent, why }
}

/// What a row of the profile table in `docs/mapping.md` applies to.
fn row(row: u8) -> &'static str {
    match row {
        1 => "a one-time purchase: it changes no subscription",
        2 => "an event that says nothing about access, or an unknown one",
        3 => "ACTIVATE: access, whatever the status",
        4 => "a transfer: the payload's user is the former owner and has lost access",
        5 => "DEACTIVATE with a status that ends access (ON_HOLD, PAUSED, UNPAID, REVOKED)",
        6 => "another DEACTIVATE: the lifecycle event of the same change writes the rest",
        7 => "an end, a pause, a refund or a failed payment: no access",
        8 => "a start, a renewal, a recovery or an offer: access unless the status denies it",
        9 => "a plan change: it counts only while the status is active",
        10 => "an event that leaves access as the status says",
        _ => "without a description",
    }
}

fn describe(effect: Effect) -> String {
    let access = effect.active;
    let access = access.map(|active| format!("sets {HAS_ACTIVE_SUBSCRIPTION} to {active}"));
    let written = match effect.written {
        Written::Nothing => None,
        Written::Status => Some("writes the status".to_owned()),
        Written::All => Some("writes the properties in USER_PROPERTIES".to_owned()),
    };
    let plans = match effect.plans {
        Plans::Keep => None,
        Plans::Add => Some(format!("adds the plan to {ACTIVE_PLANS}")),
        Plans::Remove => Some(format!("removes the plan from {ACTIVE_PLANS}")),
    };
    let changes: Vec<_> = [access, written, plans].into_iter().flatten().collect();
    changes.join(", ")
}

fn revenue(event: &Event<'_>, rules: &Rules, sent: &Properties<'_>, all: &[Record<'_>]) -> Choice {
    if let Some(Content::Event { name, properties }) = record(all, Role::Revenue) {
        let mut parts = Vec::new();
        for part in ["Amount", "Currency", "Charged ID"] {
            let value = properties.iter().find(|(key, _)| key == part);
            let value = serde_json::to_string(&value.map(|(_, value)| value));
            parts.push(format!("{part} {}", value.unwrap_or_default()));
        }
        return Choice {
            sent: Some(name.to_string()),
            why: parts.join(", "),
        };
    }
    let why = match revenue::decide(event, &rules.revenue, sent) {
        Revenue::Off => "REVENUE_EVENT is not set",
        Revenue::NotMoney => "only TRANSACTION_PROCESSED is revenue",
        Revenue::NotPositive => {
            "the amount is not positive, and REFUND_EVENT is not set for a refund"
        }
        Revenue::NoAmount => "there is no amount in the currency that REVENUE_CURRENCY chooses",
        Revenue::UnfitId => "CleverTap does not accept the transaction's id as Charged ID",
        Revenue::Raised { .. } if all.is_empty() => "nothing is sent for this event",
        Revenue::Raised { .. } => "a sandbox purchase is not revenue (SANDBOX_EVENTS=relay)",
    };
    Choice { sent: None, why: why.to_owned() }
}
