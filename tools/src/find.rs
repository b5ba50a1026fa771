//! `cargo relay find`: a user's deliveries in the function's log, which names a user by a digest.
//! It does not know what was sent, and nothing that it prints names the user.

use crate::destination::Settled;
use crate::stack::Stack;
use crate::{Unusable, ask, aws, print, secret};
use purchasely_clevertap::aws::secret::Secret;
use purchasely_clevertap::outcome::Outcome;
use purchasely_clevertap::purchasely::signature::user_digest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use testkit::harness::now_seconds;

pub const FUNCTION: &str = "lambda get-function-configuration --function-name";
/// Unlike a query of Logs Insights it costs nothing, and it returns every line; a large log takes it minutes.
const LOG: &str = "logs filter-log-events";
/// The page whose table says what to do about a reason.
const REFERENCE: &str = include_str!("../../docs/reference.md");
const DAY_SECONDS: u64 = 24 * 60 * 60;
const NONE: &str = "No line of the log names this user. Either
  - Purchasely has sent no event of this id: compare it with the user's page in Purchasely's console (a buyer who is not
    signed in has an anonymous id);
  - or every delivery was refused before its user was known: run `relay doctor`, and the saved query `Failures by reason`;
  - or the event is older than --days, than the log's retention, or than both shared secrets in the secret.";

/// Find a user's deliveries in the function's log, and say what to do about each.
///
/// The log names a user by a digest that depends on Purchasely's client shared secret. With `--stack` or `--function`,
/// the secret and the log are read with the AWS CLI and your profile (`AWS_PROFILE`, `AWS_REGION`), which needs
/// `secretsmanager:GetSecretValue` and `logs:FilterLogEvents`; lines from before a change of the secret are found by its
/// previous value. A large log takes minutes: start with few days.
///
/// Without either, only the digests are printed, to search another log for them: with the secret of `--secret-file` or
/// `PURCHASELY_SHARED_SECRET`, which is asked for on a terminal.
///
/// Exit code 1: there is no delivery, or the last one of an event has not settled it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay find u-1842 --stack purchasely-clevertap
  cargo relay find --stack purchasely-clevertap --days 30 < user-id.txt   # the id is not in the shell's history
  cargo relay find u-1842 --secret-file secret.json                       # prints the digests")]
pub struct Options {
    /// The user's id as Purchasely has it: `user_id`, or `anonymous_user_id` of a buyer who is not signed in. Without
    /// it, the id is a line of standard input.
    #[arg(value_name = "USER_ID")]
    user_id: Option<String>,
    /// Search the log of the function of this stack.
    #[arg(long, value_name = "NAME", conflicts_with = "function")]
    stack: Option<String>,
    /// Search the log of this function, deployed without a stack.
    #[arg(long, value_name = "NAME")]
    function: Option<String>,
    /// How far back to search.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u64).range(1..=3653))]
    days: u64,
    /// The JSON of the secret that the function reads.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["stack", "function"])]
    secret_file: Option<PathBuf>,
    /// Print one JSON object; without a log, one per secret.
    #[arg(long)]
    json: bool,
}

/// What is read of a log line.
#[derive(Deserialize, Serialize)]
struct Delivery {
    timestamp: String,
    #[serde(skip_serializing)]
    user: String,
    event_name: Option<String>,
    event_id: Option<String>,
    outcome: String,
    reason: Option<String>,
    message: String,
    #[serde(default)]
    adjusted: Vec<String>,
    #[serde(skip_deserializing)]
    action: Option<String>,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let function = match (&options.stack, &options.function) {
        (Some(stack), _) => Some(Stack::describe(stack).await?.output("FunctionName")?.to_owned()),
        (None, function) => function.clone(),
    };
    let Some(function) = function else {
        return digests(&options).await;
    };
    let answer = aws::ask(FUNCTION, &function).await;
    let answer = answer.map_err(|failure| failure.explain(FUNCTION))?;
    let secret_id = answer["Environment"]["Variables"]["SECRET_ID"].as_str();
    let secret_id = secret_id.ok_or_else(|| format!("{function}: its SECRET_ID cannot be read"))?;
    let stored = secret::read(secret_id).await?.unwrap_or_default();
    let secrets = shared_secrets(&stored, secret_id)?;
    let user_id = user_id(&options)?;
    let users: Vec<_> = secrets.iter().map(|secret| user_digest(secret, &user_id)).collect();
    let default = format!("/aws/lambda/{function}");
    let log_group = answer["LoggingConfig"]["LogGroup"].as_str().unwrap_or(&default);
    let since = now_seconds().saturating_sub(options.days * DAY_SECONDS) * 1000;
    let lines = lines(log_group, &users, since).await?;
    let deliveries = deliveries(&lines, &users);
    let open = open(&deliveries);
    print(&if options.json {
        let meaning = deliveries.is_empty().then_some(NONE);
        let deliveries = json!(deliveries);
        let found = json!({
            "users": users, "log_group": log_group, "days": options.days, "deliveries": deliveries, "open": open, "meaning": meaning,
        });
        format!("{found}\n")
    } else {
        text(&deliveries, &open, options.days)
    });
    Ok(ExitCode::from(u8::from(deliveries.is_empty() || !open.is_empty())))
}

