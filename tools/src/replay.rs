//! Sends saved webhooks again: signed anew to the function's HTTP door, or straight to its event
//! queue. It does not know what becomes of them there, beyond the answer.

mod destination;
mod run;
mod saved;
mod state;
mod summary;
#[path = "../send/webhook.rs"]
mod webhook;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use clap::Parser;
use destination::{Destination, Door, Kind, Profiles, Queue, address, kind, receiver, region};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use purchasely_clevertap::aws::http::SharedClient;
use run::{End, Pace, run};
use saved::Saved;
use secrecy::SecretString;
use serde_json::json;
use state::State;
use std::collections::HashSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use summary::{Outcome, Summary};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::sync::watch;

const SECRET: &str = "PURCHASELY_SHARED_SECRET";
const FIRST_WAIT: Duration = Duration::from_millis(500);
const CONNECTING: Duration = Duration::from_secs(5);
const INTERRUPTED: u8 = 130;
/// What requests to an emulator are signed for; it does not care.
const ANY_REGION: &str = "us-east-1";

/// Sends saved webhooks again, one after another, in the order in which they happened.
///
/// The events are marked as replayed: CleverTap gets them, but no profile, which they could only set
/// back. An event that fails is sent again a few times; if it still fails, later events of its user
/// are held. What was acknowledged is kept in a state file, and the same command then goes on with
/// the rest.
///
/// To a URL, events are signed with the secret in `PURCHASELY_SHARED_SECRET`. To a queue (by its
/// URL), they are sent with the AWS credentials of the environment or of a profile; for those that
/// need a browser or a program: `eval "$(aws configure export-credentials --format env)"`. SQS
/// drops what it was sent within the last five minutes, and counts it as queued.
///
/// Exit codes: 0, every event is acknowledged; 1, at least one is not; 2, the command line or a file
/// cannot be used; 130, ended by Ctrl-C.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --example replay -- saved.ndjson --dry-run
  PURCHASELY_SHARED_SECRET=… cargo run --example replay -- saved.ndjson --to https://abc123.execute-api.eu-west-1.amazonaws.com/webhooks/purchasely
  cargo run --example replay -- saved/ --to https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo --rate 50
  PURCHASELY_SHARED_SECRET=sample-shared-secret cargo run --example replay -- events/ --to http://localhost:9000/webhooks/purchasely --restart")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of the command line"
)]
struct Arguments {
    /// Files with one raw body per line (NDJSON), an array of them or a single one; folders of
    /// `.json` files.
    #[arg(required = true, value_name = "FILE")]
    inputs: Vec<PathBuf>,
    /// The function's URL, or that of its event queue.
    #[arg(long, value_name = "URL", required_unless_present = "dry_run")]
    to: Option<String>,
    /// `--to` is a queue, though its URL does not look like one of SQS.
    #[arg(long)]
    queue: bool,
    /// Update profiles, too, as if each event came for the first time.
    #[arg(long)]
    profiles: bool,
    /// At most so many attempts per second.
    #[arg(long, value_name = "N", default_value_t = 10.0, value_parser = rate)]
    rate: f64,
    /// How often an event that fails is sent again.
    #[arg(long, value_name = "N", default_value_t = 4)]
    retries: u32,
    /// Where to keep what was acknowledged; by default beside the first FILE, as `<FILE>.replay`.
    #[arg(long, value_name = "PATH")]
    state: Option<PathBuf>,
    /// Forget what was acknowledged before.
    #[arg(long)]
    restart: bool,
    /// Send nothing; print what would be sent, in order.
    #[arg(long)]
    dry_run: bool,
    /// Print the summary as one JSON object.
    #[arg(long)]
    json: bool,
}

/// What was wrong before anything was sent, each in a line.
type Refused = Vec<String>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    replay(&arguments).await.unwrap_or_else(|refused| {
        for line in refused {
            eprintln!("replay: {line}");
        }
        ExitCode::from(2)
    })
}

