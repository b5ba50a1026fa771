//! `cargo relay replay`: sends saved webhooks again, to the function's URL or to its event queue.
//! It does not know what happens to them there, beyond the answer.

mod destination;
mod run;
mod saved;
mod state;

use crate::Unusable;
use destination::Destination;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::Url;
use run::{End, Outcome, Run, Summary};
use saved::Saved;
use serde_json::{Value, json};
use state::State;
use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

const INTERRUPTED: u8 = 130;

/// Send saved webhooks again, one after another, in the order in which they happened.
///
/// CleverTap receives the events but no profile, because older events would overwrite newer properties
/// (`--profiles` sends profiles, too). A failed event is sent again a few times; if it still fails, it blocks
/// that user's later events. Delivered events are written to a state file, and the same command continues with
/// the rest.
///
/// To the function's URL, webhooks are signed with the secret in `PURCHASELY_SHARED_SECRET`. To the event queue
/// (by its URL), they are sent with the AWS credentials of the environment or of a profile; for credentials of
/// another kind run `eval "$(aws configure export-credentials --format env)"` first. SQS drops a copy of an event
/// that it received within the last five minutes, and the event counts as queued.
///
/// Exit code 1: at least one event is not delivered.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay replay saved.ndjson --dry-run
  PURCHASELY_SHARED_SECRET=... cargo relay replay saved.ndjson --to https://abc123.execute-api.eu-west-1.amazonaws.com/webhooks/purchasely
  cargo relay replay saved/ --to https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo --rate 50
  cargo relay replay events/ --to http://localhost:9000/webhooks/purchasely --restart")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option of the command line")]
pub struct Options {
    /// Files with one webhook per line, an array of webhooks or one webhook; folders of `.json` files.
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// The function's URL, or the URL of its event queue.
    #[arg(long, value_name = "URL", required_unless_present = "dry_run", value_parser = http_url)]
    to: Option<Url>,
    /// `--to` is a queue, although its URL does not look like one.
    #[arg(long)]
    queue: bool,
    /// Update profiles, too, as if each event came for the first time.
    #[arg(long)]
    profiles: bool,
    /// Attempts per second, at most.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// How often a failed event is sent again.
    #[arg(long, value_name = "N", default_value_t = 4)]
    retries: u32,
    /// The state file; by default beside the first FILE, as `<FILE>.replay`.
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,
    /// Forget what was delivered before.
    #[arg(long)]
    restart: bool,
    /// Send nothing; print what would be sent, in order.
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let events = saved::read(&options.inputs).map_err(Unusable)?;
    let timeless = events.iter().filter(|event| event.created_at_ms.is_none());
    let timeless = timeless.count();
    if timeless > 0 {
        eprintln!("note: {timeless} events have no event_created_at; they come last");
    }
    let state_path = options.state.clone();
    let state_path = state_path.unwrap_or_else(|| state::beside(&options.inputs[0]));
    let Some(url) = options.to.clone().filter(|_| !options.dry_run) else {
        let receiver = options.to.as_ref().map(receiver);
        let state = if options.restart {
            State::default()
        } else {
            State::peek(&state_path, receiver.as_deref())?
        };
        let plan = plan(&events, &state, options.json);
        // A reader that stops early, such as `head`, is not an error.
        let _ = std::io::stdout().write_all(plan.as_bytes());
        return Ok(ExitCode::SUCCESS);
    };
    let receiver = receiver(&url);
    let destination = Destination::new(url, options.queue, options.profiles).await?;
    let mut state = State::open(&state_path, &receiver, options.restart)?;

    let bar = progress_bar(events.len());
    let stop = stop_at_ctrl_c(bar.clone());
    let report = |event: &Saved, outcome: &Outcome| {
        if let Outcome::Failed(failure) = outcome {
            bar.suspend(|| eprintln!("{}: {outcome}: {}", event.source, failure.detail));
        }
        bar.inc(1);
    };
    let mut run = Run::new(&destination, options.rate, options.retries, stop);
    let (summary, end) = run.send_all(&events, &mut state, report).await;
    bar.finish_and_clear();

    let state = state_path.display().to_string();
    let (word, why) = match &end {
        End::Complete => ("complete", None),
        End::Interrupted => ("interrupted", None),
        End::GaveUp(why) => ("gave_up", Some(why.clone())),
        End::StateLost(error) => {
            let why = format!("{state}: {error}; the last event was sent but is not in it");
            ("state_lost", Some(why))
        }
    };
    if options.json {
        let (outcomes, undelivered) = (&summary.outcomes, summary.undelivered);
        let result = json!({
            "to": receiver, "events": events.len(), "outcomes": outcomes, "undelivered": undelivered,
            "ended": word, "why": why, "state": state,
        });
        println!("{result}");
    } else {
        print!("{}", summary.table());
    }
    if let Some(why) = why {
        eprintln!("error: {why}");
    }
    if summary.undelivered > 0 {
        eprintln!(
            "note: run the same command without --restart to send the rest; {state} lists what is delivered"
        );
    }
    Ok(match end {
        End::Interrupted => ExitCode::from(INTERRUPTED),
        End::StateLost(_) => ExitCode::from(2),
        End::Complete | End::GaveUp(_) => ExitCode::from(u8::from(summary.undelivered > 0)),
    })
}

/// What would be sent, in order.
fn plan(events: &[Saved], state: &State, as_json: bool) -> String {
    let mut summary = Summary::default();
    let mut lines = Vec::new();
    let mut order = Vec::<Value>::new();
    let mut seen = HashSet::new();
    for event in events {
        let skipped = state.contains(&event.key()) || !seen.insert(event.key());
        let outcomes = [Outcome::NotSent, Outcome::Skipped];
        summary.add(&outcomes[usize::from(skipped)]);
        let created_at = event.created_at_ms.and_then(iso8601);
        lines.push(format!(
            "{:<24}  {:<42}  {}{}\n",
            created_at.as_deref().unwrap_or("no time"),
            event.name.as_deref().unwrap_or("(not an event)"),
            event.source,
            if skipped { "  (skipped)" } else { "" },
        ));
        order.push(json!({
            "source": event.source, "event_name": event.name, "event_id": event.id,
            "event_created_at": created_at, "skipped": skipped,
        }));
    }
    if as_json {
        let (events, outcomes) = (events.len(), &summary.outcomes);
        let plan =
            json!({ "dry_run": true, "events": events, "outcomes": outcomes, "order": order });
        format!("{plan}\n")
    } else {
        format!("{}\n{}", lines.concat(), summary.table())
    }
}

fn iso8601(milliseconds: i64) -> Option<String> {
    let nanoseconds = i128::from(milliseconds) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
    time.format(&Rfc3339).ok()
}

/// The receiver's name in the state file: its URL without user and password.
fn receiver(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for a URL without a host, which HTTP does not have.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Visible on a terminal only.
fn progress_bar(events: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left");
    let target = ProgressDrawTarget::stderr();
    ProgressBar::with_draw_target(u64::try_from(events).ok(), target)
        .with_style(style.expect("a valid template"))
}

/// After the first Ctrl-C the current attempt ends normally; the second ends the process.
fn stop_at_ctrl_c(bar: ProgressBar) -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_err() {
            return;
        }
        bar.suspend(|| eprintln!("note: stops after the current event"));
        let _ = stop.send(true);
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
    stopped
}

fn http_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err("not an http or https URL".to_owned())
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("not a number from 0.001 to 10000".to_owned()),
    }
}
