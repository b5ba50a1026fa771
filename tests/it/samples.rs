//! The samples in `events/`, and the envelopes that are made of some of them.

use purchasely_clevertap::purchasely::catalogue::{EVENTS, FIELDS, Kind, MONEY_PREFIXES};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use testkit::harness::World;
use testkit::webhook::{Front, SAMPLE_SHARED_SECRET, Webhook};

/// When the committed envelopes were signed: the time of the event itself.
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

#[test]
fn there_is_one_for_every_event_of_the_catalogue_and_no_other() {
    let names: BTreeSet<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let catalogue: BTreeSet<_> = EVENTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names, catalogue);
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
        assert!(
            ids.insert(body["event_id"].as_str().unwrap().to_owned()),
            "{name}"
        );
        let fields = body.as_object().unwrap();
        for (field, value) in fields.iter().filter(|(field, _)| field.ends_with("_at")) {
            let text = value.as_str().unwrap();
            let format = &time::format_description::well_known::Rfc3339;
            let moment = time::OffsetDateTime::parse(text, format).unwrap();
            let milliseconds = fields[&format!("{field}_ms")].as_i64().unwrap();
            let twin = i128::from(milliseconds) * 1_000_000;
            assert_eq!(moment.unix_timestamp_nanos(), twin, "{name}: {field}");
        }
    }
}

#[test]
fn together_they_hold_every_documented_field_in_its_type() {
    let mut seen = BTreeSet::new();
    for (name, _) in EVENTS {
        let (_, body) = sample(name);
        for (field, value) in body.as_object().unwrap() {
            let Ok(index) = FIELDS.binary_search_by_key(&field.as_str(), |(name, _)| name) else {
                let known = field.ends_with("_at_ms")
                    || MONEY_PREFIXES
                        .iter()
                        .any(|prefix| field.starts_with(prefix));
                assert!(known, "{name}: {field} is not documented");
                continue;
            };
            seen.insert(FIELDS[index].0);
            let right = match FIELDS[index].1 {
                Kind::Text | Kind::Time => value.is_string(),
                Kind::Integer => value.is_i64(),
                Kind::Decimal => value.is_number(),
                Kind::Boolean => value.is_boolean(),
                Kind::Texts => value.is_object(),
                Kind::Unspecified => true,
            };
            assert!(right, "{name}: {field} is {value}");
        }
    }
    let documented: BTreeSet<_> = FIELDS.iter().map(|(name, _)| *name).collect();
    assert_eq!(seen, documented);
}

#[tokio::test]
async fn every_sample_is_relayed_whole() {
    let world = World::start(&[]).await;
    for (name, _) in EVENTS {
        let (raw, _) = sample(name);
        assert_eq!(world.post(&raw).await.status, 200, "{name}");
    }
    let mut events = world.clevertap.accepted();
    events.retain(|record| record["type"] == "event");
    assert_eq!(events.len(), EVENTS.len());
    // The millisecond twins and Google's token are the only fields that are left behind.
    for ((name, _), record) in EVENTS.iter().zip(events) {
        let (_, body) = sample(name);
        for field in body.as_object().unwrap().keys() {
            let left = field.ends_with("_at_ms") || field == "purchase_token";
            let sent = match field.as_str() {
                "attribution" => record["evtData"]["attribution_utm_source"].is_string(),
                field => !record["evtData"][field].is_null(),
            };
            assert_eq!(sent, !left, "{name}: {field}");
        }
    }
}

/// Written again by `cargo run --example send -- events/NAME.json --envelope FRONT --at SECONDS`.
#[tokio::test]
async fn the_envelopes_are_those_of_the_samples_and_are_relayed() {
    let world = World::start_with(
        testkit::secrets_manager::SecretsManager::new(
            "relay",
            &testkit::harness::secret_value(testkit::harness::PASSCODE, SAMPLE_SHARED_SECRET),
        ),
        &[],
    )
    .await;
    let committed: BTreeSet<_> = std::fs::read_dir(folder().join("api-gateway"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let expected: BTreeSet<_> = ENVELOPES
        .iter()
        .map(|(name, _)| format!("{name}.json"))
        .collect();
    assert_eq!(committed, expected);
    for (file, front) in ENVELOPES {
        let (name, _) = file.split_once('.').unwrap();
        let (raw, body) = sample(name);
        let signed_at = body["event_created_at_ms"].as_u64().unwrap() / 1000;
        let envelope = Webhook::new(raw, SAMPLE_SHARED_SECRET, signed_at).envelope(front);
        let path = folder().join(format!("api-gateway/{file}.json"));
        let committed = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            committed,
            format!("{envelope:#}\n"),
            "{file} is out of step with its sample"
        );
        assert_eq!(world.invoke(&envelope).await.status, 200, "{file}");
    }
}
