//! Reads the settings that decide how events are mapped.
//!
//! It does not know how they are applied; it checks that they fit together, Purchasely's catalogue and
//! CleverTap's limits.

use super::reader::Reader;
use crate::clevertap::limits::{check_event_name, check_profile_key, fold};
use crate::mapping::identity::{AnonymousUserIdAs, IdentityRules, UserIdAs};
use crate::mapping::profile::{self, ProfileRules};
use crate::mapping::properties::{PropertyRules, omission};
use crate::mapping::revenue::{CHARGED, RevenueCurrency, RevenueRules, is_currency_code};
use crate::mapping::{EventSwitches, Rules, SandboxRule};
use crate::purchasely::catalogue;
use http::HeaderValue;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// The prefix of the ids of CleverTap's test accounts.
const TEST_ACCOUNT_PREFIX: &[u8] = b"TEST-";

pub fn read(
    reader: &mut Reader<'_>,
    account_id: Option<&HeaderValue>,
    sandbox_account_id: Option<&HeaderValue>,
) -> Rules {
    let event_names = event_names(reader);
    let revenue = revenue(reader, &event_names);
    Rules {
        sandbox: sandbox(reader, account_id, sandbox_account_id),
        is_test_account: is_test_account(account_id),
        events: switches(reader),
        event_names,
        identity: IdentityRules {
            user_id_as: reader.choice(
                "USER_ID_AS",
                &[("identity", UserIdAs::Identity), ("object_id", UserIdAs::ObjectId)],
            ),
            anonymous_user_id_as: reader.choice(
                "ANONYMOUS_USER_ID_AS",
                &[
                    ("ignore", AnonymousUserIdAs::Ignored),
                    ("identity", AnonymousUserIdAs::Identity),
                    ("clevertap_id", AnonymousUserIdAs::ClevertapId),
                ],
            ),
            clevertap_id_field: reader.value_or_default("CLEVERTAP_ID_FIELD"),
        },
        properties: PropertyRules {
            omitted: omitted(reader),
            drop_unknown: reader.choice("UNKNOWN_FIELDS", &[("send", false), ("drop", true)]),
        },
        profile: profile(reader),
        revenue,
    }
}

fn sandbox(
    reader: &mut Reader<'_>,
    account_id: Option<&HeaderValue>,
    sandbox_account_id: Option<&HeaderValue>,
) -> SandboxRule {
    const VARIABLE: &str = "SANDBOX_EVENTS";
    let is_relay = reader.choice(VARIABLE, &[("drop", false), ("relay", true)]);
    let is_drop = reader.value(VARIABLE).is_some() && !is_relay;
    if sandbox_account_id.is_some() {
        if is_drop {
            reader.error(
                VARIABLE,
                "is `drop`, but CLEVERTAP_SANDBOX_ACCOUNT_ID is set; remove one of the two",
            );
        }
        if sandbox_account_id == account_id {
            reader.error(
                "CLEVERTAP_SANDBOX_ACCOUNT_ID",
                "is the main account; remove it, or set it to another account of the same region",
            );
        }
        return SandboxRule::OwnAccount;
    }
    if is_drop {
        SandboxRule::Drop
    } else if is_test_account(account_id) {
        SandboxRule::Whole
    } else if is_relay {
        SandboxRule::EventsOnly
    } else {
        SandboxRule::Drop
    }
}

fn is_test_account(account_id: Option<&HeaderValue>) -> bool {
    account_id.is_some_and(|id| id.as_bytes().starts_with(TEST_ACCOUNT_PREFIX))
}

fn omitted(reader: &mut Reader<'_>) -> HashSet<String> {
    const VARIABLE: &str = "PROPERTIES_OMITTED";
    let mut omitted = HashSet::new();
    for name in reader.words(VARIABLE) {
        let property = omission(&name);
        // The default in documents.
        if property == "none" {
            continue;
        }
        let field = property.strip_suffix("_ms").unwrap_or(&property);
        if catalogue::kind(field).is_none() {
            reader.warnings.push(format!(
                "{VARIABLE} lists {name}, which Purchasely does not document: check the spelling"
            ));
        }
        omitted.insert(property);
    }
    omitted
}

fn switches(reader: &mut Reader<'_>) -> EventSwitches {
    let enabled = events(reader, "EVENTS_ENABLED");
    let disabled = events(reader, "EVENTS_DISABLED");
    let enabled = if disabled.contains("ALL") {
        Some(HashSet::new())
    } else if enabled.is_empty() || enabled.contains("ALL") {
        None
    } else {
        Some(enabled.into_iter().collect())
    };
    EventSwitches {
        enabled,
        disabled: disabled.into_iter().filter(|name| name != "NONE").collect(),
    }
}

/// A list of Purchasely's event names, which are in upper case.
fn events(reader: &mut Reader<'_>, variable: &'static str) -> BTreeSet<String> {
    let names = reader.words(variable).into_iter();
    let names: BTreeSet<_> = names.map(|name| name.to_uppercase()).collect();
    if names.len() > 1 && names.contains("NONE") {
        reader.error(variable, "lists `none` beside names; remove one of the two");
    }
    for name in &names {
        if !matches!(name.as_str(), "ALL" | "NONE") && !catalogue::is_known_event(name) {
            reader.warnings.push(format!(
                "{variable} lists {name}, which Purchasely does not document: check the spelling"
            ));
        }
    }
    names
}

fn event_names(reader: &mut Reader<'_>) -> HashMap<String, String> {
    let names = reader.renames("EVENT_NAMES", str::to_uppercase, check_event_name);
    for source in names.keys().filter(|name| !catalogue::is_known_event(name)) {
        reader.warnings.push(format!(
            "EVENT_NAMES renames {source}, which Purchasely does not document: check the spelling"
        ));
    }
    warn_of_equal_names(reader, &names);
    names.into_iter().collect()
}

