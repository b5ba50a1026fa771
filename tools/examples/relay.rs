//! The command line of `cargo relay`: parses it, runs one command and turns its result into an exit code.

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use tools::{Unusable, doctor};

/// Tries, explains and checks the relay from Purchasely to CleverTap.
///
/// Exit codes: 0, everything is as it should be; 1, the command ran and found something that is not; 2, it
/// could not run: the command line, a setting or a file cannot be used; 130, interrupted.
#[derive(Parser)]
#[command(name = "cargo relay", bin_name = "cargo relay", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Doctor(doctor::Options),
}

#[tokio::main]
async fn main() -> ExitCode {
    let ended: Result<ExitCode, Unusable> = match Arguments::parse().command {
        Command::Doctor(options) => doctor::run(options).await,
    };
    ended.unwrap_or_else(|Unusable(problems)| {
        for problem in problems {
            eprintln!("error: {problem}");
        }
        ExitCode::from(2)
    })
}
