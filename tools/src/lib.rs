//! The commands of `cargo relay`, one module each.
//!
//! Each module has `Options`, its command line (`#[derive(clap::Args)]`, examples in `after_help`), and
//! `pub async fn run(options: Options) -> Result<ExitCode, Unusable>`, without `async` where nothing waits. Exit codes: 0, everything is as it
//! should be; 1, the command ran and found something that is not; 2, it could not run ([`Unusable`]); 130,
//! interrupted. With `--json` standard output has one JSON value per line. Colour and progress are for a
//! terminal only.
//!
//! A command adds itself in three places: here, in `Command` of `examples/relay.rs`, and in `tests/it/main.rs`.

mod ask;
mod aws;
pub mod deploy;
mod destination;
pub mod dev;
pub mod doctor;
pub mod explain;
pub mod figures;
pub mod find;
pub mod replay;
mod saved;
pub mod secret;
pub mod send;
pub mod simulate;
mod stack;
mod stand_ins;
pub mod svg;

use reqwest::Client;
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why a command could not run, one line per problem; exit code 2.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable(pub Vec<String>);

impl From<String> for Unusable {
    fn from(problem: String) -> Self {
        Self(vec![problem])
    }
}

/// Ctrl-C, or a request to end.
struct Interruption {
    interrupt: Signal,
    terminate: Signal,
}

impl Interruption {
    fn new() -> Result<Self, Unusable> {
        let watch = |kind| signal(kind).map_err(|error| format!("no signals: {error}"));
        Ok(Self {
            interrupt: watch(SignalKind::interrupt())?,
            terminate: watch(SignalKind::terminate())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    fn exit_code() -> ExitCode {
        ExitCode::from(130)
    }
}

/// A reader that stops early, such as `head`, is not an error.
fn print(output: &str) {
    let _ = std::io::stdout().write_all(output.as_bytes());
}

/// The client that posts webhooks.
fn http_client(timeout: Duration) -> Result<Client, Unusable> {
    let builder = testkit::webhook::http_client().map_err(|error| error.to_string());
    let client = builder
        .and_then(|builder| builder.timeout(timeout).build().map_err(|error| error.to_string()));
    client.map_err(|error| format!("no HTTP client: {error}").into())
}
