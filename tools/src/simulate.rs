//! `cargo relay simulate`: runs the function's own code in simulated worlds, and repeats one that failed.
//! It does not know what must hold; the simulation judges each run.

mod report;

use crate::Unusable;
use indicatif::{ProgressBar, ProgressStyle};
use report::Report;
use serde_json::json;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use testkit::simulation::{self, Run, Scenario, once_failed, run_all, short_runs};

/// Of so many worlds of a soak, one is long in each mode.
const LONG_EVERY: u64 = 400;
/// From so many seeds a soak draws its first one.
const MAX_SOAKS: u64 = 10_000_000;

/// Run the function in simulated worlds with faults, kills and outages, and check its guarantees.
///
/// Everything follows from the seed, so a world repeats exactly. A world that breaks a guarantee is one line, with the
/// command that repeats it. Exit code 1: at least one world broke a guarantee.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay simulate --worlds 1000               # the worlds with the seeds 0 to 999
  cargo relay simulate --seed 42 --trace           # one of them, with everything that happens in it
  cargo relay simulate --short queue --kill-at 7   # two events, and a kill after the seventh poll
  cargo relay simulate --minutes 5 --report target/soak

The lines of a trace begin with the seconds since the world began:
  0.162 environment 2 is invoked (5)            the number of the environment, and of the invocation
  0.164 9: environment 2 sends TARGET {A} [(1, \"A\")] None
                                                the number of the request, its environment and operation, the events that
                                                it is about, its profiles with their places, and its fault
  0.180 9: Ok(200)                              what came back on request 9; `to nobody` if the function did not wait
  0.180     {\"timestamp\":...}                   a line of the function's log since the line before")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
#[command(group = clap::ArgGroup::new("amount").args(["worlds", "minutes", "short_runs", "short", "long"]))]
pub struct Options {
    /// The seed of the world, or of the first. Default: 0, and with `--minutes` one that is drawn anew.
    #[arg(long)]
    seed: Option<u64>,
    /// How many worlds.
    #[arg(long, default_value_t = 1)]
    worlds: u64,
    /// For how long: first the worlds that once failed, then those from the seed on, with a long one in each mode now and
    /// then.
    #[arg(long)]
    minutes: Option<u64>,
    /// All short runs: each fault of each request, and a kill after each poll.
    #[arg(long, conflicts_with = "seed")]
    short_runs: bool,
    /// A world of two events without any fault but those that are named.
    #[arg(long, value_name = "MODE", value_parser = MODES, conflicts_with = "seed")]
    short: Option<String>,
    /// A world of 20,000 events.
    #[arg(long, value_name = "MODE", value_parser = MODES)]
    long: Option<String>,
    /// CleverTap refuses revenue records for the first 30 seconds.
    #[arg(long, requires = "short")]
    revenue_refused: bool,
    /// A backend of the team's gets each webhook first, and there is no claims table.
    #[arg(long, requires = "short", conflicts_with = "revenue_refused")]
    backend: bool,
    /// Kill the environment after this poll, counted from 1.
    #[arg(long, value_name = "POLL", requires = "short")]
    kill_at: Option<u64>,
    /// The request, counted from 0, that has the fault with this number.
    #[arg(long, value_name = "REQUEST:NUMBER", value_parser = fault, requires = "short")]
    fault: Option<(usize, usize)>,
    /// End after the first world that breaks a guarantee.
    #[arg(long)]
    first_failure: bool,
    /// Print everything that happens in the world.
    #[arg(long, conflicts_with_all = ["worlds", "minutes", "short_runs"])]
    trace: bool,
    /// Write a report and a plot into this folder.
    #[arg(long, value_name = "FOLDER")]
    report: Option<PathBuf>,
    /// Print one JSON object per world.
    #[arg(long)]
    json: bool,
}

const MODES: [&str; 2] = ["direct", "queue"];

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let simulating = tokio::task::spawn_blocking(move || simulate(&options));
    simulating
        .await
        .map_err(|error| format!("the simulation itself failed: {error}"))?
}

fn simulate(options: &Options) -> Result<ExitCode, Unusable> {
    let begin = Instant::now();
    let mut report = Report::default();
    if options.trace {
        let run = simulation::run(&options.world());
        run.trace.iter().for_each(|line| println!("{line}"));
        print(&run, options.json);
        report.add(run);
    } else if let Some(minutes) = options.minutes {
        let time = Duration::from_mins(minutes);
        let seed = options.seed.unwrap_or_else(|| fastrand::u64(..MAX_SOAKS) * LONG_EVERY);
        report.first_seed = Some(seed);
        if !options.json {
            println!("The first seed is {seed}.");
        }
        let worlds = once_failed().into_iter().chain((seed..).map(soaked));
        let worlds = worlds.take_while(|_| begin.elapsed() < time);
        let bar = progress_bar(time);
        run_all(worlds, |run| {
            bar.set_position(begin.elapsed().as_secs());
            bar.set_message(format!("{} worlds, {} failed", report.worlds, report.failed));
            bar.suspend(|| options.end(run, &mut report))
        });
        bar.finish_and_clear();
    } else if options.short_runs {
        run_all(short_runs(), |run| options.end(run, &mut report));
    } else if options.short.is_some() || options.long.is_some() {
        run_all([options.world()], |run| options.end(run, &mut report));
    } else {
        let seed = options.seed.unwrap_or_default();
        report.first_seed = Some(seed);
        let end = seed.saturating_add(options.worlds);
        run_all((seed..end).map(Scenario::of_seed), |run| options.end(run, &mut report));
    }
    if !options.json {
        println!("{} worlds, {} events: {} failed", report.worlds, report.events, report.failed);
    }
    if let Some(folder) = &options.report {
        report.write(folder, begin.elapsed())?;
    }
    Ok(ExitCode::from(u8::from(report.failed > 0)))
}

impl Options {
    /// The one world that they describe.
    fn world(&self) -> Scenario {
        match (&self.short, &self.long) {
            (Some(mode), _) => {
                let is_queue = mode == "queue";
                let short = if self.backend {
                    Scenario::short_with_backend(is_queue)
                } else {
                    Scenario::short(is_queue, self.revenue_refused)
                };
                Scenario {
                    kill_at: self.kill_at,
                    fault_at: self.fault,
                    ..short
                }
            }
            (_, Some(mode)) => Scenario::long(self.seed.unwrap_or_default(), mode == "queue"),
            (None, None) => Scenario::of_seed(self.seed.unwrap_or_default()),
        }
    }

    fn end(&self, run: Run, report: &mut Report) -> ControlFlow<()> {
        let has_failed = !run.problems.is_empty();
        let is_only = self.worlds == 1 && self.minutes.is_none() && !self.short_runs;
        if self.json || has_failed || is_only {
            print(&run, self.json);
        }
        report.add(run);
        let is_over = self.first_failure && has_failed;
        if is_over {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

fn soaked(seed: u64) -> Scenario {
    match seed % LONG_EVERY {
        0 => Scenario::long(seed, false),
        1 => Scenario::long(seed, true),
        _ => Scenario::of_seed(seed),
    }
}

/// It appears on a terminal only.
fn progress_bar(time: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed} {wide_bar} {msg}").expect("a template");
    ProgressBar::new(time.as_secs()).with_style(style)
}

fn print(run: &Run, is_json: bool) {
    let faults: usize = run.faults.values().sum();
    let (events, requests) = (run.history.len(), run.requests.len());
    if is_json {
        let line = json!({
            "command": run.scenario.command(), "digest": format!("{:016x}", run.digest), "problems": run.problems,
            "events": events, "requests": requests, "faults": faults, "kills": run.kills,
            "dead_letters": run.dead_letters, "duplicates": run.duplicates,
        });
        println!("{line}");
    } else {
        let problems = if run.problems.is_empty() {
            format!("{events} events, {requests} requests, {faults} faults")
        } else {
            run.problems.join("; ")
        };
        println!("{}: {problems}", run.scenario.command());
    }
}

fn fault(text: &str) -> Result<(usize, usize), String> {
    let (request, number) = text.split_once(':').ok_or("not REQUEST:NUMBER")?;
    let parse = |text: &str| text.parse().map_err(|_| format!("{text} is not a number"));
    Ok((parse(request)?, parse(number)?))
}
