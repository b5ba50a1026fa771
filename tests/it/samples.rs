//! The sample webhooks in `events/`, and the envelopes that are made of some of them.
//! It does not know what each sample becomes in CleverTap; `golden.rs` does.

use purchasely_clevertap::purchasely::catalogue::{EVENTS, FIELDS};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use testkit::harness::{PASSCODE, World, secret_value};
use testkit::records::{Kind, kind};
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

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("events")
}

fn sample(name: &str) -> (Vec<u8>, Value) {
    let raw = std::fs::read(folder().join(format!("{name}.json"))).expect(name);
    let value = serde_json::from_slice(&raw).expect(name);
    (raw, value)
}

/// The names of the JSON files in a folder, without the ending.
fn names(folder: &Path) -> BTreeSet<String> {
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.is_file());
    files
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn there_is_one_for_every_event_of_the_catalogue_and_no_other() {
    let catalogue = EVENTS.iter().map(|(name, _)| (*name).to_owned());
    assert_eq!(names(&folder()), catalogue.collect());
}

#[test]
fn each_is_a_production_event_named_after_its_file_whose_times_agree() {
    let mut ids = BTreeSet::new();
    for (name, _) in EVENTS {
        let (_, body) = sample(name);
        assert_eq!(body["event_name"], *name);
        assert_eq!(body["environment"], "PRODUCTION", "{name}");
        assert_eq!(body["api_version"], 3, "{name}");
        assert!(body["user_id"].is_string(), "{name}");
        assert!(ids.insert(body["event_id"].to_string()), "{name}");
        for (field, value) in body.as_object().unwrap() {
            if field.ends_with("_at") {
                let time = OffsetDateTime::parse(value.as_str().unwrap(), &Rfc3339).unwrap();
                let ms = body[format!("{field}_ms")].as_i64().unwrap();
                assert_eq!(
                    time.unix_timestamp_nanos(),
                    i128::from(ms) * 1_000_000,
                    "{name}: {field}"
                );
            }
        }
    }
}

#[test]
fn together_they_hold_every_documented_field_in_its_type() {
    let mut seen = BTreeSet::new();
    for (name, _) in EVENTS {
        let (_, body) = sample(name);
        for (field, value) in body.as_object().unwrap() {
            let has_its_type = match kind(field) {
                Some(Kind::Text | Kind::Time) => value.is_string(),
                Some(Kind::Integer) => value.is_i64(),
                Some(Kind::Decimal) => value.is_number(),
                Some(Kind::Boolean) => value.is_boolean(),
                None => field == "attribution" || field.ends_with("_at_ms"),
            };
            assert!(has_its_type, "{name}: {field} is {value}");
            seen.insert(field.clone());
        }
    }
    for (field, _) in FIELDS {
        assert!(seen.contains(*field), "{field}");
    }
}

#[tokio::test]
async fn every_sample_reaches_clevertap_as_its_golden_upload_and_an_unknown_event_too() {
    let world = World::start(&[("REVENUE_EVENT", "Charged")]).await;
    let golden = |name: &str| {
        let path = folder().join(format!("../tests/golden/{name}.json"));
        let upload: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        upload["d"].as_array().unwrap().clone()
    };
    let mut expected = Vec::new();
    for (name, _) in EVENTS {
        let (raw, body) = sample(name);
        assert_eq!(world.post(&raw).await.body["status"], "relayed", "{name}");
        let records = golden(name);
        let event = records.iter().find(|record| record["evtName"] == *name);
        // Only the twins in milliseconds and Google's token are never sent.
        for field in body.as_object().unwrap().keys() {
            let is_sent = !field.ends_with("_at_ms") && field != "purchase_token";
            let property = field.replace("attribution", "attribution_utm_source");
            let property = &event.unwrap()["evtData"][property];
            assert_eq!(!property.is_null(), is_sent, "{name}: {field}");
        }
        expected.extend(records);
    }
    assert_eq!(world.clevertap.accepted(), expected);
    let mut unknown = testkit::harness::event("e", "u");
    unknown["event_name"] = json!("SOMETHING_NEW");
    let answer = world.post(unknown.to_string().as_bytes()).await;
    assert_eq!(answer.body["status"], "relayed");
    assert_eq!(world.clevertap.accepted()[expected.len()]["evtName"], "SOMETHING_NEW");
}

/// Written again by `cargo relay send events/NAME.json --envelope FRONT --at SECONDS`.
#[tokio::test]
async fn the_envelopes_are_those_of_the_samples_and_are_relayed() {
    let secret = secret_value(PASSCODE, SAMPLE_SHARED_SECRET);
    // As in a local run, so that they are valid for years.
    let no_limit = ("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "0");
    let world = World::start_with(SecretsManager::new("relay", &secret), &[no_limit]).await;
    let folder = folder().join("api-gateway");
    assert_eq!(names(&folder), ENVELOPES.map(|(name, _)| name.to_owned()).into());
    for (file, front) in ENVELOPES {
        let (name, _) = file.split_once('.').unwrap();
        let (raw, body) = sample(name);
        // Signed when the event happened.
        let signed_at = body["event_created_at_ms"].as_u64().unwrap() / 1000;
        let envelope = Webhook::new(raw, SAMPLE_SHARED_SECRET, signed_at).envelope(front);
        let committed = std::fs::read_to_string(folder.join(format!("{file}.json"))).unwrap();
        assert_eq!(committed, format!("{envelope:#}\n"), "{file} differs from its sample");
        assert_eq!(world.invoke(&envelope).await.status, 200, "{file}");
    }
}
