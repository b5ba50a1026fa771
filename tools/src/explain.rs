//! Explains what the function would send to CleverTap for a saved webhook, field by field.
//! It does not know what CleverTap would answer: it sends nothing and reads only files.

pub(crate) mod explanation;
mod fields;
mod schema;
pub(crate) mod text;

use crate::saved::{Saved, read_all};
use crate::{Unusable, print};
use explanation::{Explanation, explain, forward};
use purchasely_clevertap::config::{Config, ConfigError, environment};
use schema::Schema;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// Settings that the function requires and the mapping does not need.
const PLACEHOLDERS: [(&str, &str); 3] = [
    ("CLEVERTAP_REGION", "in1"),
    ("CLEVERTAP_ACCOUNT_ID", "PLACEHOLDER"),
    ("SECRET_ID", "placeholder"),
];

/// Show what the function would send to CleverTap for saved webhooks, and why.
///
/// Reads the function's own environment variables. Those that only say where to send may be missing.
///
/// Exit code 1: at least one webhook can never be sent, or the schema is larger than CleverTap allows.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay explain events/TRIAL_STARTED.json
  REVENUE_EVENT=Charged cargo relay explain events/TRANSACTION_PROCESSED.json --json
  cargo relay explain events/ --json > explained.jsonl
  cargo relay explain --schema --csv > schema.csv")]
pub struct Options {
    /// Files with one webhook, one per line, an array of webhooks, or received messages; folders of `.json` files.
    #[arg(value_name = "FILE", required_unless_present = "schema")]
    files: Vec<PathBuf>,
    /// Instead, show every event, property and profile property that these settings can send, in the words
    /// of CleverTap's Schema page, and count them against CleverTap's limits.
    #[arg(long, conflicts_with = "files")]
    schema: bool,
    /// Print the schema as CSV, with a line for each property of each event.
    #[arg(long, requires = "schema", conflicts_with = "json")]
    csv: bool,
    /// Print one JSON object per webhook and line; with `--schema`, one object in all.
    #[arg(long)]
    json: bool,
}

pub fn run(options: Options) -> Result<ExitCode, Unusable> {
    let config = config()?;
    if options.schema {
        return Ok(schema(&options, &Schema::of(&config.rules)));
    }
    let webhooks = read_all(&options.files)?.into_iter();
    let explain = |webhook: Saved| Explanation {
        forward: forward(&config),
        ..explain(webhook.source, &webhook.body, &config.rules)
    };
    let explanations: Vec<_> = webhooks.map(explain).collect();
    print(&if options.json {
        explanations.iter().map(json).collect()
    } else {
        explanations.iter().map(text::explanation).collect::<Vec<_>>().join("\n")
    });
    let is_settled = explanations.iter().all(Explanation::is_settled);
    Ok(ExitCode::from(u8::from(!is_settled)))
}

fn schema(options: &Options, schema: &Schema) -> ExitCode {
    print(&match (options.csv, options.json) {
        (true, _) => schema.csv(),
        (_, true) => json(schema),
        _ => schema.text(),
    });
    let excess = schema.excess();
    for excess in &excess {
        eprintln!("warning: {excess}");
    }
    ExitCode::from(u8::from(!excess.is_empty()))
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("an explanation is valid JSON") + "\n"
}

/// The value of a required setting on which the mapping does not depend.
pub fn placeholder(name: &str) -> Option<String> {
    let placeholder = PLACEHOLDERS.iter().find(|(placeholder, _)| *placeholder == name);
    placeholder.map(|(_, value)| (*value).to_owned())
}

pub fn invalid_settings(errors: Vec<ConfigError>) -> Unusable {
    Unusable(errors.iter().map(ToString::to_string).collect())
}

/// The function's configuration, with placeholders for what the mapping does not need.
fn config() -> Result<Config, Unusable> {
    let value = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
    let is_missing = |(name, _): &&(&str, &str)| value(name).is_none();
    let missing: Vec<_> = PLACEHOLDERS.iter().filter(is_missing).collect();
    let config = Config::from_env(|name| value(name).or_else(|| placeholder(name)));
    let config = config.map_err(invalid_settings)?;
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
        eprintln!(
            "note: {} not set; placeholders are used. The mapping does not depend on them, except that an account id that begins with TEST- relays sandbox events",
            names.join(", ")
        );
    }
    for warning in &config.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(config)
}
