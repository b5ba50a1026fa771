//! Every event, property and profile property that the settings let through, as CleverTap's Schema page
//! defines them. It does not know the mapping: it maps events that have every documented field, and looks
//! at what comes out.

use super::text::table;
use purchasely_clevertap::clevertap::limits::PROPERTIES;
use purchasely_clevertap::clevertap::{Change, Content, Property, Value};
use purchasely_clevertap::mapping::profile::DEFAULT_PROPERTIES;
use purchasely_clevertap::mapping::revenue::RevenueCurrency;
use purchasely_clevertap::mapping::{Mapped, Origin, Rules, map};
use purchasely_clevertap::purchasely::catalogue::{
    self, COMMITMENT_PREFIX, EVENTS, FIELDS, Kind, MONEY_PREFIXES,
};
use purchasely_clevertap::purchasely::{Event, Verified};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json, json};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Event types of an account (<https://docs.clevertap.com/docs/events>, "Constraints").
const EVENT_TYPES: usize = 512;
/// Custom keys of user profiles (<https://developer.clevertap.com/docs/upload-user-profiles-api>).
const PROFILE_KEYS: usize = 256;
/// Ends a name of which only the beginning is fixed. As a currency it is ISO 4217's code for none.
const ANY: &str = "xxx";
/// Before the name of a property of an entry of `Items`.
const ITEM: &str = "Items / ";
/// As many undocumented fields as fit into one event beside the documented ones.
const LISTED_AT_ONCE: usize = 25;
/// Each event is mapped once with each: amounts that are payments or refunds, a subscription or a one-time
/// purchase, and a value for fields without a documented type.
const VARIANTS: [Variant; 3] = [
    (1.5, true, || json!("x")),
    (-1.5, true, || json!(1)),
    (1.5, false, || json!(true)),
];

#[derive(Default, Serialize)]
pub struct Schema {
    #[serde(serialize_with = "events")]
    events: Vec<(String, Properties)>,
    user_properties: Properties,
    counts: [Usage; 3],
    /// Whether undocumented fields, which nobody can list, are sent as well.
    sends_unknown_fields: bool,
}

type Variant = (f64, bool, fn() -> Json);

/// By name.
type Properties = BTreeMap<String, DataType>;

/// As the Schema page names them, except that the page names none for a date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
enum DataType {
    String,
    Integer,
    Float,
    Boolean,
    Date,
    List,
    /// The field has no documented type, so its values may be of several.
    Mixed,
}

#[derive(Default, Serialize)]
struct Usage {
    of: &'static str,
    count: usize,
    limit: usize,
}

impl Schema {
    pub fn of(rules: &Rules) -> Self {
        let mut schema = Self {
            sends_unknown_fields: !rules.properties.drop_unknown,
            ..Self::default()
        };
        let derived = |name: &&String| DEFAULT_PROPERTIES.contains(&name.as_str());
        let listed = rules.profile.properties.iter().filter(|name| !derived(name));
        let listed: Vec<_> = listed.cloned().collect();
        let mut listed: Vec<_> = listed.chunks(LISTED_AT_ONCE).collect();
        listed.push(&[]);
        for name in event_names(rules) {
            for variant in VARIANTS {
                for listed in &listed {
                    let body = payload(&name, rules, listed, variant).to_string();
                    let event = Event::parse(Verified::unsigned(body.as_bytes()));
                    schema.add(&event.expect("a payload with a name is an event"), rules);
                }
            }
        }
        let largest = schema.events.iter().map(|(_, properties)| {
            properties.keys().filter(|name| !name.starts_with(ITEM)).count()
        });
        schema.counts = [
            ("event types", schema.events.len(), EVENT_TYPES),
            ("properties of one event", largest.max().unwrap_or(0), PROPERTIES),
            ("user properties", schema.user_properties.len(), PROFILE_KEYS),
        ]
        .map(|(of, count, limit)| Usage { of, count, limit });
        schema
    }

    fn add(&mut self, event: &Event<'_>, rules: &Rules) {
        let mapped = map(event, rules, Origin::Purchasely, &mut |_, _| {}).mapped;
        let Mapped::Records { records, .. } = mapped else {
            return;
        };
        for record in records {
            match record.content {
                Content::Event { name, properties } => {
                    let properties_of = self.properties_of(&name);
                    for property in &properties {
                        add(properties_of, "", property);
                    }
                }
                Content::Profile { changes } => {
                    for (key, change) in changes {
                        let data_type = match &change {
                            Change::Set(value) => DataType::of(value),
                            Change::Add(_) | Change::Remove(_) => DataType::List,
                        };
                        merge(&mut self.user_properties, readable(&key), data_type);
                    }
                }
            }
        }
    }

    fn properties_of(&mut self, event: &str) -> &mut Properties {
        let index = self.events.iter().position(|(name, _)| name == event).unwrap_or_else(|| {
            self.events.push((event.to_owned(), Properties::new()));
            self.events.len() - 1
        });
        &mut self.events[index].1
    }

    /// What is more than CleverTap allows.
    pub fn excess(&self) -> Vec<String> {
        let excess = self.counts.iter().filter(|usage| usage.count > usage.limit);
        excess
            .map(|Usage { of, count, limit }| {
                format!("{count} {of}, but CleverTap allows {limit}: rename, disable or list fewer")
            })
            .collect()
    }

    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut events = self.events.as_slice();
        // The events that the catalogue describes alike follow each other.
        while let Some((_, properties)) = events.first() {
            let alike = events.iter().take_while(|(_, other)| other == properties).count();
            let (group, rest) = events.split_at(alike);
            events = rest;
            let names: String = group.iter().map(|(name, _)| format!("  {name}\n")).collect();
            let _ = write!(text, "Event name\n{names}\n{}\n", property_table(properties));
        }
        if !self.user_properties.is_empty() {
            let _ = write!(text, "User properties\n{}\n", property_table(&self.user_properties));
        }
        text += "Required is No for every property: events come without the fields that do not apply.\n\
            <currency> is the app's integration currency in lower case, if it is not USD; <name> is any name.\n";
        if self.sends_unknown_fields {
            text += "Fields that Purchasely does not document are sent too (UNKNOWN_FIELDS=send) and are not listed.\n";
        }
        let counts = self.counts.iter();
        let counts = counts.map(|Usage { of, count, limit }| format!("{count} of {limit} {of}"));
        text + &counts.collect::<Vec<_>>().join("; ") + "\n"
    }

    /// A line for each property of each event, then the user properties, which have no event.
    pub fn csv(&self) -> String {
        let mut csv = String::from("Event name,Property name,Required,Data type\n");
        let events = self.events.iter().map(|(name, properties)| (name.as_str(), "No", properties));
        for (event, required, properties) in events.chain([("", "", &self.user_properties)]) {
            for (name, data_type) in properties {
                let (event, name) = (quoted(event), quoted(name));
                let _ = writeln!(csv, "{event},{name},{required},{data_type:?}");
            }
        }
        csv
    }
}

