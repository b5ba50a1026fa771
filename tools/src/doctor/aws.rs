//! Runs the AWS CLI, which signs with whatever profile or single sign-on the user has.
//! It does not know what the answers mean.

use super::finding::{Findings, Id};
use indicatif::ProgressBar;
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const COMMAND_TIMEOUT: Duration = Duration::from_mins(1);
/// Parts of error codes that are about the caller, not about the resource.
#[rustfmt::skip]
const CALLER_ERRORS: [&str; 7] = [
    "ExpiredToken", "InvalidClientTokenId", "InvalidSignature", "RequestExpired",
    "SignatureDoesNotMatch", "UnrecognizedClient", "AuthFailure",
];

/// Service, operation and options, the last of which takes a value; and the finding if AWS answers
/// with an error.
pub type Operation = (&'static str, Id);

pub struct Aws {
    pub progress: ProgressBar,
    /// After a failure that every further command would repeat.
    pub is_unusable: bool,
}

pub struct Failure {
    /// AWS's error code; `None` if no command can succeed.
    pub code: Option<String>,
    pub message: String,
}

impl Aws {
    /// Runs one command; `None` after a failure, which is a finding about `name`.
    pub async fn run(
        &mut self,
        (operation, missing): Operation,
        name: &str,
        value: &str,
        findings: &mut Findings,
    ) -> Option<Value> {
        if self.is_unusable {
            return None;
        }
        self.progress.set_message(format!("aws {operation}"));
        let Failure { code, message } =
            match call(&operation.split(' ').chain([value]).collect::<Vec<_>>()).await {
                Ok(answer) => return Some(answer),
                Err(failure) => failure,
            };
        if let Some(code) = code {
            let is_denied = code.contains("AccessDenied") || code.contains("Unauthorized");
            let id = if is_denied { Id::AwsDenied } else { missing };
            findings.add(id, name, format!("{operation}: {code}: {message}"));
        } else {
            self.is_unusable = true;
            findings.add(Id::AwsAccessFailed, "aws", message);
        }
        None
    }
}

/// The AWS CLI that `AWS_CLI` names, else the one in PATH.
pub fn program() -> String {
    let named = std::env::var("AWS_CLI").ok();
    let named = named.filter(|path| !path.is_empty());
    named.unwrap_or_else(|| "aws".to_owned())
}

/// Runs one command. What it prints is JSON, a line of text, or nothing.
pub async fn call(arguments: &[&str]) -> Result<Value, Failure> {
    let mut command = Command::new(program());
    command
        .args(arguments)
        .args(["--output", "json"])
        .args(["--cli-connect-timeout", "10", "--cli-read-timeout", "20"])
        .env("AWS_PAGER", "")
        .env("AWS_CLI_AUTO_PROMPT", "off")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // Version 1 of the AWS CLI reads the region only from the other name, and no endpoint for SQS.
    if let Ok(region) = std::env::var("AWS_REGION") {
        command.env("AWS_DEFAULT_REGION", region);
    }
    if let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL") {
        command.args(["--endpoint-url", &endpoint]);
    }
    let unusable = |message| Failure { code: None, message };
    let output = tokio::time::timeout(COMMAND_TIMEOUT, command.output())
        .await
        .map_err(|_| unusable("no answer within a minute".to_owned()))?
        .map_err(|error| unusable(format!("the AWS CLI cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(failure(&String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.trim())))
}

/// The CLI prints `An error occurred (Code) when calling the Operation operation: message`.
fn failure(stderr: &str) -> Failure {
    let mut lines = stderr.lines().filter(|line| !line.trim().is_empty());
    let answered = lines.clone().find_map(|line| {
        let (code, rest) = line.split_once("An error occurred (")?.1.split_once(')')?;
        let message = rest.split_once(": ").map_or(rest, |(_, message)| message);
        Some((code, message))
    });
    let (code, message) = answered.unwrap_or(("", lines.next_back().unwrap_or("failed")));
    let is_caller = code.is_empty() || CALLER_ERRORS.iter().any(|part| code.contains(part));
    Failure {
        code: (!is_caller).then(|| code.to_owned()),
        message: format!("{} {message}", if is_caller { code } else { "" }).trim().to_owned(),
    }
}
