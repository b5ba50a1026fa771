//! `cargo relay simulate`: runs the function's own code in simulated worlds, and repeats one that failed.
//! It does not know what must hold; the simulation judges each run.

use crate::Unusable;
use serde_json::json;
use std::ops::ControlFlow;
use std::process::ExitCode;
use testkit::simulation::{self, Run, Scenario, run_all, short_runs};

/// Run the function in simulated worlds with faults, kills and outages, and check its guarantees.
///
/// Everything follows from the seed, so a world repeats exactly. A world that breaks a guarantee is one line, with the
/// command that repeats it.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay simulate --worlds 1000               # the worlds with the seeds 0 to 999
  cargo relay simulate --seed 42 --trace           # one of them, with everything that happens in it
  cargo relay simulate --short queue --kill-at 7   # two events, and a kill after the seventh poll")]
pub struct Options {
    /// The seed of the world, or of the first.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// How many worlds.
    #[arg(long, default_value_t = 1, conflicts_with_all = ["short", "trace"])]
    worlds: u64,
    /// All short runs: each fault of each request, and a kill after each poll.
    #[arg(long, conflicts_with_all = ["seed", "worlds", "short", "trace"])]
    short_runs: bool,
    /// End after the first world that fails.
    #[arg(long)]
    first_failure: bool,
    /// A world of two events without any fault but those that are named.
    #[arg(long, value_name = "MODE", value_parser = ["direct", "queue"], conflicts_with = "seed")]
    short: Option<String>,
    /// CleverTap refuses revenue records for the first 30 seconds.
    #[arg(long, requires = "short")]
    revenue_refused: bool,
    /// Kill the environment after this poll, counted from 1.
    #[arg(long, value_name = "POLL", requires = "short")]
    kill_at: Option<u64>,
    /// The request, counted from 0, that has the fault with this number.
    #[arg(long, value_name = "REQUEST:NUMBER", value_parser = fault, requires = "short")]
    fault: Option<(usize, usize)>,
    /// Print everything that happens.
    #[arg(long)]
    trace: bool,
    /// Print one JSON object per world.
    #[arg(long)]
    json: bool,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let simulating = tokio::task::spawn_blocking(move || simulate(&options));
    simulating.await.map_err(|error| format!("the simulation itself failed: {error}").into())
}

fn simulate(options: &Options) -> ExitCode {
    let scenarios: Vec<_> = match &options.short {
        None if options.short_runs => short_runs(),
        None => {
            let end = options.seed.saturating_add(options.worlds);
            (options.seed..end).map(Scenario::of_seed).collect()
        }
        Some(mode) => vec![Scenario {
            kill_at: options.kill_at,
            fault_at: options.fault,
            ..Scenario::short(mode == "queue", options.revenue_refused)
        }],
    };
    if options.trace {
        let run = simulation::run(&scenarios[0]);
        run.trace.iter().for_each(|line| println!("{line}"));
        print(&run, options.json);
        return exit_code(&[run]);
    }
    let runs = run_all(&scenarios, |run| {
        let has_failed = !run.problems.is_empty();
        if options.json || has_failed || scenarios.len() == 1 {
            print(run, options.json);
        }
        let is_end = options.first_failure && has_failed;
        if is_end { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    if !options.json {
        let events: usize = runs.iter().map(|run| run.events).sum();
        let failed = runs.iter().filter(|run| !run.problems.is_empty()).count();
        println!("{} worlds, {events} events: {failed} failed", runs.len());
    }
    exit_code(&runs)
}

fn print(run: &Run, is_json: bool) {
    let faults = run.exchanges.iter().filter(|(_, has_fault)| *has_fault).count();
    let requests = run.exchanges.len();
    if is_json {
        let line = json!({
            "command": run.command, "digest": format!("{:016x}", run.digest), "problems": run.problems,
            "events": run.events, "requests": requests, "faults": faults, "kills": run.kills,
            "dead_letters": run.dead_letters, "duplicates": run.duplicates,
        });
        println!("{line}");
    } else {
        let problems = if run.problems.is_empty() {
            format!("{} events, {requests} requests, {faults} faults", run.events)
        } else {
            run.problems.join("; ")
        };
        println!("{}: {problems}", run.command);
    }
}

fn exit_code(runs: &[Run]) -> ExitCode {
    ExitCode::from(u8::from(runs.iter().any(|run| !run.problems.is_empty())))
}

fn fault(text: &str) -> Result<(usize, usize), String> {
    let (request, number) = text.split_once(':').ok_or("not REQUEST:NUMBER")?;
    let parse = |text: &str| text.parse().map_err(|_| format!("{text} is not a number"));
    Ok((parse(request)?, parse(number)?))
}
