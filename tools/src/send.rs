//! `cargo relay send`: posts webhooks signed as Purchasely signs them, or prints them as events of API Gateway.
//! It does not know what the receiver does with them.

use crate::{Unusable, http_client, secret};
use clap::ValueEnum;
use reqwest::Url;
use serde_json::json;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use testkit::harness::now_seconds;
use testkit::webhook::{Front, SAMPLE_SHARED_SECRET, Webhook};

/// Purchasely waits this long for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Sign webhooks as Purchasely does and post them.
///
/// The secret comes from `PURCHASELY_SHARED_SECRET`. Without it, webhooks for this machine are signed with the
/// secret of `cargo relay dev`, and for another machine the secret is asked for, on a terminal only. Exit code 1:
/// at least one answer was not 200.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay send events/TRIAL_STARTED.json --to http://localhost:9000/
  cargo relay send webhook.json --to https://relay.example.com/webhooks/purchasely    # asks for the secret
  cargo relay send events/TRIAL_STARTED.json --envelope http-api > event.json")]
pub struct Options {
    /// Files that each contain one raw body.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to post them: `https`, or `http` on this machine.
    #[arg(long, value_name = "URL", required_unless_present = "envelope", value_parser = endpoint)]
    to: Option<Url>,
    /// Print the event that API Gateway would invoke the function with, and post nothing.
    #[arg(long, value_enum, conflicts_with = "to")]
    envelope: Option<Envelope>,
    /// Sign with this time instead of the present one.
    #[arg(long, value_name = "UNIX_SECONDS")]
    at: Option<u64>,
    /// Print one JSON object per webhook.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Envelope {
    /// HTTP API or Function URL, payload version 2.0.
    HttpApi,
    /// The same with the body in base64, as for a content type that is not text.
    HttpApiBase64,
    /// REST API, payload version 1.0.
    RestApi,
}

/// Posts every file, even after a failure, so that one run shows all answers.
pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let secret = secret_for(options.to.as_ref())?;
    let signed_at = options.at.unwrap_or_else(now_seconds);
    let webhooks = read(&options.files, &secret, signed_at)?;
    if let Some(envelope) = options.envelope {
        for (_, webhook) in webhooks {
            let event = webhook.envelope(envelope.into());
            if options.json {
                println!("{event}");
            } else {
                println!("{event:#}");
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let http = http_client(TIMEOUT)?;
    let url = options.to.as_ref().map_or("", Url::as_str);
    let mut all_ok = true;
    for (file, webhook) in webhooks {
        let (status, answer) = match webhook.post(&http, url).await {
            Ok((status, answer)) => (Some(status), answer),
            Err(error) => (None, format!("no answer: {}", with_causes(&error))),
        };
        all_ok &= status == Some(200);
        if options.json {
            println!("{}", json!({ "file": file, "status": status, "answer": answer }));
        } else {
            let status = status.map_or_else(|| "---".to_owned(), |status| status.to_string());
            println!("{status}  {file}  {answer}");
        }
    }
    Ok(if all_ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The secret to sign webhooks for this address with. The sample secret is public, so it is the default for this
/// machine only.
pub fn secret_for(to: Option<&Url>) -> Result<String, Unusable> {
    match secret::from_environment() {
        None if to.is_none_or(is_loopback) => Ok(SAMPLE_SHARED_SECRET.to_owned()),
        Some(secret) => Ok(secret),
        None => secret::ask(),
    }
}

/// An address that real events may be sent to: only TLS protects what they say about a user.
pub fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("must be https, or http on a loopback address such as localhost".to_owned()),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Reads all files before anything is sent; every unreadable one is reported.
fn read(
    files: &[PathBuf],
    secret: &str,
    signed_at: u64,
) -> Result<Vec<(String, Webhook)>, Unusable> {
    let (mut webhooks, mut problems) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.display().to_string();
        match std::fs::read(file) {
            Ok(body) => webhooks.push((name, Webhook::new(body, secret, signed_at))),
            Err(error) => problems.push(format!("{name}: {error}")),
        }
    }
    if problems.is_empty() {
        Ok(webhooks)
    } else {
        Err(Unusable(problems))
    }
}

/// reqwest's own message does not say why.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl From<Envelope> for Front {
    fn from(envelope: Envelope) -> Self {
        match envelope {
            Envelope::HttpApi => Self::HttpApi,
            Envelope::HttpApiBase64 => Self::HttpApiBase64,
            Envelope::RestApi => Self::RestApi,
        }
    }
}
