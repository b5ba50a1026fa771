//! `cargo relay replay`: sends saved webhooks again, to the function's URL or to its event queue.
//! It does not know what happens to them there, beyond the answer.

mod filter;
mod run;
mod state;

use crate::destination::{Destination, Settled, endpoint};
use crate::saved::{Input, NO_WEBHOOK, Saved, iso8601, read};
use crate::{Unusable, print};
use filter::Filter;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use reqwest::Url;
use run::{End, Outcome, Run, Summary};
use serde_json::{Value, json};
use state::{Replay, State};
use std::collections::HashSet;
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::sync::watch;

const INTERRUPTED: u8 = 130;

/// Send saved webhooks again, one after another, in the order in which they happened.
///
/// FILEs contain webhooks, or dead letters as `aws sqs receive-message` prints them: of a dead letter, only the
/// `records` that it names are sent. CleverTap receives the events but no profile, because older events would
/// overwrite newer properties (`--profiles` sends profiles, too). A failed event is sent again a few times; if it
/// still fails, it blocks that user's later events. Settled events are written to a state file, and the same
/// events continue with the rest.
///
/// To the function's URL, webhooks are signed with the secret in `PURCHASELY_SHARED_SECRET`, which is asked for on
/// a terminal. To the event queue (by its URL), they are sent with the AWS credentials of the environment or of a
/// profile; for credentials of another kind run `eval "$(aws configure export-credentials --format env)"` first.
///
/// Exit codes: 0, all events are delivered, or ignored by the function's settings; 1, at least one is
/// dead-lettered or not delivered; 2, nothing could be sent, or the state file could not be written; 130,
/// interrupted.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay replay saved.ndjson --dry-run
  cargo relay replay saved.ndjson --to https://abc123.execute-api.eu-west-1.amazonaws.com/webhooks/purchasely
  cargo relay replay saved/ --to https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo --rate 50
  cargo relay replay letters.json --to https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo
  cargo relay replay saved/ --dry-run --event TRANSACTION_PROCESSED --since 2026-03-01 --until 2026-03-08
  cargo relay replay events/ --to http://localhost:9000/webhooks/purchasely --restart")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of the command line"
)]
pub struct Options {
    /// Files with one webhook per line, an array of webhooks, one webhook or received messages; folders of `.json`
    /// files.
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// The function's URL, or the URL of its event queue: `https`, or `http` on this machine.
    #[arg(long, value_name = "URL", required_unless_present = "dry_run", value_parser = endpoint)]
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
    #[command(flatten)]
    filter: Filter,
    /// Report what is not a webhook and send the rest; otherwise nothing is sent then.
    #[arg(long)]
    skip_invalid: bool,
    /// How often a failed event is sent again. With less than 4, an unfinished attempt may still have its claim of
    /// 10 s at the last one.
    #[arg(long, value_name = "N", default_value_t = 4)]
    retries: u32,
    /// The state file; by default beside FILE, named after the set of events in all FILEs.
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,
    /// Forget what was settled before.
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
    let Input { mut events, invalid } = read(&options.inputs)?;
    // Those of the same millisecond keep the order of the files; those without a time come last.
    events.sort_by_key(|event| event.created_at_ms.unwrap_or(i64::MAX));
    if !invalid.is_empty() && !options.skip_invalid {
        let hint = "nothing was sent; --skip-invalid sends the rest".to_owned();
        return Err(Unusable(invalid.into_iter().chain([hint]).collect()));
    }
    for problem in &invalid {
        eprintln!("note: skipped: {problem}");
    }
    if events.is_empty() {
        return Err(NO_WEBHOOK.to_owned().into());
    }
    let receiver = options.to.as_ref().map(receiver);
    let replay = Replay::new(receiver.clone(), events.iter().map(Saved::key).collect());
    let in_files = events.len();
    events.retain(|event| options.filter.matches(event));
    if events.is_empty() {
        return Err("no event matches --event, --since and --until".to_owned().into());
    }
    let left_out = json!({ "invalid": invalid.len(), "filtered": in_files - events.len() });
    let timeless = events.iter().filter(|event| event.created_at_ms.is_none());
    let timeless = timeless.count();
    if timeless > 0 {
        eprintln!("note: {timeless} events have no event_created_at; they come last");
    }
    let state_path = options.state.clone().unwrap_or_else(|| replay.path(&options.inputs));
    let Some(url) = options.to.clone().filter(|_| !options.dry_run) else {
        let state = if options.restart {
            State::default()
        } else {
            State::peek(&state_path, &replay)?
        };
        print(&plan(&events, &state, left_out, options.json));
        return Ok(ExitCode::SUCCESS);
    };
    let destination = Destination::new(url, options.queue).await?;
    let mut state = State::open(&state_path, &replay, options.restart)?;

