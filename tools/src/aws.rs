//! Runs the AWS CLI, which signs with whatever profile or single sign-on the user has.
//! It does not know what the answers mean.

use serde_json::Value;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// Where the AWS CLI finds a value that must not be among its arguments.
pub const STANDARD_INPUT: &str = "file:///dev/stdin";
const TIMEOUT: Duration = Duration::from_mins(10);
/// Parts of error codes that are about the caller, not about the resource.
#[rustfmt::skip]
const CALLER_ERRORS: [&str; 7] = [
    "ExpiredToken", "InvalidClientTokenId", "InvalidSignature", "RequestExpired",
    "SignatureDoesNotMatch", "UnrecognizedClient", "AuthFailure",
];

pub struct Failure {
    /// AWS's error code; `None` if no command can succeed.
    pub code: Option<String>,
    pub message: String,
}

impl Failure {
    pub fn explain(self, operation: &str) -> String {
        match self.code {
            Some(code) => format!("{operation}: {code}: {}", self.message),
            None => self.message,
        }
    }
}

/// The AWS CLI that `AWS_CLI` names, else the one in PATH.
pub fn program() -> String {
    let named = std::env::var("AWS_CLI").ok();
    let named = named.filter(|path| !path.is_empty());
    named.unwrap_or_else(|| "aws".to_owned())
}

/// Runs an operation: its service, its name, options, and the value of the last one.
pub async fn ask(operation: &str, value: &str) -> Result<Value, Failure> {
    run(operation, [value], "").await
}

/// Runs an operation: its service, its name and options, then more arguments. No argument may be a secret, because
/// other processes can read it; `input` may.
pub async fn run<'a>(
    operation: &str,
    arguments: impl IntoIterator<Item = &'a str>,
    input: &str,
) -> Result<Value, Failure> {
    let mut command = Command::new(program());
    command
        .args(operation.split(' '))
        .args(arguments)
        .args(["--output", "json"])
        .args(["--cli-connect-timeout", "10", "--cli-read-timeout", "60"])
        .env("AWS_PAGER", "")
        .env("AWS_CLI_AUTO_PROMPT", "off")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Version 1 of the AWS CLI reads the region only from the other name, and no endpoint for SQS.
    if let Ok(region) = std::env::var("AWS_REGION") {
        command.env("AWS_DEFAULT_REGION", region);
    }
    if let Ok(endpoint) = std::env::var("AWS_ENDPOINT_URL") {
        command.args(["--endpoint-url", &endpoint]);
    }
    let unusable = |message| Failure { code: None, message };
    let finished = async {
        let mut child = command.spawn()?;
        // The AWS CLI may end before it has read all; then it says why.
        if let Some(mut stdin) = child.stdin.take() {
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(TIMEOUT, finished)
        .await
        .map_err(|_| unusable("no answer within ten minutes".to_owned()))?
        .map_err(|error| unusable(format!("the AWS CLI cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(failure(&String::from_utf8_lossy(&output.stderr)));
    }
    // Some operations print nothing, and the configuration is a line of text.
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
