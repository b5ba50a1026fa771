//! The sample webhooks in `events/`, the envelopes that are made of some of them, and the exact upload of each, committed
//! in `tests/golden` to be reviewed as a diff.
//! It does not know which values of an upload are right; whoever reviews the diff does.
//!
//! `make golden` writes the uploads again.

use crate::start_with;
use purchasely_clevertap::clevertap::{Record, Upload};
use purchasely_clevertap::mapping::identity::{AnonymousUserIdAs, IdentityRules};
use purchasely_clevertap::mapping::revenue::{CHARGED, RevenueCurrency, RevenueRules};
use purchasely_clevertap::mapping::{Mapped, Origin, Rules, map};
use purchasely_clevertap::purchasely::catalogue::{
    EVENTS, FIELDS, Kind, MONEY_PREFIXES, currency, kind,
};
use purchasely_clevertap::purchasely::{Event, Verified};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use testkit::harness::{PASSCODE, SECRET_ID, secret_value};
use testkit::webhook::{Front, SAMPLE_SHARED_SECRET, Webhook};
use testkit::world::secrets_manager::SecretsManager;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

const ENVELOPES: [(&str, Front); 5] = [
    ("SUBSCRIPTION_RENEWED.http-api-base64", Front::HttpApiBase64),
    ("SUBSCRIPTION_TERMINATED.rest-api", Front::RestApi),
    ("TRANSACTION_PROCESSED.http-api", Front::HttpApi),
    ("TRIAL_CONVERTED.http-api", Front::HttpApi),
    ("TRIAL_STARTED.http-api", Front::HttpApi),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn sample(name: &str) -> (Vec<u8>, Map<String, Value>) {
    let raw = std::fs::read(folder("events").join(format!("{name}.json"))).expect(name);
    let fields = serde_json::from_slice(&raw).expect(name);
    (raw, fields)
}

/// The names of the JSON files in a folder, without the ending.
fn names(name: &str) -> BTreeSet<String> {
    let paths = std::fs::read_dir(folder(name)).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.is_file());
    files
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn each_event_has_a_sample_and_together_they_have_every_documented_field_in_its_type() {
    let catalogue = EVENTS.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(names("events"), catalogue.collect());
    let (mut ids, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (name, _) in EVENTS {
        let (_, body) = sample(name);
        assert_eq!(body["event_name"], *name);
        assert_eq!(body["environment"], "PRODUCTION", "{name}");
        assert_eq!(body["api_version"], 3, "{name}");
        assert!(body["user_id"].is_string(), "{name}");
        assert!(ids.insert(body["event_id"].to_string()), "{name}");
        for (field, value) in &body {
            let has_its_type = match kind(field) {
                Some(Kind::Text) => value.is_string(),
                Some(Kind::Time) => {
                    let time = OffsetDateTime::parse(value.as_str().unwrap(), &Rfc3339).unwrap();
                    let ms = body[&format!("{field}_ms")].as_i64().unwrap();
                    time.unix_timestamp_nanos() == i128::from(ms) * 1_000_000
                }
                Some(Kind::Integer) => value.is_i64(),
                Some(Kind::Decimal) => value.is_number(),
                Some(Kind::Boolean) => value.is_boolean(),
                Some(Kind::Texts) => value.as_object().unwrap().values().all(Value::is_string),
                Some(Kind::Unspecified) | None => field.ends_with("_at_ms"),
            };
            assert!(has_its_type, "{name}: {field} is {value}");
            seen.insert(field.clone());
        }
    }
    let missing: Vec<_> = FIELDS.iter().filter(|(field, _)| !seen.contains(*field)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    for prefix in MONEY_PREFIXES {
        let is_it = |name: &String| name.starts_with(prefix) && currency(name).is_some();
        assert!(seen.iter().any(is_it), "{prefix}");
    }
}

/// Written again by `cargo relay send events/NAME.json --envelope FRONT --at SECONDS`.
#[tokio::test]
async fn the_envelopes_are_those_of_the_samples_and_reach_clevertap_as_the_golden_uploads() {
    let manager = SecretsManager::new(SECRET_ID, &secret_value(PASSCODE, SAMPLE_SHARED_SECRET));
    // As in a local run, so that they are valid for years.
    let no_limit = ("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "0");
    let world = start_with(manager, &[no_limit, ("REVENUE_EVENT", CHARGED)]).await;
    assert_eq!(names("events/api-gateway"), ENVELOPES.map(|(name, _)| name.to_owned()).into());
    for (file, front) in ENVELOPES {
        let (name, _) = file.split_once('.').unwrap();
        let (raw, body) = sample(name);
        // Signed when the event happened.
        let signed_at = body["event_created_at_ms"].as_u64().unwrap() / 1000;
        let envelope = Webhook::new(raw, SAMPLE_SHARED_SECRET, signed_at).envelope(front);
        let path = folder("events/api-gateway").join(format!("{file}.json"));
        let committed = std::fs::read_to_string(path).unwrap();
        assert_eq!(committed, format!("{envelope:#}\n"), "{file} differs from its sample");
        assert_eq!(world.invoke(&envelope).await.status, 200, "{file}");
        let golden = std::fs::read(folder("tests/golden").join(format!("{name}.json"))).unwrap();
        let uploaded = world.clevertap.take_uploads().remove(0);
        let [golden, uploaded]: [Value; 2] =
            [&golden[..], &uploaded.body].map(|json| serde_json::from_slice(json).unwrap());
        assert_eq!(uploaded, golden, "{file}");
    }
}

fn rules(refund_event: Option<&str>, currency: RevenueCurrency) -> Rules {
    let refund_event = refund_event.map(str::to_owned);
    // So that the revenue record is seen.
    let revenue = RevenueRules {
        event: Some(CHARGED.to_owned()),
        refund_event,
        currency,
    };
    Rules { revenue, ..Rules::default() }
}

/// Samples as they would be for another user, in another currency or as a refund: each with its name, the fields that
/// differ, of which null is an absent one, and the settings that decide on it.
fn variants() -> [(&'static str, &'static str, Value, Rules); 6] {
    let device = |sample, name, store| {
        let anonymous_user_id_as = AnonymousUserIdAs::ClevertapId;
        let identity = IdentityRules { anonymous_user_id_as, ..IdentityRules::default() };
        let rules = Rules {
            identity,
            ..rules(None, RevenueCurrency::Integration)
        };
        (sample, name, json!({ "user_id": null, "store": store }), rules)
    };
    let payment = |name, fields, refund_event, currency| {
        ("TRANSACTION_PROCESSED", name, fields, rules(refund_event, currency))
    };
    let refund = json!({ "amount_in_usd": -10.84, "amount_in_customer_currency": -9.99 });
    let euro = json!({ "amount_in_eur": 9.98, "cumulated_revenues_in_eur": 19.96 });
    [
        device("TRIAL_STARTED", "anonymous-android", "GOOGLE_PLAY_STORE"),
        device("TRIAL_STARTED", "anonymous-ios", "APPLE_APP_STORE"),
        device("SUBSCRIPTION_TRANSFERRED", "anonymous", "APPLE_APP_STORE"),
        payment("refund", refund, Some("Refunded"), RevenueCurrency::Integration),
        payment("two-currencies", euro, None, RevenueCurrency::Integration),
        payment("customer-in-eur", json!({}), None, RevenueCurrency::Code("eur".to_owned())),
    ]
}

fn upload_of(sample: &[u8], rules: &Rules) -> String {
    let event = Event::parse(Verified::unsigned(sample)).expect("a sample is an event");
    let Mapped::Records { records, .. } =
        map(&event, rules, Origin::Purchasely, &mut |_, _| {}).mapped
    else {
        panic!("a sample is relayed");
    };
    let records: Vec<&Record<'_>> = records.iter().collect();
    serde_json::to_string_pretty(&Upload(&records)).expect("JSON") + "\n"
}

#[test]
fn every_sample_becomes_its_golden_upload() {
    let mut uploads = Vec::new();
    for (name, _) in EVENTS {
        let (raw, body) = sample(name);
        let upload = upload_of(&raw, &rules(None, RevenueCurrency::Integration));
        let records: Value = serde_json::from_str(&upload).unwrap();
        let mut records = records["d"].as_array().unwrap().iter();
        let event = records.find(|record| record["evtName"] == *name).expect("its event");
        // Only the twins in milliseconds and Google's token are never sent.
        for field in body.keys() {
            let is_sent = !field.ends_with("_at_ms") && field != "purchase_token";
            let property = field.replace("attribution", "attribution_utm_source");
            assert_eq!(!event["evtData"][property].is_null(), is_sent, "{name}: {field}");
        }
        uploads.push(((*name).to_owned(), upload));
    }
    for (name, variant, fields, rules) in variants() {
        let (_, mut body) = sample(name);
        body.extend(fields.as_object().expect("fields").clone());
        let body = serde_json::to_vec(&body).expect("JSON");
        uploads.push((format!("{name}.{variant}"), upload_of(&body, &rules)));
    }
    let is_writing = std::env::var_os("WRITE_GOLDEN").is_some();
    let mut changed = Vec::new();
    for (name, upload) in &uploads {
        let path = folder("tests/golden").join(format!("{name}.json"));
        if is_writing {
            std::fs::write(&path, upload).expect(name);
        } else if std::fs::read_to_string(&path).unwrap_or_default() != *upload {
            changed.push(name);
        }
    }
    assert!(changed.is_empty(), "run `make golden` and review the diff: {changed:?}");
    assert_eq!(names("tests/golden").len(), uploads.len());
}
