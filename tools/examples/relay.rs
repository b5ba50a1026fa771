//! The command line of `cargo relay`: parses it, runs one command and turns its result into an exit code.
//! It does not know what a command does.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tools::{Unusable, deploy, dev, doctor, explain, find, replay, secret, send, simulate};

/// Try, explain and check the relay from Purchasely to CleverTap.
///
/// Exit codes: 0, everything is as it should be; 1, the command ran and found something that is not; 2, it
/// could not run; 130, it was interrupted. With `--json` a command prints one JSON value per line.
#[derive(Parser)]
#[command(name = name(), bin_name = name(), version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Dev(dev::Options),
    Send(send::Options),
    Explain(explain::Options),
    Replay(replay::Options),
    Find(find::Options),
    Doctor(doctor::Options),
    Deploy(deploy::Options),
    Secret(secret::Options),
    Simulate(simulate::Options),
}

/// What the command is called by. Cargo sets the variable for a program that it runs.
fn name() -> &'static str {
    if std::env::var_os("CARGO").is_some() {
        "cargo relay"
    } else {
        "relay"
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Dev(options) => dev::run(options).await,
        Command::Send(options) => send::run(options).await,
        Command::Explain(options) => explain::run(options),
        Command::Replay(options) => replay::run(options).await,
        Command::Find(options) => find::run(options).await,
        Command::Doctor(options) => doctor::run(options).await,
        Command::Deploy(options) => deploy::run(options).await,
        Command::Secret(options) => secret::run(options).await,
        Command::Simulate(options) => simulate::run(options).await,
    };
    result.unwrap_or_else(|Unusable(problems)| {
        for problem in problems {
            eprintln!("error: {problem}");
        }
        ExitCode::from(2)
    })
}
