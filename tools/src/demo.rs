//! `cargo relay demo`: sends every sample webhook to the function on this machine and prints what CleverTap accepted.
//! It does not know what the records should be: the stand-in CleverTap only refuses what CleverTap would.

use crate::files::json_files;
use crate::stand_ins::{Delivery, Kind, StandIns, describe, json_lines, user};
use crate::{Interruption, Unusable};
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use testkit::harness::now_seconds;
use testkit::lambda::{Function, RuntimeApi};
use testkit::process::find_built;
use testkit::webhook::{Front, SAMPLE_SHARED_SECRET, Webhook};

/// What the function prints.
const LOG: &str = "target/demo.log";

/// Relay every sample webhook to a stand-in CleverTap and show what it accepted.
///
/// Starts CleverTap, Secrets Manager and the function on free ports of this machine, and ends them again. Cargo builds
/// the function first, if it must. Exit code 1: at least one webhook was not relayed.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay demo
  cargo relay demo --delivery queue
  cargo relay demo --events my-webhooks --json")]
pub struct Options {
    /// Folder of `.json` files that each contain one raw body.
    #[arg(long, value_name = "FOLDER", default_value = "events")]
    events: PathBuf,
    /// Whether the function relays a webhook before it answers, or puts it into a queue.
    #[arg(long, default_value = "direct")]
    delivery: Delivery,
    /// Print one JSON object per webhook.
    #[arg(long)]
    json: bool,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let samples = samples(&options.events)?;
    let function = find_built("purchasely-clevertap")?;
    let mut interruption = Interruption::new()?;
    let stand_ins = StandIns::start(0, 0, options.delivery).await?;
    let api = RuntimeApi::start().await;
    let function = Function::spawn(function, &api, &stand_ins.variables());
    let result = tokio::select! {
        result = send_all(&samples, options.json, &stand_ins, &api) => result,
        () = interruption.wait() => Ok(Interruption::exit_code()),
    };
    let log = fs::create_dir_all("target")
        .and_then(|()| fs::write(LOG, function.log().join("\n") + "\n"));
    log.map_err(|error| format!("{LOG}: {error}"))?;
    result
}

async fn send_all(
    samples: &[PathBuf],
    as_json: bool,
    stand_ins: &StandIns,
    api: &RuntimeApi,
) -> Result<ExitCode, Unusable> {
    let mut all_relayed = true;
    let mut all_accepted = Vec::new();
    for path in samples {
        let body = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let webhook = Webhook::new(body, SAMPLE_SHARED_SECRET, now_seconds());
        let started = Instant::now();
        let answer = api
            .invoke(webhook.envelope(Front::HttpApi))
            .await
            .map_err(|error| format!("the function does not answer: {error}; see {LOG}"))?;
        let milliseconds = started.elapsed().as_millis();
        let (status, answer) = (&answer["statusCode"], answer["body"].as_str().unwrap_or_default());
        stand_ins.deliver_queued(async |batch| api.invoke(batch).await).await;
        let accepted = stand_ins.clevertap.accepted().split_off(all_accepted.len());
        all_relayed &= *status == 200 && !accepted.is_empty();
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        if as_json {
            println!(
                "{}",
                json!({
                    "file": file, "status": status, "milliseconds": milliseconds,
                    "answer": answer, "accepted": accepted,
                })
            );
        } else {
            let user = accepted.first().map_or("", user);
            let records = if accepted.is_empty() {
                answer.to_owned()
            } else {
                in_words(&accepted, &file)
            };
            println!("{status}  {file:<47}  {milliseconds:>4} ms  {user:<6}  {records}");
        }
        all_accepted.extend(accepted);
    }
    if !as_json {
        for kind in [Kind::Profile, Kind::Event, Kind::Revenue] {
            if let Some(last) = all_accepted.iter().rfind(|record| Kind::of(record) == kind) {
                println!("\n{}", json_lines(last));
            }
        }
        let (webhooks, records) = (samples.len(), all_accepted.len());
        println!("\n{webhooks} webhooks sent, {records} records accepted. Log: {LOG}");
    }
    Ok(if all_relayed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The records of one webhook, aligned; the event's name only where the file does not have it.
fn in_words(records: &[Value], file: &str) -> String {
    let mut records: Vec<&Value> = records.iter().collect();
    records.sort_by_key(|record| Kind::of(record));
    let name = format!("event {} ", file.trim_end_matches(".json"));
    let words = records.into_iter().map(|record| describe(record).replace(&name, "event "));
    words.collect::<Vec<_>>().join(", ")
}

fn samples(folder: &Path) -> Result<Vec<PathBuf>, Unusable> {
    let name = folder.display();
    let files = json_files(folder).map_err(|error| format!("{name}: {error}"))?;
    if files.is_empty() {
        return Err(format!("{name}: no .json files").into());
    }
    Ok(files)
}
