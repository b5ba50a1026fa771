//! Asks AWS by its own command line, which signs with whatever profile or single sign-on the user has.
//! It does not know what the answers mean.

use crate::finding::{Check, Findings};
use crate::tools;
use indicatif::ProgressBar;
use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::Command;

const PATIENCE: Duration = Duration::from_mins(1);
/// Codes that speak of the caller, not of what was asked for.
const CALLERS: [&str; 9] = [
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
    "AuthFailure",
    "InvalidAccessKeyId",
];

/// AWS, as far as the user may ask it.
pub struct Aws {
    progress: ProgressBar,
    /// Whether nothing more can be had.
    lost: bool,
}

enum Failure {
    /// There is no such program.
    NoCli(String),
    /// Nothing that is asked will be answered.
    NoAccess(String),
    /// This was not.
    Refused { code: String, message: String },
}

impl Aws {
    /// Finds out who the user is; whatever is asked after a failure has no answer.
    pub async fn open(progress: ProgressBar, findings: &mut Findings) -> Self {
        let mut aws = Self {
            progress,
            lost: false,
        };
        let who = ["sts", "get-caller-identity"];
        if let Some(who) = aws.ask(Check::AwsAccess, &who, findings).await {
            let who = who["Arn"].as_str().unwrap_or_default().to_owned();
            findings.ok(Check::AwsAccess, format!("AWS answers {who}"));
        }
        aws
    }

    /// Runs one command of the AWS CLI; a failure is told as a finding of `check`.
    pub async fn ask(
        &mut self,
        check: Check,
        arguments: &[&str],
        findings: &mut Findings,
    ) -> Option<Value> {
        if self.lost {
            return None;
        }
        let command = arguments[..2].join(" ");
        self.progress.set_message(format!("aws {command}"));
        match run(arguments).await {
            Ok(answer) => return Some(answer),
            Err(Failure::NoCli(error)) => {
                self.lost = true;
                findings.error(
                    Check::AwsAccess,
                    format!("the AWS CLI cannot be run: {error}"),
                    "install it (https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html), or name it in AWS_CLI",
                );
            }
            Err(Failure::NoAccess(message)) => {
                self.lost = true;
                let fix = if message.contains("onnect") || message.contains("in time") {
                    "check this machine's network and proxy, and that AWS_REGION names a region"
                } else {
                    "sign in (`aws sso login` or `aws configure`), and choose profile and region with AWS_PROFILE and AWS_REGION"
                };
                findings.error(Check::AwsAccess, format!("aws {command}: {message}"), fix);
            }
            Err(Failure::Refused { code, message }) => {
                let fix = if code.contains("AccessDenied") || code.contains("Unauthorized") {
                    "your AWS user needs this read permission; an administrator can give it, or run it for you"
                } else {
                    "check the name, and that profile and region (AWS_PROFILE, AWS_REGION) are those of the deployment"
                };
                findings.error(check, format!("aws {command}: {code}: {message}"), fix);
            }
        }
        None
    }
}

async fn run(arguments: &[&str]) -> Result<Value, Failure> {
    let mut command = Command::new(tools::aws_cli());
    command
        .args(arguments)
        .args(["--output", "json"])
        .args(["--cli-connect-timeout", "10", "--cli-read-timeout", "20"])
        .env("AWS_PAGER", "")
        .env("AWS_CLI_AUTO_PROMPT", "off")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // Named alike by every other tool, but not by the AWS CLI 1.
    if let Ok(region) = std::env::var("AWS_REGION") {
        command.env("AWS_DEFAULT_REGION", region);
    }
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .map_err(|_| Failure::NoAccess("no answer in time".to_owned()))?
        .map_err(|error| Failure::NoCli(error.to_string()))?;
    if output.status.success() {
        return serde_json::from_slice(&output.stdout)
            .map_err(|_| Failure::NoAccess("its answer is not JSON".to_owned()));
    }
    Err(failure(&String::from_utf8_lossy(&output.stderr)))
}

/// The CLI says `An error occurred (Code) when calling the Operation operation: message`.
fn failure(said: &str) -> Failure {
    let line = said.lines().rfind(|line| !line.trim().is_empty());
    let line = line.unwrap_or("it failed without a word").trim();
    let parts = line
        .split_once("An error occurred (")
        .and_then(|(_, rest)| {
            let (code, rest) = rest.split_once(')')?;
            Some((
                code,
                rest.split_once(": ").map_or(rest, |(_, message)| message),
            ))
        });
    match parts {
        Some((code, _)) if CALLERS.contains(&code) => Failure::NoAccess(line.to_owned()),
        Some((code, message)) => Failure::Refused {
            code: code.to_owned(),
            message: message.to_owned(),
        },
        None => Failure::NoAccess(line.to_owned()),
    }
}
