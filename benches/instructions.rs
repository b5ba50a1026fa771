//! The function's own work on one event, so many times and nothing else: what callgrind watches.
//! It does not know the network, the runtime or the time.

use clap::{Parser, ValueEnum};
use http::{HeaderMap, HeaderName, HeaderValue};
use purchasely_clevertap::clevertap::{Record, upload_body};
use purchasely_clevertap::mapping::{self, Mapped, Origin, Rules};
use purchasely_clevertap::purchasely::signature::{
    SIGNATURE_HEADER, SignatureHeaders, TIMESTAMP_HEADER, sign,
};
use purchasely_clevertap::purchasely::{Event, Verified};
use std::error::Error;
use std::hint::black_box;
use std::path::PathBuf;

const SECRET: &str = "shared-secret-of-the-bench";
const SIGNED_AT: u64 = 1_770_139_571;

/// Takes one webhook so far, so many times.
#[derive(Parser)]
#[command(
    after_help = "Example: cargo bench --bench instructions -- events/TRIAL_STARTED.json --upto map --times 200"
)]
struct Arguments {
    /// The raw body of a webhook.
    webhook: PathBuf,
    #[arg(long)]
    upto: Upto,
    #[arg(long)]
    times: u32,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

/// How far a webhook is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Upto {
    Verify,
    Parse,
    Map,
    Write,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let body = std::fs::read(&arguments.webhook)
        .map_err(|error| format!("{} cannot be read: {error}", arguments.webhook.display()))?;
    let timestamp = SIGNED_AT.to_string();
    let signature = sign(SECRET, &timestamp, &body);
    let mut headers = HeaderMap::new();
    for (name, value) in [(SIGNATURE_HEADER, signature), (TIMESTAMP_HEADER, timestamp)] {
        headers.insert(HeaderName::from_static(name), HeaderValue::try_from(value)?);
    }
    let rules = Rules::default();
    for _ in 0..arguments.times {
        let presented = SignatureHeaders::read(black_box(&headers))?;
        let verified = presented.verify([SECRET], None, SIGNED_AT, black_box(&body))?;
        match arguments.upto {
            Upto::Verify => drop(black_box(verified)),
            upto => take_on(verified, upto, &rules)?,
        }
    }
    Ok(())
}

fn take_on(verified: Verified<'_>, upto: Upto, rules: &Rules) -> Result<(), Box<dyn Error>> {
    let event = black_box(Event::parse(verified)?);
    if upto == Upto::Parse {
        return Ok(());
    }
    let mapped = mapping::map(&event, rules, Origin::Purchasely, &mut |field, fate| {
        black_box((field, fate.is_adjustment()));
    });
    let Mapped::Records { records, .. } = black_box(mapped) else {
        return Err("the webhook is mapped to nothing".into());
    };
    if upto == Upto::Write {
        black_box(upload_body(&records.iter().collect::<Vec<&Record<'_>>>()));
    }
    Ok(())
}
