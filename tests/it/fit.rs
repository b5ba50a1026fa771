//! Whatever Purchasely sends, the records are ones that CleverTap takes.
//!
//! `make property CASES=100000` tries as many payloads; `make test` fewer.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use purchasely_clevertap::clevertap::{Record, upload_body};
use purchasely_clevertap::mapping::identity::IdentityRules;
use purchasely_clevertap::mapping::profile::DEFAULT_PROPERTIES;
use purchasely_clevertap::mapping::revenue::{RevenueCurrency, RevenueRules};
use purchasely_clevertap::mapping::{Mapped, Origin, Rules, SandboxRule, map};
use purchasely_clevertap::purchasely::catalogue::{EVENTS, FIELDS, Kind, kind};
use purchasely_clevertap::purchasely::{Event, Verified};
use serde_json::{Map, Value, json};
use testkit::clevertap::refusal_of;

/// Texts of every trouble: long, odd, forbidden, dated, empty.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-zA-Z0-9 _.-]{0,20}",
        2 => ".{0,40}",
        1 => "[%><!|&.:;$'\"\\\\#]{0,6}",
        1 => "\\$D_[0-9a-z]{0,12}",
        1 => (500_usize..520).prop_map(|n| "x".repeat(n)),
        1 => (160_usize..180).prop_map(|n| "€".repeat(n)),
        1 => "[\u{0}-\u{1f}]{0,5}",
        1 => select(vec!["App Launched", "wzrk_d", "2026-03-02T08:15:30.250Z", "SANDBOX", "59.99"])
            .prop_map(str::to_owned),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        4 => text().prop_map(Value::from),
        2 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        2 => any::<f64>().prop_map(Value::from),
        1 => (-1000.0..1000.0).prop_map(Value::from),
        1 => (1_600_000_000_000_i64..2_000_000_000_000).prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(key(), inner, 0..5)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

/// Documented names, their neighbours, and anything.
fn key() -> impl Strategy<Value = String> {
    let documented = || select(FIELDS).prop_map(|(name, _)| name.to_owned());
    prop_oneof![
        6 => documented(),
        2 => documented().prop_map(|name| format!("{name}_ms")),
        1 => documented().prop_map(|name| format!("{name}!")),
        1 => select(vec!["amount_in_usd", "amount_in_customer_currency", "plan_price_in_eur",
            "cumulated_revenues_in_usd", "commitment_months", "attribution_utm_source",
            "clevertap_id", "next", "utm_source"])
            .prop_map(str::to_owned),
        2 => text(),
        1 => (100_usize..140).prop_map(|n| "k".repeat(n)),
    ]
}

/// Any JSON object with a name and an id.
fn payload() -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![
        4 => select(EVENTS).prop_map(|(name, _)| name.to_owned()),
        1 => text(),
    ];
    let fields = prop_oneof![
        9 => btree_map(key(), value(), 0..25),
        1 => btree_map("[a-z]{1,6}", scalar(), 90..160),
    ];
    (name, text(), fields).prop_map(|(name, id, fields)| {
        let mut payload: Map<_, _> = fields.into_iter().collect();
        payload.entry("user_id").or_insert_with(|| json!("u-1842"));
        payload.insert("event_name".into(), name.into());
        payload.insert("event_id".into(), id.into());
        payload
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let sandbox = select(vec![
        SandboxRule::EventsOnly,
        SandboxRule::Whole,
        SandboxRule::OwnAccount,
    ]);
    let currency = select(vec![
        RevenueCurrency::Integration,
        RevenueCurrency::Customer,
    ]);
    let event = select(vec![None, Some("Charged"), Some("Money Received")]);
    (any::<bool>(), any::<bool>(), sandbox, event, currency).prop_map(
        |(drop_unknown, anonymous_is_identity, sandbox, event, currency)| {
            let mut rules = Rules {
                sandbox,
                identity: IdentityRules {
                    anonymous_is_identity,
                    ..IdentityRules::default()
                },
                revenue: RevenueRules {
                    event: event.map(str::to_owned),
                    currency,
                },
                ..Rules::default()
            };
            rules.properties.drop_unknown = drop_unknown;
            rules
        },
    )
}

fn records(body: &[u8], rules: &Rules) -> Option<(Vec<u8>, Vec<Value>)> {
    let event = Event::parse(Verified::unsigned(body)).expect("an object with a name");
    let Mapped::Records { records, .. } = map(&event, rules, Origin::Purchasely, &mut |_, _| {})
    else {
        return None;
    };
    let upload = upload_body(&records.iter().collect::<Vec<&Record<'_>>>());
    let parsed: Value = serde_json::from_slice(&upload).expect("JSON");
    let records = parsed["d"].as_array().expect("records").clone();
    Some((upload, records))
}

/// Whether a property of a documented name has the one type that it is documented to have.
fn has_its_type(key: &str, value: &Value) -> bool {
    let is_date = |value: &Value| value.as_str().is_some_and(|text| text.starts_with("$D_"));
    match kind(key) {
        Some(Kind::Text) => value.is_string() && !is_date(value),
        Some(Kind::Integer) => value.is_i64(),
        Some(Kind::Decimal) => value.is_f64(),
        Some(Kind::Boolean) => value.is_boolean(),
        Some(Kind::Time) => is_date(value),
        Some(Kind::Texts) => false,
        Some(Kind::Unspecified) | None => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(300),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_payload_maps_to_records_that_clevertap_takes(payload in payload(), rules in rules()) {
        let body = serde_json::to_vec(&payload).unwrap();
        let Some((upload, records)) = records(&body, &rules) else {
            return Ok(());
        };
        prop_assert!(!records.is_empty());
        for record in &records {
            prop_assert_eq!(refusal_of(record), None, "{}", record);
            let data = record.get("evtData").or(record.get("profileData")).unwrap();
            prop_assert!(!data.to_string().contains("purchase_token"));
            let Some(properties) = record["evtData"].as_object() else {
                continue;
            };
            for (key, value) in properties {
                prop_assert!(has_its_type(key, value), "{}: {}", key, value);
            }
        }
        // The same bytes in give the same bytes out, whatever the order of the fields.
        let again = self::records(&body, &rules).unwrap().0;
        prop_assert_eq!(&upload, &again);
        let reversed: Vec<_> = payload.iter().rev()
            .map(|(key, value)| format!("{}:{value}", json!(key)))
            .collect();
        let reversed = format!("{{{}}}", reversed.join(","));
        let reordered = self::records(reversed.as_bytes(), &rules).unwrap().0;
        prop_assert_eq!(upload, reordered);
    }

    #[test]
    fn a_profile_holds_only_what_its_owner_wants(payload in payload()) {
        let body = serde_json::to_vec(&payload).unwrap();
        let Some((_, records)) = records(&body, &Rules::default()) else {
            return Ok(());
        };
        for record in records.iter().filter(|record| record["type"] == "profile") {
            for key in record["profileData"].as_object().unwrap().keys() {
                prop_assert!(DEFAULT_PROPERTIES.contains(&key.as_str()), "{}", key);
            }
        }
    }
}