    let bar = progress_bar(events.len());
    let stop = stop_at_ctrl_c(bar.clone());
    let report = |event: &Saved, outcome: &Outcome| {
        if let Outcome::Failed(failure) = outcome {
            bar.suspend(|| eprintln!("{}: {outcome}: {}", event.source, failure.detail));
        }
        bar.inc(1);
    };
    let mut run = Run::new(&destination, &options, stop);
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
        let result = json!({
            "to": receiver, "events": events.len(), "ended": word, "why": why, "state": state,
        });
        println!("{}", merged([json!(summary), left_out, result]));
    } else {
        print!("{}", summary.table());
    }
    if let Some(why) = why {
        eprintln!("error: {why}");
    }
    if summary.dead_lettered > 0 {
        eprintln!(
            "note: {} events are in the dead-letter queue; fix the cause and redrive it",
            summary.dead_lettered
        );
    }
    if summary.undelivered > 0 {
        eprintln!(
            "note: run the same command without --restart to send the rest; {state} lists what is settled"
        );
    }
    let is_incomplete = summary.undelivered + summary.dead_lettered > 0;
    Ok(match end {
        End::Interrupted => ExitCode::from(INTERRUPTED),
        End::StateLost(_) => ExitCode::from(2),
        End::Complete | End::GaveUp(_) => ExitCode::from(u8::from(is_incomplete)),
    })
}

/// What would be sent, in order.
fn plan(events: &[Saved], state: &State, left_out: Value, as_json: bool) -> String {
    let mut summary = Summary::default();
    let mut lines = Vec::new();
    let mut order = Vec::<Value>::new();
    let mut seen = HashSet::new();
    for event in events {
        let is_copy = !seen.insert(event.key());
        let settled = state.outcome(&event.key()).or(is_copy.then_some("copy"));
        let is_skipped = settled.is_some();
        summary.add(
            &settled.map_or(Outcome::NotSent, |words| Outcome::Skipped(Settled(words.to_owned()))),
        );
        let created_at = event.created_at_ms.and_then(iso8601);
        lines.push(format!(
            "{:<24}  {:<42}  {}{}\n",
            created_at.as_deref().unwrap_or("no time"),
            event.name.as_deref().unwrap_or("(not an event)"),
            event.source,
            if is_skipped { "  (skipped)" } else { "" },
        ));
        order.push(json!({
            "source": event.source, "event_name": event.name, "event_id": event.id,
            "event_created_at": created_at, "records": event.records(), "skipped": is_skipped,
        }));
    }
    if as_json {
        let (events, outcomes) = (events.len(), &summary.outcomes);
        let plan =
            json!({ "dry_run": true, "events": events, "outcomes": outcomes, "order": order });
        format!("{}\n", merged([left_out, plan]))
    } else {
        format!("{}\n{}", lines.concat(), summary.table())
    }
}

/// One object with the fields of all.
fn merged<const N: usize>(objects: [Value; N]) -> Value {
    let fields = objects.iter().filter_map(Value::as_object).flatten();
    fields.map(|(name, value)| (name.clone(), value.clone())).collect()
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

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("not a number from 0.001 to 10000".to_owned()),
    }
}