async fn replay(arguments: &Arguments) -> Result<ExitCode, Refused> {
    let to = arguments.to.as_deref().map(address).transpose();
    let to = to.map_err(|error| vec![error.to_string()])?;
    let events = saved::in_order(saved::read(&arguments.inputs)?);
    let timeless = events
        .iter()
        .filter(|event| event.created_at_ms.is_none())
        .count();
    if timeless > 0 {
        eprintln!("replay: {timeless} of the events have no event_created_at; they come last");
    }
    let state_path = arguments.state.clone();
    let state_path = state_path.unwrap_or_else(|| state::beside(&arguments.inputs[0]));
    let told = |error: state::Unusable| vec![format!("{}: {error}", state_path.display())];
    let Some(url) = to.clone().filter(|_| !arguments.dry_run) else {
        let to = to.as_ref().map(receiver);
        let state = if arguments.restart {
            State::empty()
        } else {
            State::peek(&state_path, to.as_deref()).map_err(told)?
        };
        let shown = order(&events, &state, arguments.json);
        // A reader that has seen enough, such as `head`, is no failure.
        let _ = std::io::stdout().write_all(shown.as_bytes());
        return Ok(ExitCode::SUCCESS);
    };
    let receiver = receiver(&url);
    let destination = destination(arguments, url).await?;
    let state = if arguments.restart {
        State::restart(&state_path, &receiver)
    } else {
        State::resume(&state_path, &receiver)
    };
    let mut state = state.map_err(told)?;

    let bar = progress_bar(events.len());
    let interrupted = stop_at_ctrl_c(bar.clone());
    let pace = Pace {
        between: Duration::from_secs_f64(1.0 / arguments.rate),
        retries: arguments.retries,
        first_wait: FIRST_WAIT,
    };
    let mut tell = |event: &Saved, outcome: &Outcome, trouble: Option<&str>| {
        if let Some(trouble) = trouble {
            bar.suspend(|| eprintln!("replay: {}: {outcome}: {trouble}", event.source));
        }
        bar.inc(1);
    };
    let (summary, end) = run(
        &events,
        &destination,
        &mut state,
        pace,
        interrupted,
        &mut tell,
    )
    .await;
    bar.finish_and_clear();

    let ran = Ran {
        receiver,
        events: events.len(),
        summary,
        end,
        state: state_path.display().to_string(),
    };
    ran.tell(arguments.json);
    Ok(ran.exit_code())
}

async fn destination(arguments: &Arguments, url: reqwest::Url) -> Result<Destination, Refused> {
    let http = webhook::http_client()
        .map_err(|error| vec![format!("no HTTP client: {error}")])?
        .connect_timeout(CONNECTING)
        .build()
        .map_err(|error| vec![format!("no HTTP client: {error}")])?;
    let profiles = if arguments.profiles {
        Profiles::Updated
    } else {
        Profiles::Untouched
    };
    let kind = if arguments.queue {
        Kind::Queue
    } else {
        kind(&url).map_err(|error| vec![error.to_string()])?
    };
    if kind == Kind::Queue {
        return Ok(Destination::Queue(Queue::new(
            &aws_config(http, &url).await,
            url,
            profiles,
        )));
    }
    let secret = std::env::var(SECRET).unwrap_or_default();
    if secret.is_empty() {
        return Err(vec![format!(
            "{SECRET} is not set: webhooks are signed with it (in the sandbox: sample-shared-secret)"
        )]);
    }
    Ok(Destination::Door(Door {
        http,
        url,
        secret: SecretString::from(secret),
        profiles,
    }))
}

/// The region of the queue, and credentials from the usual places but those that need a program or a
/// browser.
async fn aws_config(http: reqwest::Client, queue: &reqwest::Url) -> SdkConfig {
    let from_environment = || {
        let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"];
        variables.iter().find_map(|name| std::env::var(name).ok())
    };
    let region = region(queue).map(str::to_owned).or_else(from_environment);
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(SharedClient(http))
        .region(Region::new(region.unwrap_or_else(|| ANY_REGION.to_owned())))
        .load()
        .await
}

