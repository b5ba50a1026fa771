//! The rows of the generated tables, from the code and the template. It does not know on which page a table is.

pub mod costs;

use super::{Table, read};
use crate::template::{of_type, template};
use purchasely_clevertap::clevertap::{REGIONS, UploadFailure};
use purchasely_clevertap::config::SETTINGS;
use purchasely_clevertap::forward::NotForwarded;
use purchasely_clevertap::mapping::profile::{self, DEFAULT_PROPERTIES};
use purchasely_clevertap::mapping::{FieldOutcome, Ignored, NO_AMOUNT, Unmappable};
use purchasely_clevertap::outcome::{Failure, Outcome, Permanent};
use purchasely_clevertap::purchasely::catalogue::{
    self, Category, EVENTS, FIELDS, Kind, MONEY_PREFIXES,
};
use purchasely_clevertap::purchasely::signature::InvalidSignature;
use purchasely_clevertap::purchasely::{Event, Unreadable, Verified};
use purchasely_clevertap::telemetry::METRICS;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

type Rows = Vec<String>;

#[rustfmt::skip]
pub fn tables() -> BTreeMap<&'static str, Table> {
    let all: [(_, _, fn() -> Rows); _] = [
        ("settings", "variable | parameter | default | meaning", settings),
        ("parameters", "parameter | default | meaning", parameters),
        ("outputs", "output | meaning", outputs),
        ("alarms", "alarm | class | for users | first | more", alarms),
        ("regions", "region | code | host", regions),
        ("metrics", "metric | unit | meaning", metrics),
        ("answers", "word | HTTP status | metric | when", answers),
        ("reasons", "reason | answer | class | level | cause | action", reasons),
        ("adjustments", "outcome | meaning", adjustments),
        ("events", "category | events", events),
        ("fields", "type | fields", fields),
        ("profile-properties", "profile property | type | meaning | when it changes", profile_properties),
        ("profile-rules", "row | event | has_active_subscription | others | active_plans | condition", profile_rules),
        ("revenue", "property | value", revenue),
        ("fixed-costs", "per month | quantity | with | USD", costs::fixed),
        ("event-costs", "per event | quantity | with | USD for a million", costs::events),
        ("cost-examples", "events a month | with alarms, at most | without (`Monitoring=false`), at most | X-Ray, at most | `DELIVERY=queue`, at most", costs::examples),
        ("limits", "limit | default | beyond it", costs::limits),
        ("after-an-outage", "outage | first minute: times the usual requests | tenth minute | a retry refused then waits up to", costs::after_an_outage),
    ];
    all.map(|(name, header, rows)| (name, Table { header, rows: rows() })).into()
}

/// A value of each variant. A new variant does not compile until it is listed.
macro_rules! each {
    ($type:ident: $($variant:ident $(($value:expr))?),+) => {{
        let _ = |value: $type| match value { $($type::$variant { .. } => {}),+ };
        [$($type::$variant $(($value))?),+]
    }};
}
use each;

fn list<'t>(names: impl IntoIterator<Item = &'t str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A value as code, or words as they are.
fn value(text: &str) -> String {
    if text.contains(' ') {
        text.to_owned()
    } else {
        list([text])
    }
}

fn lower(variant: impl Debug) -> String {
    format!("{variant:?}").to_lowercase()
}

/// The variables of the function in the template, with the parameter that each is set to.
fn variables() -> BTreeMap<String, String> {
    let (_, function) = of_type("AWS::Serverless::Function").remove(0);
    let variables = function["Environment"]["Variables"].as_object().unwrap();
    let parameter = |value: &Value| value["Ref"].as_str().unwrap_or_default().to_owned();
    variables.iter().map(|(name, value)| (name.clone(), parameter(value))).collect()
}

fn settings() -> Rows {
    let mut variables = variables();
    let mut rows = Rows::new();
    for &(name, default) in SETTINGS {
        let parameter = variables.remove(name).unwrap_or_default();
        let same_words = name.replace('_', "") == parameter.to_uppercase();
        assert!(parameter.is_empty() || same_words, "{name} and {parameter}");
        let parameter = if parameter.is_empty() {
            "–".to_owned()
        } else {
            list([&*parameter])
        };
        rows.push(format!("`{name}` | {parameter} | {}", value(default)));
    }
    assert!(variables.is_empty(), "the function does not read {:?}", variables.keys());
    rows
}

fn parameters() -> Rows {
    let set: BTreeSet<_> = variables().into_values().collect();
    let template = template();
    let others = template["Parameters"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(name, _)| !set.contains(*name));
    let row = |(name, parameter): (&String, &Value)| {
        let default = parameter.get("Default").map_or("must be set".to_owned(), |default| {
            default.as_str().map_or(default.to_string(), str::to_owned)
        });
        let default = if default.is_empty() { "not set" } else { &*default };
        format!("`{name}` | {} | {}", value(default), parameter["Description"].as_str().unwrap())
    };
    others.map(row).collect()
}

