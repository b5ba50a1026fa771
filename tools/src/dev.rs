//! `cargo relay dev`: the function on this machine with stand-ins for CleverTap and Secrets Manager, until Ctrl-C.
//! It does not know where webhooks come from.

use crate::stand_ins::{Delivery, StandIns, json_lines};
use crate::{Interruption, Unusable};
use std::path::PathBuf;
use std::process::ExitCode;
use testkit::cargo_lambda::Watched;

/// Run the function on this machine and print each record that the stand-in CleverTap accepts.
///
/// The function runs under `cargo lambda watch`, which compiles it again after each change; its log goes to
/// standard error. Ctrl-C ends all of it with exit code 0. Exit code 1: the function ended.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay dev
  cargo relay send events/TRIAL_STARTED.json --to http://localhost:9000/    # in another terminal
  cargo relay dev --delivery queue
  cargo relay dev --no-function    # prints the variables for a function that you start yourself")]
pub struct Options {
    /// Start only the stand-ins, and print the variables that make a function use them.
    #[arg(long)]
    no_function: bool,
    /// Whether the function relays a webhook before it answers, or puts it into a queue; `make tools` installs the
    /// queue's stand-in.
    #[arg(long, default_value = "direct")]
    delivery: Delivery,
    /// Port of the function.
    #[arg(long, value_name = "PORT", default_value_t = 9000)]
    function_port: u16,
    /// Port of CleverTap; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 9100)]
    clevertap_port: u16,
    /// Port of Secrets Manager; 0 is any free one.
    #[arg(long, value_name = "PORT", default_value_t = 9101)]
    secrets_manager_port: u16,
    /// The `cargo-lambda` executable.
    #[arg(long, value_name = "PATH", env = "CARGO_LAMBDA", default_value = "cargo-lambda")]
    cargo_lambda: PathBuf,
    /// Print one JSON object per accepted record, and nothing else.
    #[arg(long)]
    json: bool,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let mut interruption = Interruption::new()?;
    let (clevertap, secrets_manager) = (options.clevertap_port, options.secrets_manager_port);
    let stand_ins = StandIns::start(clevertap, secrets_manager, options.delivery).await?;
    let variables = stand_ins.variables();
    if options.no_function {
        if !options.json {
            println!("Start the function with these variables:\n");
            for (name, value) in variables {
                println!("export {name}='{value}'");
            }
            println!("\nRecords that CleverTap accepts are printed below. Ctrl-C ends it.");
        }
        let url = format!("http://localhost:{}", options.function_port);
        tokio::select! {
            () = print_accepted(&stand_ins, options.json) => {}
            () = stand_ins.deliver(&url) => {}
            () = interruption.wait() => {}
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut function =
        Watched::start(&options.cargo_lambda, None, options.function_port, &variables, None)?;
    if !options.json {
        println!(
            "Once it is compiled, the function answers at {url}. In another terminal:\n\n  \
             cargo relay send events/TRIAL_STARTED.json --to {url}\n\n\
             Records that CleverTap accepts are printed below. Ctrl-C ends all of it.",
            url = function.url
        );
    }
    let url = function.url.clone();
    let code = tokio::select! {
        () = print_accepted(&stand_ins, options.json) => ExitCode::SUCCESS,
        () = stand_ins.deliver(&url) => ExitCode::SUCCESS,
        () = interruption.wait() => ExitCode::SUCCESS,
        reason = function.ended() => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    };
    function.end().await;
    Ok(code)
}

/// Runs for ever.
async fn print_accepted(stand_ins: &StandIns, as_json: bool) {
    let mut printed = 0;
    loop {
        stand_ins.clevertap.wait_for_records(printed + 1).await;
        for record in stand_ins.clevertap.accepted().split_off(printed) {
            if as_json {
                println!("{record}");
            } else {
                println!("{}", json_lines(&record));
            }
            printed += 1;
        }
    }
}