/// The order, and what would be skipped.
fn order(events: &[Saved], state: &State, as_json: bool) -> String {
    let mut summary = Summary::default();
    let mut lines = String::new();
    let mut order = Vec::new();
    let mut seen = HashSet::new();
    for event in events {
        let skipped = state.holds(&event.key()) || !seen.insert(event.key());
        summary.add(if skipped {
            Outcome::Skipped
        } else {
            Outcome::NotSent
        });
        let created_at = event.created_at_ms.and_then(iso8601);
        let _ = writeln!(
            lines,
            "{:<24}  {:<42}  {}{}",
            created_at.as_deref().unwrap_or("no time"),
            event.name.as_deref().unwrap_or("(not a readable event)"),
            event.source,
            if skipped { "  (skipped)" } else { "" },
        );
        order.push(json!({
            "source": event.source,
            "event_name": event.name,
            "event_id": event.id,
            "event_created_at": created_at,
            "skipped": skipped,
        }));
    }
    if as_json {
        let summary = json!({
            "dry_run": true,
            "events": events.len(),
            "outcomes": summary.json(),
            "order": order,
        });
        format!("{summary}\n")
    } else {
        format!("{lines}\n{}", summary.table())
    }
}

fn iso8601(milliseconds: i64) -> Option<String> {
    let nanoseconds = i128::from(milliseconds) * 1_000_000;
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?;
    moment.format(&Rfc3339).ok()
}

/// On a terminal only; it says so itself otherwise by staying hidden.
fn progress_bar(events: usize) -> ProgressBar {
    let template = "{bar:30} {pos}/{len}, {eta} left";
    let style = ProgressStyle::with_template(template).expect("it is a template");
    let events = u64::try_from(events).unwrap_or(u64::MAX);
    ProgressBar::with_draw_target(Some(events), ProgressDrawTarget::stderr()).with_style(style)
}

/// The first Ctrl-C lets the attempt under way end, the second does not.
fn stop_at_ctrl_c(bar: ProgressBar) -> watch::Receiver<bool> {
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_err() {
            return;
        }
        bar.suspend(|| eprintln!("replay: ends after the event under way"));
        let _ = stop.send(true);
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(i32::from(INTERRUPTED));
        }
    });
    stopped
}

/// A run that has ended.
struct Ran {
    receiver: String,
    events: usize,
    summary: Summary,
    end: End,
    state: String,
}

impl Ran {
    /// Prints the summary and, if something is left, how to go on.
    fn tell(&self, as_json: bool) {
        let Self {
            receiver,
            events,
            summary,
            end,
            state,
        } = self;
        if as_json {
            let (ended, why) = match end {
                End::Complete => ("complete", None),
                End::Interrupted => ("interrupted", None),
                End::GaveUp(why) => ("gave_up", Some(why)),
                End::StateLost(why) => ("state_lost", Some(why)),
            };
            let summary = json!({
                "to": receiver,
                "events": events,
                "outcomes": summary.json(),
                "ended": ended,
                "why": why,
                "state": state,
            });
            println!("{summary}");
        } else {
            print!("{}", summary.table());
        }
        match end {
            End::Complete => {}
            End::Interrupted => eprintln!("replay: interrupted"),
            End::GaveUp(why) => eprintln!("replay: stopped: {why}"),
            End::StateLost(why) => {
                eprintln!(
                    "replay: stopped: {state}: {why}; the last event was sent and is not in it"
                );
            }
        }
        if !summary.all_acknowledged() {
            eprintln!(
                "replay: the same command (without --restart) goes on with what is left; {state} holds what was acknowledged"
            );
        }
    }

    fn exit_code(&self) -> ExitCode {
        match self.end {
            End::StateLost(_) => ExitCode::from(2),
            End::Interrupted => ExitCode::from(INTERRUPTED),
            End::Complete | End::GaveUp(_) if self.summary.all_acknowledged() => ExitCode::SUCCESS,
            End::Complete | End::GaveUp(_) => ExitCode::FAILURE,
        }
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.001..=10_000.0).contains(&rate) => Ok(rate),
        _ => Err("a number from 0.001 to 10000".to_owned()),
    }
}
