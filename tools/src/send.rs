//! Sends raw webhook bodies, signed as Purchasely signs them, or prints the event that API Gateway
//! would make of one. It does not know what the receiver does with them.

mod webhook;

use clap::Parser;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use webhook::{Front, SAMPLE_SHARED_SECRET, Webhook, http_client};

/// Purchasely waits this long for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Signs webhook bodies and posts them, or prints them as API Gateway events.
///
/// Exit codes: 0, every body was answered with 200 (or printed); 1, at least one was not; 2, the
/// command line or a file cannot be used.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --example send -- events/TRIAL_STARTED.json --to http://localhost:9000/webhooks/purchasely
  cargo run --example send -- events/TRIAL_STARTED.json --envelope http-api > event.json")]
struct Arguments {
    /// Files that each hold one raw body.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Where to post them.
    #[arg(long, required_unless_present = "envelope")]
    to: Option<String>,
    /// Print the event of this front instead of posting.
    #[arg(long, value_enum, conflicts_with = "to")]
    envelope: Option<Front>,
    /// Purchasely's client shared secret; by default the sandbox's.
    #[arg(long, env = "PURCHASELY_SHARED_SECRET", default_value = SAMPLE_SHARED_SECRET, hide_env_values = true)]
    secret: String,
    /// Sign as at this time, in Unix seconds, instead of now.
    #[arg(long)]
    at: Option<u64>,
    /// Print one JSON object per body.
    #[arg(long)]
    json: bool,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let client = http_client().map(|client| client.timeout(PATIENCE).build());
    let Ok(Ok(http)) = client else {
        eprintln!("send: no HTTP client could be made");
        return ExitCode::FAILURE;
    };
    let mut all_received = true;
    for file in &arguments.files {
        let body = match std::fs::read(file) {
            Ok(body) => body,
            Err(error) => {
                eprintln!("send: {}: {error}", file.display());
                return ExitCode::from(2);
            }
        };
        let signed_at = arguments.at.unwrap_or_else(now_seconds);
        let webhook = Webhook::new(body, &arguments.secret, signed_at);
        if let Some(front) = arguments.envelope {
            println!("{:#}", webhook.envelope(front));
            continue;
        }
        let url = arguments.to.as_deref().unwrap_or_default();
        let (status, answer) = match webhook.post(&http, url).await {
            Ok((status, answer)) => (Some(status), answer),
            Err(error) => (None, format!("no answer: {error}")),
        };
        all_received &= status == Some(200);
        let name = file.display();
        if arguments.json {
            println!(
                "{}",
                json!({ "file": name.to_string(), "status": status, "answer": answer })
            );
        } else {
            let status = status.map_or_else(|| "---".to_owned(), |status| status.to_string());
            println!("{status}  {name}  {answer}");
        }
    }
    if all_received {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn now_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
