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

/// Why there is no answer to what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// AWS's own word for it.
    pub code: String,
    /// What AWS says of it.
    pub message: String,
}

enum Failure {
    /// There is no such program.
    NoCli(String),
    /// Nothing that is asked will be answered.
    NoAccess(String),
    /// This was not.
    Refused(Refused),
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
        let refused = match self.try_ask(arguments, findings).await? {
            Ok(answer) => return Some(answer),
            Err(refused) => refused,
        };
        let Refused { code, message } = &refused;
        let what = format!("aws {}: {code}: {message}", command(arguments));
        if refused.is_denied() {
            findings.warning(
                check,
                what,
                "your AWS user lacks this read permission: an administrator can give it, or run this tool for you",
            );
        } else {
            findings.error(
                check,
                what,
                "check the name, and that profile and region (AWS_PROFILE, AWS_REGION) are those of the deployment",
            );
        }
        None
    }

    /// The same, where a refusal may be an answer. `None` if nothing can be asked; that is told already.
    pub async fn try_ask(
        &mut self,
        arguments: &[&str],
        findings: &mut Findings,
    ) -> Option<Result<Value, Refused>> {
        if self.lost {
            return None;
        }
        let command = command(arguments);
        self.progress.set_message(format!("aws {command}"));
        let (what, fix) = match run(arguments).await {
            Ok(answer) => return Some(Ok(answer)),
            Err(Failure::Refused(refused)) => return Some(Err(refused)),
            Err(Failure::NoCli(error)) => (
                format!("the AWS CLI cannot be run: {error}"),
                "install it (https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html), or name it in AWS_CLI",
            ),
            Err(Failure::NoAccess(message)) => {
                let is_network = ["connect to", "Connect timeout", "in time"];
                let fix = if is_network.iter().any(|words| message.contains(words)) {
                    "check this machine's network and proxy, and that AWS_REGION names a region"
                } else {
                    "sign in (`aws sso login` or `aws configure`), and choose profile and region with AWS_PROFILE and AWS_REGION"
                };
                (format!("aws {command}: {message}"), fix)
            }
        };
        self.lost = true;
        findings.error(Check::AwsAccess, what, fix);
        None
    }
}

impl Refused {
    /// Whether the user may not know, which says nothing of what there is.
    pub fn is_denied(&self) -> bool {
        self.code.contains("AccessDenied") || self.code.contains("Unauthorized")
    }
}

/// What a command is told by: the service and the operation.
fn command(arguments: &[&str]) -> String {
    arguments[..2].join(" ")
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
    const ERROR: &str = "An error occurred (";
    let mut lines = said.lines().filter(|line| !line.trim().is_empty());
    let told = lines.clone().find(|line| line.contains(ERROR));
    let line = told.or_else(|| lines.next_back());
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
        Some((code, message)) => Failure::Refused(Refused {
            code: code.to_owned(),
            message: message.to_owned(),
        }),
        None => Failure::NoAccess(line.to_owned()),
    }
}
