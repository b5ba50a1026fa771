//! The exact upload that is made of each sample, committed to be reviewed as a diff.
//! It does not know which of its values are right; whoever reviews the diff does.
//!
//! `make golden` writes the files again.

use purchasely_clevertap::clevertap::{Record, Upload};
use purchasely_clevertap::mapping::revenue::{CHARGED, RevenueRules};
use purchasely_clevertap::mapping::{Mapped, Origin, Rules, map};
use purchasely_clevertap::purchasely::catalogue::EVENTS;
use purchasely_clevertap::purchasely::{Event, Verified};
use std::path::Path;

/// The defaults with revenue, so that the revenue record is seen.
fn rules() -> Rules {
    Rules {
        revenue: RevenueRules { event: Some(CHARGED.to_owned()), ..RevenueRules::default() },
        ..Rules::default()
    }
}

fn upload_of(sample: &[u8]) -> String {
    let event = Event::parse(Verified::unsigned(sample)).expect("a sample is an event");
    let rules = rules();
    let Mapped::Records { records, .. } = map(&event, &rules, Origin::Purchasely, &mut |_, _| {})
    else {
        panic!("a sample is relayed");
    };
    let records: Vec<&Record<'_>> = records.iter().collect();
    serde_json::to_string_pretty(&Upload(&records)).expect("JSON") + "\n"
}

#[test]
fn every_sample_becomes_its_golden_upload() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("tests/golden");
    let is_writing = std::env::var_os("WRITE_GOLDEN").is_some();
    let mut changed = Vec::new();
    for (name, _) in EVENTS {
        let sample = std::fs::read(root.join(format!("events/{name}.json"))).expect(name);
        let upload = upload_of(&sample);
        let path = folder.join(format!("{name}.json"));
        if is_writing {
            std::fs::write(&path, upload).expect(name);
        } else if std::fs::read_to_string(&path).unwrap_or_default() != upload {
            changed.push(*name);
        }
    }
    assert!(changed.is_empty(), "run `make golden` and review the diff: {changed:?}");
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), EVENTS.len());
}
