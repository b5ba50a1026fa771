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

/// Service, operation and options, the last of which takes the values; and the finding if AWS
/// answers with an error.
pub type Operation = (&'static str, Id);

pub struct Aws {
    progress: ProgressBar,
    /// After a failure that every further command would repeat.
    is_unusable: bool,
}

/// What there is instead of an answer.
enum Failure {
    /// Nothing that is asked will be answered.
    Access(String),
    Error {
        code: String,
        message: String,
    },
}

impl Aws {
    /// Finds out who the caller is. After a failure no further command is run.
    pub async fn open(progress: ProgressBar, findings: &mut Findings) -> Self {
        let mut aws = Self {
            progress,
            is_unusable: false,
        };
        let operation = ("sts get-caller-identity", Id::AwsAccessFailed);
        if let Some(caller) = aws.run(operation, "aws", &[], findings).await {
            let arn = caller["Arn"].as_str().unwrap_or_default();
            findings.add(Id::AwsAccess, "aws", format!("you are {arn}"));
        }
        aws
    }

    /// Runs one command; `None` after a failure, which is a finding about `name`.
    pub async fn run(
        &mut self,
        (operation, missing): Operation,
        name: &str,
        values: &[&str],
        findings: &mut Findings,
    ) -> Option<Value> {
        if self.is_unusable {
            return None;
        }
        self.progress.set_message(format!("aws {operation}"));
        let (code, message) = match execute(operation, values).await {
            Ok(answer) => return Some(answer),
            Err(Failure::Access(message)) => {
                self.is_unusable = true;
                findings.add(Id::AwsAccessFailed, "aws", message);
                return None;
            }
            Err(Failure::Error { code, message }) => (code, message),
        };
        let is_denied = code.contains("AccessDenied") || code.contains("Unauthorized");
        let id = if is_denied { Id::AwsDenied } else { missing };
        findings.add(id, name, format!("{operation}: {code}: {message}"));
        None
    }
}

/// The AWS CLI that `AWS_CLI` names, else the one in PATH.
pub fn program() -> String {
    let named = std::env::var("AWS_CLI").ok();
    let named = named.filter(|path| !path.is_empty());
    named.unwrap_or_else(|| "aws".to_owned())
}

async fn execute(operation: &str, values: &[&str]) -> Result<Value, Failure> {
    let mut command = Command::new(program());
    command
        .args(operation.split(' '))
        .args(values)
        .args(["--output", "json"])
        .args(["--cli-connect-timeout", "10", "--cli-read-timeout", "20"])
        .env("AWS_PAGER", "")
        .env("AWS_CLI_AUTO_PROMPT", "off")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // Version 1 of the AWS CLI reads only the other name.
    if let Ok(region) = std::env::var("AWS_REGION") {
        command.env("AWS_DEFAULT_REGION", region);
    }
    let output = tokio::time::timeout(COMMAND_TIMEOUT, command.output())
        .await
        .map_err(|_| Failure::Access("no answer within a minute".to_owned()))?
        .map_err(|error| Failure::Access(format!("the AWS CLI cannot be run: {error}")))?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout)
            .map_err(|_| Failure::Access("its output is not JSON".to_owned()));
    }
    Err(failure(&String::from_utf8_lossy(&output.stderr)))
}

/// The CLI prints `An error occurred (Code) when calling the Operation operation: message`.
fn failure(stderr: &str) -> Failure {
    let mut lines = stderr.lines().filter(|line| !line.trim().is_empty());
    let answered = lines.clone().find_map(|line| {
        let (code, rest) = line.split_once("An error occurred (")?.1.split_once(')')?;
        let message = rest.split_once(": ").map_or(rest, |(_, message)| message);
        Some((code.to_owned(), message.to_owned()))
    });
    match answered {
        Some((code, message)) if CALLER_ERRORS.iter().any(|part| code.contains(part)) => {
            Failure::Access(format!("{code}: {message}"))
        }
        Some((code, message)) => Failure::Error { code, message },
        None => Failure::Access(lines.next_back().unwrap_or("failed").trim().to_owned()),
    }
}
