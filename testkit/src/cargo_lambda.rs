//! The function under `cargo lambda watch`, which serves it like a Function URL on this machine.
//! It does not know what the function talks to.

use crate::process::{Group, cargo_variables};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::Path;
use std::process::Stdio;
use tokio::process::Command;

/// How it names the one function of a workspace; under another name it would start a second process.
const FUNCTION: &str = "_";
/// By default it listens on every address of the machine.
const HOST: &str = "127.0.0.1";
/// Each serves one request at a time, and is started when the others are busy.
pub const INSTANCES: usize = 10;
/// The path of the template's API; the function is served on every path.
pub const PATH: &str = "/webhooks/purchasely";

/// A `cargo lambda watch` and all that it started, killed on drop.
pub struct Watched(Group);

/// Invokes the function that `cargo lambda watch` serves at `url` with an event of any kind.
pub async fn invoke(http: &reqwest::Client, url: &str, event: Value) -> Result<Value, Value> {
    let origin = url.strip_suffix(PATH).unwrap_or(url);
    let url = format!("{origin}/2015-03-31/functions/{FUNCTION}/invocations");
    let failed = |error: reqwest::Error| Value::String(error.to_string());
    let answer = http.post(url).body(event.to_string()).send().await.map_err(failed)?;
    let is_success = answer.status().is_success();
    let answer = answer.text().await.map_err(failed)?;
    let answer = serde_json::from_str(&answer).unwrap_or(Value::String(answer));
    if is_success { Ok(answer) } else { Err(answer) }
}

impl Watched {
    /// Starts it with these variables beside its own. Its output goes to standard error.
    pub fn start(
        cargo_lambda: &Path,
        port: u16,
        variables: &[(&str, &str)],
    ) -> Result<Self, String> {
        let mut command = Command::new(cargo_lambda);
        for name in cargo_variables() {
            command.env_remove(name);
        }
        command
            .args(["lambda", "watch", "--invoke-port", &port.to_string()])
            .args(["--concurrency", &INSTANCES.to_string()])
            .args(["--invoke-address", HOST])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(std::io::stderr());
        let group = Group::spawn(&mut command).map_err(|error| {
            let program = cargo_lambda.display();
            format!("{program}: {error}. It is cargo-lambda, which `make tools` installs")
        })?;
        Ok(Self(group))
    }

    /// Resolves when it ends by itself, with the reason.
    pub async fn ended(&mut self) -> String {
        match self.0.wait().await {
            Ok(status) => format!("cargo lambda watch ended: {status}"),
            Err(error) => format!("cargo lambda watch is lost: {error}"),
        }
    }

    /// Ends it as Ctrl-C would, so that it ends what it started itself.
    pub async fn end(self) {
        self.0.end(Signal::SIGINT).await;
    }
}