fn warn_of_equal_names(reader: &mut Reader<'_>, renamed: &BTreeMap<String, String>) {
    let unchanged = catalogue::EVENTS
        .iter()
        .map(|(name, _)| (*name, *name))
        .filter(|(name, _)| !renamed.contains_key(*name));
    let renamed = renamed.iter().map(|(source, target)| (source.as_str(), target.as_str()));
    let mut seen: HashMap<String, &str> = HashMap::new();
    for (source, target) in unchanged.chain(renamed) {
        if let Some(other) = seen.insert(fold(target), source) {
            reader.warnings.push(format!(
                "EVENT_NAMES gives {source} and {other} the same name, `{target}`: CleverTap cannot distinguish them"
            ));
        }
    }
}

fn profile(reader: &mut Reader<'_>) -> ProfileRules {
    const VARIABLE: &str = "USER_PROPERTIES";
    const NAMES: &str = "USER_PROPERTY_NAMES";
    let names = reader.renames(NAMES, str::to_owned, check_profile_key);
    let mut properties = Vec::new();
    match reader.value(VARIABLE) {
        None => properties = ProfileRules::default().properties,
        Some(value) if value.eq_ignore_ascii_case("none") => {}
        Some(_) => {
            for name in reader.words(VARIABLE) {
                if !properties.contains(&name) {
                    properties.push(name);
                }
            }
        }
    }
    let mut seen: HashMap<String, &str> = HashMap::new();
    for property in &properties {
        if !profile::is_known_property(property) {
            reader.warnings.push(format!(
                "{VARIABLE} lists {property}, which Purchasely does not document: check the spelling"
            ));
        }
        let target = names.get(property).unwrap_or(property);
        if let Err(problem) = check_profile_key(target) {
            let problem = format!("`{target}` {problem}; give it another name in {NAMES}");
            reader.error(VARIABLE, problem);
        }
        if let Some(other) = seen.insert(fold(target), property) {
            let problem =
                format!("gives {other} and {property} the same name, `{target}`; use another name");
            reader.error(NAMES, problem);
        }
    }
    for property in names.keys().filter(|name| !properties.contains(name)) {
        reader.warnings.push(format!(
            "{NAMES} renames {property}, which {VARIABLE} does not list: check the spelling"
        ));
    }
    ProfileRules { properties, names: names.into_iter().collect() }
}

fn revenue(reader: &mut Reader<'_>, event_names: &HashMap<String, String>) -> RevenueRules {
    const REFUND: &str = "REFUND_EVENT";
    let event = money_event(reader, "REVENUE_EVENT", event_names);
    let refund_event = money_event(reader, REFUND, event_names);
    let money = [("REVENUE_EVENT", &event), (REFUND, &refund_event)];
    for (source, target) in event_names.iter().collect::<BTreeMap<_, _>>() {
        let mut money =
            money.iter().filter_map(|(variable, name)| Some((variable, name.as_ref()?)));
        let taken = money.find(|(_, name)| fold(name) == fold(target));
        let problem = if fold(target) == fold(CHARGED) {
            "is CleverTap's event for revenue; set REVENUE_EVENT to record it".to_owned()
        } else if let Some((variable, _)) = taken {
            format!("is also the name in {variable}; use another name")
        } else {
            continue;
        };
        reader.error("EVENT_NAMES", format!("the name for {source}, `{target}`, {problem}"));
    }
    if let Some(refund) = &refund_event {
        let revenue = [Some(CHARGED), event.as_deref()];
        if revenue.into_iter().flatten().any(|name| fold(name) == fold(refund)) {
            let problem =
                format!("`{refund}` counts as revenue, which a refund must not; use another name");
            reader.error(REFUND, problem);
        }
    }
    RevenueRules {
        event,
        refund_event,
        currency: revenue_currency(reader),
    }
}

/// The name of an event about money, which no documented event that keeps its own name may have.
fn money_event(
    reader: &mut Reader<'_>,
    variable: &'static str,
    event_names: &HashMap<String, String>,
) -> Option<String> {
    let name = reader.value(variable).filter(|name| !name.eq_ignore_ascii_case("none"))?;
    // CleverTap's revenue reports know this spelling only.
    let name = if fold(&name) == "charged" {
        CHARGED.to_owned()
    } else {
        name
    };
    if let Err(problem) = check_event_name(&name) {
        reader.error(variable, format!("`{name}` {problem}; use another name"));
    }
    let mut documented = catalogue::EVENTS.iter().map(|(other, _)| *other);
    let other =
        documented.find(|other| !event_names.contains_key(*other) && fold(other) == fold(&name));
    if let Some(other) = other {
        let problem = format!(
            "`{name}` is also the name of the event {other}, which would count too; use another name"
        );
        reader.error(variable, problem);
    }
    Some(name)
}

fn revenue_currency(reader: &mut Reader<'_>) -> RevenueCurrency {
    const VARIABLE: &str = "REVENUE_CURRENCY";
    let value = reader.value_or_default(VARIABLE).to_lowercase();
    match value.as_str() {
        "integration" => RevenueCurrency::Integration,
        "customer" => RevenueCurrency::Customer,
        code if is_currency_code(code) => RevenueCurrency::Code(value),
        _ => {
            let problem = format!(
                "is `{value}`; set it to the three letters of a currency, such as EUR, or to integration or customer"
            );
            reader.error(VARIABLE, problem);
            RevenueCurrency::Integration
        }
    }
}
