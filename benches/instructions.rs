//! The function's own work on one event, repeated: what callgrind counts.
//! It does not know the network, the runtime or the clock.

use clap::{Parser, ValueEnum};
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use purchasely_clevertap::clevertap::{Record, upload_body};
use purchasely_clevertap::mapping::identity::purchasely_id;
use purchasely_clevertap::mapping::{self, Mapped, Origin, Rules};
use purchasely_clevertap::purchasely::signature::{
    SIGNATURE_HEADER, SignatureHeaders, TIMESTAMP_HEADER, sign, user_digest,
};
use purchasely_clevertap::purchasely::{Event, Verified};
use serde_json::{Map, Value};
use sha2::Sha256;
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;

const SECRET: &str = "shared-secret-of-the-bench";
const SIGNED_AT: u64 = 1_770_139_571;

/// Processes one webhook up to a step, a number of times.
#[derive(Parser)]
#[command(
    after_help = "Example: cargo bench --bench instructions -- events/TRIAL_STARTED.json --up-to map --times 200"
)]
struct Arguments {
    /// The raw body of a webhook.
    webhook: PathBuf,
    #[arg(long)]
    up_to: Step,
    #[arg(long)]
    times: u32,
    /// Replace what the webhook has beside the required fields by so many that nobody knows.
    #[arg(long)]
    unknown_fields: Option<usize>,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// Only the hash of the signature, without the rest of `Verify`.
    Hash,
    Verify,
    Parse,
    Map,
    /// The digest of the user's id for the log, after `Map`; `Write` leaves it out.
    Digest,
    Write,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let mut body = std::fs::read(&arguments.webhook)
        .map_err(|error| format!("cannot read {}: {error}", arguments.webhook.display()))?;
    if let Some(count) = arguments.unknown_fields {
        body = with_unknown_fields(&body, count)?;
    }
    let timestamp = SIGNED_AT.to_string();
    let signature = sign(SECRET, &timestamp, &body);
    let mut headers = HeaderMap::new();
    for (name, value) in [(SIGNATURE_HEADER, signature), (TIMESTAMP_HEADER, timestamp)] {
        headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value)?);
    }
    let rules = Rules::default();
    for _ in 0..arguments.times {
        if arguments.up_to == Step::Hash {
            black_box(hash(black_box(&body))?);
            continue;
        }
        let headers = SignatureHeaders::read(black_box(&headers))?;
        let verified = headers.verify([SECRET], None, SIGNED_AT, black_box(&body))?;
        match arguments.up_to {
            Step::Verify => drop(black_box(verified)),
            step => process(verified, step, &rules)?,
        }
    }
    Ok(())
}

fn with_unknown_fields(body: &[u8], count: usize) -> Result<Vec<u8>, Box<dyn Error>> {
    let required = ["event_name", "event_id", "event_created_at_ms", "user_id"];
    let mut webhook: Map<String, Value> = serde_json::from_slice(body)?;
    webhook.retain(|name, _| required.contains(&name.as_str()));
    let unknown = |number| (format!("custom_field_{number}"), format!("value {number}").into());
    webhook.extend((0..count).map(unknown));
    Ok(serde_json::to_vec(&webhook)?)
}

fn hash(body: &[u8]) -> Result<[u8; 32], Box<dyn Error>> {
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes())?;
    let timestamp = SIGNED_AT.to_string();
    Ok(mac.chain_update(timestamp).chain_update(body).finalize().into_bytes().into())
}

fn process(verified: Verified<'_>, up_to: Step, rules: &Rules) -> Result<(), Box<dyn Error>> {
    let event = black_box(Event::parse(verified)?);
    if up_to == Step::Parse {
        return Ok(());
    }
    let mapping = mapping::map(&event, rules, Origin::Purchasely, &mut |field, outcome| {
        black_box((field, outcome.is_adjustment()));
    });
    let Mapped::Records { records, .. } = black_box(mapping.mapped) else {
        return Err("the webhook maps to no records".into());
    };
    if up_to == Step::Digest {
        let id = purchasely_id(&event).ok_or("the webhook has no user")?;
        black_box(user_digest(SECRET, &id));
    }
    if up_to == Step::Write {
        black_box(upload_body(&records.iter().collect::<Vec<&Record<'_>>>()));
    }
    Ok(())
}
