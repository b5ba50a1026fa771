//! Shows what the function would send for a raw webhook body, where each field went, and why.
//! It does not know CleverTap's answer: nothing is sent, and nothing but files is read.

mod account;
mod coverage;
mod identity;
mod settings;
mod text;
mod words;

use clap::Parser;
use purchasely_clevertap::config::{Config, environment};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Shows the upload that the function would make of each raw webhook body, and why it is so.
///
/// Reads the function's own environment variables; those that say where to send may be missing.
///
/// Exit codes: 0, everything was explained; 1, at least one file is no event that can be mapped;
/// 2, the command line, a setting or a file cannot be used.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --example explain -- events/TRIAL_STARTED.json
  REVENUE_EVENT=Charged cargo run --example explain -- events/TRANSACTION_PROCESSED.json --json
  cargo run --example explain -- --coverage events/")]
struct Arguments {
    /// Files that each hold one raw body.
    #[arg(required_unless_present = "coverage")]
    files: Vec<PathBuf>,
    /// Instead, hold the fields of all `.json` files in this folder against the events they come with.
    #[arg(long, value_name = "FOLDER", conflicts_with = "files")]
    coverage: Option<PathBuf>,
    /// Print one JSON object per file (with `--coverage`, one in all).
    #[arg(long)]
    json: bool,
}

/// What was wrong before anything could be explained, each in a line.
type Refused = Vec<String>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok((shown, all_mapped)) => {
            // A reader that has seen enough, such as `head`, is no failure.
            let _ = std::io::stdout().write_all(shown.as_bytes());
            if all_mapped {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(refused) => {
            for line in refused {
                eprintln!("explain: {line}");
            }
            ExitCode::from(2)
        }
    }
}

/// What is shown, and whether every file is an event that can be mapped.
fn run(arguments: &Arguments) -> Result<(String, bool), Refused> {
    let config = config()?;
    let files = match &arguments.coverage {
        Some(folder) => bodies_in(folder)?,
        None => arguments.files.clone(),
    };
    let accounts: Vec<_> = read(&files)?
        .iter()
        .map(|(name, body)| account::of(name, body, &config.rules))
        .collect();
    let all_mapped = accounts.iter().all(|account| account.outcome.is_settled());
    let shown = if arguments.coverage.is_some() {
        let coverage = coverage::of(&accounts);
        if arguments.json {
            text::json(&coverage)
        } else {
            text::coverage(&coverage)
        }
    } else if arguments.json {
        accounts.iter().map(text::json).collect()
    } else {
        let told: Vec<_> = accounts.iter().map(text::account).collect();
        told.join("\n")
    };
    Ok((shown, all_mapped))
}

fn config() -> Result<Config, Refused> {
    let settings = settings::read(environment);
    if let Some(note) = settings.note() {
        eprintln!("explain: {note}");
    }
    let config = settings.config.map_err(|mistakes| {
        mistakes
            .iter()
            .map(ToString::to_string)
            .collect::<Refused>()
    })?;
    for warning in &config.warnings {
        eprintln!("explain: {warning}");
    }
    Ok(config)
}

/// Every file's name and content.
fn read(files: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>, Refused> {
    let mut bodies = Vec::new();
    let mut refused = Vec::new();
    for file in files {
        let name = file.display().to_string();
        match std::fs::read(file) {
            Ok(body) => bodies.push((name, body)),
            Err(error) => refused.push(format!("{name}: {error}")),
        }
    }
    if refused.is_empty() {
        Ok(bodies)
    } else {
        Err(refused)
    }
}

/// The `.json` files of a folder, by name, without those of its subfolders.
fn bodies_in(folder: &Path) -> Result<Vec<PathBuf>, Refused> {
    let told = |error: std::io::Error| vec![format!("{}: {error}", folder.display())];
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(told)? {
        let path = entry.map_err(told)?.path();
        let is_json = path.extension().is_some_and(|end| end == "json");
        if is_json && path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(vec![format!("{}: holds no .json file", folder.display())]);
    }
    files.sort();
    Ok(files)
}