/// Prints the digest for each secret.
async fn digests(options: &Options) -> Result<ExitCode, Unusable> {
    let secrets = match (&options.secret_file, ask::shared_secret_from_environment()) {
        (Some(path), _) => from_file(path).await?,
        (None, Some(secret)) => vec![secret],
        (None, None) => vec![ask::shared_secret()?],
    };
    let user_id = user_id(options)?;
    for (name, secret) in ["current", "previous"].iter().zip(&secrets) {
        let user = user_digest(secret, &user_id);
        if options.json {
            println!("{}", json!({ "user": user, "secret": name }));
        } else {
            println!("{user}  {name} secret");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn user_id(options: &Options) -> Result<String, Unusable> {
    let user_id = options.user_id.clone().map_or_else(|| ask::line("User id in Purchasely"), Ok)?;
    if user_id.is_empty() {
        let problem = "the user id is empty: name it, or write it to standard input";
        return Err(Unusable::from(problem.to_owned()));
    }
    Ok(user_id)
}

async fn from_file(path: &Path) -> Result<Vec<String>, Unusable> {
    let name = path.display().to_string();
    let text = tokio::fs::read_to_string(path).await;
    shared_secrets(&text.map_err(|error| format!("{name}: {error}"))?, &name)
}

/// The current one, then the previous one.
fn shared_secrets(text: &str, source: &str) -> Result<Vec<String>, Unusable> {
    let secret = Secret::parse(text, true).map_err(|invalid| format!("{source}: {invalid}"))?;
    Ok(secret.shared_secrets().map(str::to_owned).collect())
}

/// The log's lines with one of the digests, in the order of their streams.
async fn lines(log_group: &str, users: &[String], since_ms: u64) -> Result<Vec<String>, Unusable> {
    let users: Vec<_> = users.iter().map(|user| format!("($.user = \"{user}\")")).collect();
    let pattern = format!("{{ {} }}", users.join(" || "));
    let since = since_ms.to_string();
    let arguments = [
        "--log-group-name",
        log_group,
        "--start-time",
        &since,
        "--filter-pattern",
        &pattern,
    ];
    let answer = aws::run(LOG, arguments, "").await.map_err(|failure| failure.explain(LOG))?;
    let events = answer["events"].as_array().into_iter().flatten();
    let message = |event: &Value| event["message"].as_str().unwrap_or_default().to_owned();
    Ok(events.map(message).collect())
}

/// In the order in which they ended.
fn deliveries(lines: &[String], users: &[String]) -> Vec<Delivery> {
    let read = |line: &String| {
        let mut delivery: Delivery = serde_json::from_str(line).ok()?;
        delivery.action = delivery.reason.as_deref().and_then(action);
        users.contains(&delivery.user).then_some(delivery)
    };
    let mut deliveries: Vec<_> = lines.iter().filter_map(read).collect();
    deliveries.sort_by(|one, other| one.timestamp.cmp(&other.timestamp));
    deliveries
}

/// The events that their last delivery has not settled, or has made a dead letter.
fn open(deliveries: &[Delivery]) -> Vec<&str> {
    let event = |delivery: &Delivery| delivery.event_id.clone().unwrap_or_default();
    let last: BTreeMap<_, _> = deliveries.iter().map(|it| (event(it), it)).collect();
    let is_open = |delivery: &&&Delivery| {
        let outcome = Settled(delivery.outcome.clone()).outcome();
        matches!(outcome, None | Some(Outcome::DeadLettered(_)))
    };
    let open = last.values().filter(is_open);
    open.map(|delivery| delivery.event_id.as_deref().unwrap_or("(no event_id)"))
        .collect()
}

fn text(deliveries: &[Delivery], open: &[&str], days: u64) -> String {
    if deliveries.is_empty() {
        return format!("{NONE}\n");
    }
    let mut text = String::new();
    for delivery in deliveries {
        let reason = delivery.reason.as_ref().map(|reason| format!(" ({reason})"));
        let _ = writeln!(
            text,
            "{}  {}  {}{}  {}\n  {}",
            delivery.timestamp,
            delivery.event_name.as_deref().unwrap_or("(no name)"),
            delivery.outcome,
            reason.unwrap_or_default(),
            delivery.event_id.as_deref().unwrap_or("(no event_id)"),
            delivery.message,
        );
        if !delivery.adjusted.is_empty() {
            let _ = writeln!(text, "  adjusted: {}", delivery.adjusted.join(", "));
        }
        if let Some(action) = &delivery.action {
            let _ = writeln!(text, "  what to do: {action}");
        }
    }
    let _ = writeln!(text, "\ndeliveries in the last {days} days: {}", deliveries.len());
    if !open.is_empty() {
        let _ = writeln!(text, "not settled: {}", open.join(", "));
    }
    text
}

/// What the page's table of reasons says.
fn action(reason: &str) -> Option<String> {
    let (_, table) = REFERENCE.split_once("<!-- generated: reasons -->")?;
    let (table, _) = table.split_once("<!-- end -->")?;
    let start = format!("| `{reason}` | ");
    let row = table.lines().find(|line| line.starts_with(&start))?;
    let (_, action) = row.trim_end_matches(" |").rsplit_once(" | ")?;
    Some(without_links(action))
}

/// `[text](page.md#part)` as `text (docs/page.md)`.
fn without_links(text: &str) -> String {
    let mut parts = text.split('[');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let link = part.split_once("](").and_then(|(words, rest)| {
            let (target, rest) = rest.split_once(')')?;
            let page = target.split('#').next().filter(|page| !page.is_empty());
            Some(format!("{words} (docs/{}){rest}", page.unwrap_or("reference.md")))
        });
        plain += &link.unwrap_or_else(|| format!("[{part}"));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_table_says_what_to_do_about_a_reason() {
        assert_eq!(action("event_disabled").unwrap(), "None.");
        let unclear = action("unclear").unwrap();
        assert!(unclear.ends_with("see Unclear (docs/operations.md)."), "{unclear}");
        assert_eq!(action("no_such_reason"), None);
        assert_eq!(
            without_links("[a](b.md#c), [x]: [d](#e)."),
            "a (docs/b.md), [x]: d (docs/reference.md)."
        );
    }

    #[test]
    fn an_event_is_open_until_its_last_delivery_has_settled_it() {
        let line = |second: u8, id: &str, outcome: &str| {
            let timestamp = format!("2026-02-03T17:26:{second:02}.000000Z");
            let line = json!({ "timestamp": timestamp, "user": "u", "event_id": id, "outcome": outcome, "message": "" });
            line.to_string()
        };
        let lines = [
            line(2, "late", "relayed"),
            line(1, "late", "unavailable"),
            line(3, "letter", "dead_lettered"),
            line(4, "waits", "waiting"),
            line(5, "waits", "unavailable"),
            line(6, "queued", "queued"),
            json!({ "timestamp": "2026", "message": "started" }).to_string(),
            "REPORT RequestId".to_owned(),
        ];
        let found = deliveries(&lines, &["u".to_owned()]);
        assert_eq!((found.len(), open(&found)), (6, vec!["letter", "waits"]));
        assert_eq!(found[0].outcome, "unavailable");
        assert!(deliveries(&lines, &["another".to_owned()]).is_empty());
    }
}