impl DataType {
    fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Text(_) => Self::String,
            Value::Number(number) if number.is_f64() => Self::Float,
            Value::Integer(_) | Value::Number(_) => Self::Integer,
            Value::Decimal(_) => Self::Float,
            Value::Boolean(_) => Self::Boolean,
            Value::Date(_) => Self::Date,
            Value::Item(_) => Self::List,
        }
    }
}

/// Purchasely's names: the documented ones, and others that the settings mention.
fn event_names(rules: &Rules) -> Vec<String> {
    let mut names: Vec<String> = EVENTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let enabled = rules.events.enabled.iter().flatten();
    let mut others: Vec<_> = enabled.chain(rules.event_names.keys()).cloned().collect();
    others.retain(|name| !catalogue::is_known_event(name));
    others.sort();
    others.dedup();
    names.extend(others);
    names
}

/// A payload with every documented field, and these of `USER_PROPERTIES`.
fn payload(event: &str, rules: &Rules, listed: &[String], variant: Variant) -> Json {
    let (amount, is_subscription, untyped) = variant;
    let value = |kind: Kind| match kind {
        Kind::Text => json!("x"),
        Kind::Integer => json!(1),
        Kind::Decimal => json!(amount),
        Kind::Boolean => json!(true),
        Kind::Time => json!("2027-03-02T08:15:00Z"),
        Kind::Texts => json!({ ANY: "x" }),
        Kind::Unspecified => untyped(),
    };
    let currencies = ["usd", ANY, "customer_currency"].into_iter();
    let currencies = currencies.chain(match &rules.revenue.currency {
        RevenueCurrency::Code(code) => Some(code.as_str()),
        RevenueCurrency::Integration | RevenueCurrency::Customer => None,
    });
    let money = currencies.flat_map(|currency| {
        MONEY_PREFIXES.iter().map(move |prefix| format!("{prefix}{currency}"))
    });
    let commitment = format!("{COMMITMENT_PREFIX}{ANY}");
    let fields = FIELDS.iter().map(|(name, _)| (*name).to_owned());
    let names = fields.chain(money).chain([commitment]);
    let mut payload: Map<String, Json> = names
        .chain(listed.iter().cloned())
        .map(|name| {
            let value = catalogue::kind(&name).map_or_else(untyped, value);
            (name, value)
        })
        .collect();
    let mut set = |name: &str, value: &str| payload.insert(name.to_owned(), json!(value));
    set("event_name", event);
    set("environment", "PRODUCTION");
    set("customer_currency", &ANY.to_uppercase());
    set("subscription_status", "AUTO_RENEWING");
    set("offer_type", "PROMOTIONAL_OFFER");
    if is_subscription {
        payload.remove("purchasely_one_time_purchase_id");
    }
    Json::Object(payload)
}

fn add(properties: &mut Properties, prefix: &str, (key, value): &Property<'_>) {
    merge(properties, format!("{prefix}{}", readable(key)), DataType::of(value));
    if let Value::Item(item) = value {
        for property in item {
            add(properties, ITEM, property);
        }
    }
}

fn merge(properties: &mut Properties, name: String, data_type: DataType) {
    let merged = properties.entry(name).or_insert(data_type);
    if *merged != data_type {
        *merged = DataType::Mixed;
    }
}

fn readable(key: &str) -> String {
    match key.strip_suffix(ANY) {
        Some(family) if catalogue::currency(key).is_some() => format!("{family}<currency>"),
        Some(family) if family.ends_with('_') => format!("{family}<name>"),
        _ => key.to_owned(),
    }
}

fn property_table(properties: &Properties) -> String {
    let mut rows = vec![["Property name", "Data type"].map(str::to_owned)];
    let properties = properties.iter();
    rows.extend(properties.map(|(name, data_type)| [name.clone(), format!("{data_type:?}")]));
    table(&rows)
}

/// A field of a CSV file. Names never contain quotes or line breaks: CleverTap forbids them.
fn quoted(name: &str) -> String {
    if name.contains(',') {
        format!("\"{name}\"")
    } else {
        name.to_owned()
    }
}

fn events<S: Serializer>(
    events: &[(String, Properties)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(events.iter().map(|(name, properties)| (name, properties)))
}