fn outputs() -> Rows {
    let template = template();
    let outputs = template["Outputs"].as_object().unwrap().iter();
    outputs
        .map(|(name, output)| format!("`{name}` | {}", output["Description"].as_str().unwrap()))
        .collect()
}

/// Pages first. Who receives an alarm is what its class means.
fn alarms() -> Rows {
    let row = |(_, alarm): &(String, Value)| {
        let name = alarm["AlarmName"]["Fn::Sub"]
            .as_str()
            .unwrap()
            .replace("${AWS::StackName}-", "");
        let class = match alarm["AlarmActions"]["Fn::If"][0].as_str() {
            Some("HasAlarmTopic") => "page",
            Some("HasNoticeTopic") => "notice",
            other => panic!("{name}: {other:?} is no class"),
        };
        format!("`{name}` | {class}")
    };
    let mut rows: Rows = of_type("AWS::CloudWatch::Alarm").iter().map(row).collect();
    rows.sort_by_key(|row| !row.ends_with("| page"));
    rows
}

fn regions() -> Rows {
    REGIONS
        .iter()
        .map(|region| format!("{} | `{}` | `{}`", region.name, region.code, region.host))
        .collect()
}

fn metrics() -> Rows {
    METRICS.iter().map(|(name, unit)| format!("`{name}` | {unit}")).collect()
}

fn outcomes() -> Vec<Outcome> {
    let unreadable = each!(Unreadable: NotJson, NotAnObject, VersionTwo, NoEventName);
    let unmappable = each!(Unmappable: NoIdentity, IdentityTooLong, UnfitClevertapId, UnusableName, UnfitChargedId);
    let permanent = each!(Permanent: Unreadable(unreadable[0]), Unmappable(unmappable[0]), TooLarge, Refused(513), Unclear, RetriesExhausted, Panicked);
    let ignored = each!(Ignored: EventDisabled, Sandbox, Anonymous, AnonymousStore, NoUser);
    let unauthorized = each!(InvalidSignature: Missing, Deprecated, Repeated, Malformed, Mismatch, OutsideTolerance);
    let upload = each!(UploadFailure: CredentialsRejected(401), NoSandboxPasscode, TooLate, Busy(429), RefusedForNow(555),
        Unreachable, ConnectionLost, TimedOut, UnexpectedResponse(200), Unexplained);
    let failed = each!(Failure: NoDeadLetterQueue(permanent[2]), DeadLetterFailed(permanent[2]), QueueFailed, Upload(upload[0]),
        SecretUnavailable, ForwardFailed(NotForwarded::TimedOut), InProgress, Panicked);
    let all = each!(Outcome: Relayed, Queued, Duplicate, DeadLettered(permanent[2]), DryRun, Ignored(ignored[0]),
        ProfileRefused, Waiting, Unauthorized(unauthorized[0]), UnreadableRequest, MethodNotAllowed, PayloadTooLarge, Failed(failed[0]));
    let letters = unreadable.map(Permanent::Unreadable).into_iter();
    let letters = letters.chain(unmappable.map(Permanent::Unmappable));
    let letters = letters.chain(permanent[2..].iter().copied());
    // The reasons of these two are those of others.
    let others = failed
        .into_iter()
        .filter(|failure| !matches!(failure, Failure::NoDeadLetterQueue(_) | Failure::Upload(_)));
    let others = others.chain(upload.map(Failure::Upload));
    let expand = |outcome| match outcome {
        Outcome::DeadLettered(_) => letters.clone().map(Outcome::DeadLettered).collect(),
        Outcome::Ignored(_) => ignored.map(Outcome::Ignored).to_vec(),
        Outcome::Unauthorized(_) => unauthorized.map(Outcome::Unauthorized).to_vec(),
        Outcome::Failed(_) => others.clone().map(Outcome::Failed).collect(),
        outcome => vec![outcome],
    };
    all.into_iter().flat_map(expand).collect()
}

fn answers() -> Rows {
    let rows = outcomes().into_iter().map(|outcome| outcome.row());
    let mut rows: Rows = rows
        .map(|row| format!("`{}` | {} | `{}`", row.word, row.http_status, row.metric))
        .collect();
    rows.dedup();
    rows
}

fn reasons() -> Rows {
    let rows = outcomes().into_iter().map(|outcome| outcome.row());
    let rows = rows.filter_map(|row| {
        let class = row.class.map_or("–".to_owned(), |class| list([class.into()]));
        let level: &str = row.severity.into();
        Some(format!("`{}` | `{}` | {class} | `{level}`", row.reason?, row.word))
    });
    let mut rows: Rows = rows.collect();
    rows.dedup();
    rows
}

