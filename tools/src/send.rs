//! `cargo relay send`: posts webhooks signed as Purchasely signs them, or prints them as events of API Gateway.
//! It does not know what the receiver does with them.

use crate::Unusable;
use crate::destination::{Endpoint, endpoint, secret_for, with_causes};
use crate::saved::read_all;
use clap::ValueEnum;
use reqwest::Url;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use testkit::harness::now_seconds;
use testkit::webhook::{Front, Webhook};

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
    /// Files with one webhook, one per line, an array of webhooks, or received messages; folders of `.json` files.
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

/// Posts every webhook, even after a failure, so that one run shows all answers.
pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let webhooks = read_all(&options.files)?;
    let signed_at = options.at.unwrap_or_else(now_seconds);
    let Some(url) = options.to else {
        let (secret, front) = (secret_for(None)?, options.envelope.map(Front::from));
        for webhook in webhooks {
            let webhook = Webhook::new(webhook.body, &secret, signed_at);
            let event = webhook.envelope(front.unwrap_or(Front::HttpApi));
            if options.json {
                println!("{event}");
            } else {
                println!("{event:#}");
            }
        }
        return Ok(ExitCode::SUCCESS);
    };
    let endpoint = Endpoint::new(url)?;
    let mut all_ok = true;
    for webhook in webhooks {
        let (file, posted) = (webhook.source, endpoint.post(webhook.body, signed_at, None).await);
        let (status, answer) = match posted {
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

impl From<Envelope> for Front {
    fn from(envelope: Envelope) -> Self {
        match envelope {
            Envelope::HttpApi => Self::HttpApi,
            Envelope::HttpApiBase64 => Self::HttpApiBase64,
            Envelope::RestApi => Self::RestApi,
        }
    }
}
