//! The exact upload that is made of each sample, committed to be reviewed as a diff.
//! It does not know which of its values are right; whoever reviews the diff does.
//!
//! `make golden` writes the files again.

use purchasely_clevertap::clevertap::{Record, Upload};
use purchasely_clevertap::mapping::identity::{AnonymousUserIdAs, IdentityRules};
use purchasely_clevertap::mapping::revenue::{CHARGED, RevenueCurrency, RevenueRules};
use purchasely_clevertap::mapping::{Mapped, Origin, Rules, map};
use purchasely_clevertap::purchasely::catalogue::EVENTS;
use purchasely_clevertap::purchasely::{Event, Verified};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The defaults with revenue, so that the revenue record is seen.
fn rules() -> Rules {
    Rules {
        revenue: RevenueRules {
            event: Some(CHARGED.to_owned()),
            ..RevenueRules::default()
        },
        ..Rules::default()
    }
}

/// A sample as it would be for another user, in another currency or as a refund, with the settings that decide on it.
struct Variant {
    sample: &'static str,
    name: &'static str,
    /// The fields that differ; null is an absent one.
    fields: Value,
    rules: Rules,
}

fn variants() -> [Variant; 6] {
    let revenue = |refund_event: Option<&str>, currency| Rules {
        revenue: RevenueRules {
            event: Some(CHARGED.to_owned()),
            refund_event: refund_event.map(str::to_owned),
            currency,
        },
        ..Rules::default()
    };
    let variant = |sample, name, fields, rules| Variant { sample, name, fields, rules };
    let device = |sample, name, store| {
        let anonymous_user_id_as = AnonymousUserIdAs::ClevertapId;
        let identity = IdentityRules { anonymous_user_id_as, ..IdentityRules::default() };
        let fields = json!({ "user_id": null, "store": store });
        variant(sample, name, fields, Rules { identity, ..rules() })
    };
    let integration = || RevenueCurrency::Integration;
    let euro = json!({ "amount_in_eur": 9.98, "cumulated_revenues_in_eur": 19.96 });
    let refund = json!({ "amount_in_usd": -10.84, "amount_in_customer_currency": -9.99 });
    [
        device("TRIAL_STARTED", "anonymous-android", "GOOGLE_PLAY_STORE"),
        device("TRIAL_STARTED", "anonymous-ios", "APPLE_APP_STORE"),
        device("SUBSCRIPTION_TRANSFERRED", "anonymous", "APPLE_APP_STORE"),
        variant(
            "TRANSACTION_PROCESSED",
            "refund",
            refund,
            revenue(Some("Refunded"), integration()),
        ),
        variant("TRANSACTION_PROCESSED", "two-currencies", euro, revenue(None, integration())),
        variant(
            "TRANSACTION_PROCESSED",
            "customer-in-eur",
            json!({}),
            revenue(None, RevenueCurrency::Code("eur".to_owned())),
        ),
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
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sample = |name: &str| std::fs::read(root.join(format!("events/{name}.json"))).expect(name);
    let mut uploads: Vec<_> = EVENTS
        .iter()
        .map(|(name, _)| ((*name).to_owned(), upload_of(&sample(name), &rules())))
        .collect();
    for Variant { sample: name, name: variant, fields, rules } in variants() {
        let mut body: Map<String, Value> = serde_json::from_slice(&sample(name)).expect(name);
        body.extend(fields.as_object().expect("fields").clone());
        let body = serde_json::to_vec(&body).expect("JSON");
        uploads.push((format!("{name}.{variant}"), upload_of(&body, &rules)));
    }
    let folder = root.join("tests/golden");
    let is_writing = std::env::var_os("WRITE_GOLDEN").is_some();
    let mut changed = Vec::new();
    for (name, upload) in &uploads {
        let path = folder.join(format!("{name}.json"));
        if is_writing {
            std::fs::write(&path, upload).expect(name);
        } else if std::fs::read_to_string(&path).unwrap_or_default() != *upload {
            changed.push(name);
        }
    }
    assert!(changed.is_empty(), "run `make golden` and review the diff: {changed:?}");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), uploads.len());
}