fn adjustments() -> Rows {
    let name = || "name".into();
    let outcomes = each!(FieldOutcome: Sent(name()), SentAsDate(name()), Sanitized(name()), MillisecondTwin, Sensitive,
        Omitted, Unknown, Empty, WrongType, Unreadable, Placeholder, UnknownEnvironment, UnusableName,
        Collision(name()), OverLimit);
    let adjustments = outcomes.iter().filter(|outcome| outcome.is_adjustment());
    let words = adjustments.map(FieldOutcome::into_str);
    words.chain([NO_AMOUNT]).map(|word| list([word])).collect()
}

fn events() -> Rows {
    let row = |category| {
        let names = EVENTS.iter().filter(|(_, of)| *of == category).map(|(name, _)| *name);
        format!("{} | {}", lower(category), list(names))
    };
    each!(Category: Entitlement, Lifecycle, Offer, Transactional).map(row).to_vec()
}

fn fields() -> Rows {
    let row = |kind| {
        let names = FIELDS.iter().filter(|(_, of)| *of == kind);
        let mut names: Vec<_> = names.map(|(name, _)| (*name).to_owned()).collect();
        match kind {
            Kind::Decimal => {
                names.extend(MONEY_PREFIXES.iter().map(|prefix| format!("{prefix}<currency>")));
            }
            Kind::Unspecified => names.push(format!("{}<name>", catalogue::COMMITMENT_PREFIX)),
            _ => {}
        }
        format!("{} | {}", lower(kind), list(names.iter().map(String::as_str)))
    };
    each!(Kind: Text, Integer, Decimal, Boolean, Time, Texts, Unspecified)
        .map(row)
        .to_vec()
}

fn profile_properties() -> Rows {
    let kind = |name| match name {
        profile::HAS_ACTIVE_SUBSCRIPTION => "boolean".to_owned(),
        profile::ACTIVE_PLANS => "multi-value text".to_owned(),
        profile::SUBSCRIPTION_STARTED_AT => "date".to_owned(),
        profile::LIFETIME_REVENUE => "decimal".to_owned(),
        field => lower(catalogue::kind(field).unwrap()).replace("time", "date"),
    };
    DEFAULT_PROPERTIES
        .iter()
        .map(|name| format!("`{name}` | {}", kind(name)))
        .collect()
}

/// A fact for each kind of status.
type ByStatus = BTreeMap<&'static str, String>;

/// What each row of the profile rules does, by the status where that makes a difference.
fn profile_rules() -> Rows {
    let [active, unknown] = [("active", "AUTO_RENEWING"), ("unknown", "")];
    let statuses = [active, ("inactive", "CANCELED"), ("inactive", "ON_HOLD"), unknown];
    let mut rows: BTreeMap<u8, (Vec<&str>, [ByStatus; 3])> = BTreeMap::new();
    for (name, _) in EVENTS {
        for (kind, status) in statuses {
            let body = format!(
                r#"{{"event_name":"{name}","user_id":"u","subscription_status":"{status}"}}"#
            );
            let effect =
                profile::effect(&Event::parse(Verified::unsigned(body.as_bytes())).unwrap());
            let active = effect.active.map_or("–".to_owned(), |active| format!("`{active}`"));
            let written = lower(effect.written).replace("nothing", "–");
            let plans = lower(effect.plans).replace("keep", "–");
            let (names, cells) = rows.entry(effect.row).or_default();
            if names.last() != Some(name) {
                names.push(name);
            }
            for (cell, fact) in cells.iter_mut().zip([active, written, plans]) {
                cell.insert(kind, fact);
            }
        }
    }
    let cell = |by_status: ByStatus| match by_status.values().collect::<BTreeSet<_>>().len() {
        1 => by_status.into_values().next().unwrap(),
        _ => by_status
            .iter()
            .map(|(status, fact)| format!("{status}: {fact}"))
            .collect::<Vec<_>>()
            .join("; "),
    };
    let rows = rows.into_iter();
    rows.map(|(row, (names, cells))| {
        format!("{row} | {} | {}", list(names), cells.map(cell).join(" | "))
    })
    .collect()
}

fn revenue() -> Rows {
    let upload: Value =
        serde_json::from_str(&read("tests/golden/TRANSACTION_PROCESSED.json")).unwrap();
    let records = upload["d"].as_array().unwrap();
    let charged = records.iter().find(|record| record["evtName"] == "Charged").unwrap();
    charged["evtData"]
        .as_object()
        .unwrap()
        .keys()
        .map(|name| list([&**name]))
        .collect()
}
