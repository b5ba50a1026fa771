//! Whatever Purchasely sends, the records are ones that CleverTap accepts, with each documented field in its type.
//! It does not know the exact records; `samples.rs` does.
//!
//! `make property CASES=100000` tries as many payloads; `make test` fewer.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, FileFailurePersistence};
use purchasely_clevertap::clevertap::{Record, upload_body};
use purchasely_clevertap::mapping::identity::{AnonymousUserIdAs, IdentityRules};
use purchasely_clevertap::mapping::profile::DEFAULT_PROPERTIES;
use purchasely_clevertap::mapping::revenue::{RevenueCurrency, RevenueRules};
use purchasely_clevertap::mapping::{Mapped, Origin, Rules, SandboxRule, map};
use purchasely_clevertap::purchasely::catalogue::{EVENTS, FIELDS};
use purchasely_clevertap::purchasely::{Event, Verified};
use serde_json::{Map, Value, json};
use testkit::records::mistake_in;

/// How many cases a property is tried with, and where its failures are saved to be tried again.
pub fn property_config(source: &'static str) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok();
    Config {
        cases: cases.and_then(|cases| cases.parse().ok()).unwrap_or(300),
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        source_file: Some(source),
        ..Config::default()
    }
}

/// Texts that are long, odd, forbidden, dated or empty.
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

/// Any JSON, often one that some limit forbids.
pub fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..5).prop_map(Value::from),
            btree_map(key(), inner, 0..5)
                .prop_map(|object| Value::Object(object.into_iter().collect())),
        ]
    })
}

/// Documented names, names like them, and anything.
fn key() -> impl Strategy<Value = String> {
    let documented = || select(FIELDS).prop_map(|(name, _)| name.to_owned());
    prop_oneof![
        6 => documented(),
        2 => documented().prop_map(|name| format!("{name}_ms")),
        1 => documented().prop_map(|name| format!("{name}!")),
        1 => select(vec!["amount_in_usd", "amount_in_eur", "amount_in_customer_currency", "plan_price_in_eur",
            "cumulated_revenues_in_usd", "commitment_months", "attribution_utm_source",
            "clevertap_id", "next", "utm_source"])
            .prop_map(str::to_owned),
        2 => text(),
        1 => (100_usize..140).prop_map(|n| "k".repeat(n)),
    ]
}

/// The store and anonymous id of a buyer who is not signed in; `None` is a signed-in user.
fn anonymous() -> impl Strategy<Value = Option<(&'static str, String)>> {
    let stores =
        vec!["APPLE_APP_STORE", "GOOGLE_PLAY_STORE", "HUAWEI_APP_GALLERY", "STRIPE", "NEW"];
    let id = prop_oneof![
        2 => "[0-9A-F]{8}-[0-9A-F]{4}-[0-9A-F]{12}",
        1 => "[a-zA-Z0-9()!:@$_-]{60,68}",
        1 => text(),
    ];
    proptest::option::weighted(0.4, (select(stores), id))
}

/// Any JSON object with a name, an id and a user.
fn payload() -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![
        4 => select(EVENTS).prop_map(|(name, _)| name.to_owned()),
        1 => Just("TRANSACTION_PROCESSED".to_owned()),
        1 => text(),
    ];
    let fields = prop_oneof![
        9 => btree_map(key(), value(), 0..25),
        1 => btree_map("[a-z]{1,6}", scalar(), 90..160),
    ];
    (name, text(), anonymous(), fields).prop_map(|(name, id, anonymous, fields)| {
        let mut payload: Map<_, _> = fields.into_iter().collect();
        match anonymous {
            None => drop(payload.entry("user_id").or_insert_with(|| json!("u-1842"))),
            Some((store, id)) => {
                payload.remove("user_id");
                payload.insert("store".into(), store.into());
                payload.insert("anonymous_user_id".into(), id.into());
            }
        }
        payload.insert("event_name".into(), name.into());
        payload.insert("event_id".into(), id.into());
        payload
    })
}

prop_compose! {
    fn rules()(
        drop_unknown: bool,
        anonymous_user_id_as in select(vec![AnonymousUserIdAs::Ignored, AnonymousUserIdAs::Identity, AnonymousUserIdAs::ClevertapId]),
        sandbox in select(vec![SandboxRule::EventsOnly, SandboxRule::Whole, SandboxRule::OwnAccount]),
        event in select(vec![None, Some("Charged"), Some("Money Received")]),
        refund_event in select(vec![None, Some("Money Returned")]),
        currency in select(vec![RevenueCurrency::Integration, RevenueCurrency::Customer,
            RevenueCurrency::Code("usd".to_owned()), RevenueCurrency::Code("eur".to_owned())]),
    ) -> Rules {
        let [event, refund_event] = [event, refund_event].map(|name| name.map(str::to_owned));
        let identity = IdentityRules { anonymous_user_id_as, ..IdentityRules::default() };
        let revenue = RevenueRules { event, refund_event, currency };
        let mut rules = Rules { sandbox, identity, revenue, ..Rules::default() };
        rules.properties.drop_unknown = drop_unknown;
        rules
    }
}

fn records(body: &[u8], rules: &Rules) -> Option<(Vec<u8>, Vec<Value>)> {
    let event = Event::parse(Verified::unsigned(body)).expect("an object with a name");
    let Mapped::Records { records, .. } =
        map(&event, rules, Origin::Purchasely, &mut |_, _| {}).mapped
    else {
        return None;
    };
    let upload = upload_body(&records.iter().collect::<Vec<&Record<'_>>>());
    let parsed: Value = serde_json::from_slice(&upload).expect("JSON");
    let records = parsed["d"].as_array().expect("records").clone();
    Some((upload, records))
}

proptest! {
    #![proptest_config(property_config(file!()))]

    #[test]
    fn any_payload_maps_to_records_that_clevertap_accepts(payload in payload(), rules in rules()) {
        let body = serde_json::to_vec(&payload).unwrap();
        let Some((upload, records)) = records(&body, &rules) else {
            return Ok(());
        };
        prop_assert!(!records.is_empty());
        for record in &records {
            prop_assert_eq!(mistake_in(record), None, "{}", record);
            for (key, _) in record["profileData"].as_object().into_iter().flatten() {
                prop_assert!(DEFAULT_PROPERTIES.contains(&key.as_str()), "{}", key);
            }
            if ["Charged", "Money Received", "Money Returned"].map(Value::from).contains(&record["evtName"]) {
                prop_assert!(record["evtData"]["Amount"].as_f64() > Some(0.0), "{}", record);
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
    fn a_value_that_cannot_be_read_changes_nothing_else(
        payload in payload(),
        bad in select(vec!["1e400".to_owned(), "[-1e400]".to_owned(), "[".repeat(300) + &"]".repeat(300),
            "{\"a\":".repeat(300) + "1" + &"}".repeat(300)]),
        rules in rules(),
    ) {
        let body = serde_json::to_string(&payload).unwrap();
        let spoiled = format!("\u{feff}{},\"bad\":{bad}}}", &body[..body.len() - 1]);
        let whole = records(body.as_bytes(), &rules).map(|(upload, _)| upload);
        prop_assert_eq!(records(spoiled.as_bytes(), &rules).map(|(upload, _)| upload), whole);
    }
}
