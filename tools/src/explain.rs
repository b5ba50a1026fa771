//! Explains what the function would send to CleverTap for a saved webhook, field by field.
//! It does not know what CleverTap would answer: it sends nothing and reads only files.

mod coverage;
pub(crate) mod explanation;
mod fields;
mod schema;
pub(crate) mod text;

use crate::Unusable;
use crate::files::json_files;
use coverage::Coverage;
use explanation::{Explanation, explain};
use purchasely_clevertap::config::{Config, ConfigError, environment};
use schema::Schema;
use serde::Serialize;
use std::io::Write;
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
/// Exit code 1: at least one file can never be sent, or the schema is larger than CleverTap allows.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay explain events/TRIAL_STARTED.json
  REVENUE_EVENT=Charged cargo relay explain events/TRANSACTION_PROCESSED.json --json
  cargo relay explain --coverage events/
  cargo relay explain --schema --csv > schema.csv")]
pub struct Options {
    /// Files with one raw webhook body each.
    #[arg(value_name = "FILE", required_unless_present_any = ["coverage", "schema"])]
    files: Vec<PathBuf>,
    /// Instead, show which fields are sent with which events, over all `.json` files of this folder.
    #[arg(long, value_name = "FOLDER", conflicts_with = "files")]
    coverage: Option<PathBuf>,
    /// Instead, show every event, property and profile property that these settings can send, in the words
    /// of CleverTap's Schema page, and count them against CleverTap's limits.
    #[arg(long, conflicts_with_all = ["files", "coverage"])]
    schema: bool,
    /// Print the schema as CSV, with a line for each property of each event.
    #[arg(long, requires = "schema", conflicts_with = "json")]
    csv: bool,
    /// Print one JSON object per file and line; with `--coverage` or `--schema`, one object in all.
    #[arg(long)]
    json: bool,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let config = config()?;
    if options.schema {
        return Ok(schema(&options, &Schema::of(&config.rules)));
    }
    let files = match &options.coverage {
        Some(folder) => {
            json_files(folder).map_err(|error| format!("{}: {error}", folder.display()))?
        }
        None => options.files,
    };
    if files.is_empty() {
        return Err(Unusable::from("the folder has no .json file".to_owned()));
    }
    let mut explanations = Vec::new();
    let mut problems = Vec::new();
    for file in &files {
        let name = file.display().to_string();
        match tokio::fs::read(file).await {
            Ok(body) => explanations.push(explain(name, &body, &config.rules)),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    if !problems.is_empty() {
        return Err(Unusable(problems));
    }
    let output = match (&options.coverage, options.json) {
        (Some(_), true) => json(&Coverage::of(&explanations)),
        (Some(_), false) => Coverage::of(&explanations).text(),
        (None, true) => explanations.iter().map(json).collect(),
        (None, false) => {
            let texts: Vec<_> = explanations.iter().map(text::explanation).collect();
            texts.join("\n")
        }
    };
    // A reader that stops early, such as `head`, is not an error.
    let _ = std::io::stdout().write_all(output.as_bytes());
    Ok(if explanations.iter().all(Explanation::is_settled) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn schema(options: &Options, schema: &Schema) -> ExitCode {
    let output = match (options.csv, options.json) {
        (true, _) => schema.csv(),
        (_, true) => json(schema),
        _ => schema.text(),
    };
    // A reader that stops early, such as `head`, is not an error.
    let _ = std::io::stdout().write_all(output.as_bytes());
    let excess = schema.excess();
    for excess in &excess {
        eprintln!("warning: {excess}");
    }
    if excess.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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
