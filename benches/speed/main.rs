//! Measures the function's release build: beside its peers, in one run and in turn, cold starts, warm events, memory,
//! size, and the instructions of its own work.
//! It knows the function only from outside, except for those instructions.

mod contestants;
mod events;
mod instructions;
mod measure;
mod quota;
mod report;
mod spread;

use clap::{Parser, ValueEnum};
use contestants::{Built, Contestant};
use instructions::Instructions;
use measure::Latencies;
use quota::Quota;
use report::{ColdStarts, Conditions, Report, Size};
use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};
use testkit::sockets::Latency;
use time::OffsetDateTime;
use tools::figures;
use tools::svg::bars::{self, Panel, Row};

/// What services in the same region add, roughly.
const SAME_REGION: Latencies = Latencies {
    secrets_manager: away(15),
    clevertap: away(20),
    dynamodb: away(4),
};
/// The part of a CPU that a Lambda function of 128 MB has: 1,769 MB are a whole one
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>).
const SMALL_FUNCTION: f64 = 128.0 / 1769.0;
/// The plot that the project's README shows.
const PLOTTED: [Contestant; 6] = [
    Contestant::Nothing,
    Contestant::Bare,
    Contestant::Relay,
    Contestant::Defaults,
    Contestant::Node,
    Contestant::Python,
];

/// Measures the speed of the function's release build beside its peers.
///
/// Builds what it measures first. Prints tables to standard output and progress to standard error.
#[derive(Parser)]
#[command(
    name = "speed",
    after_help = "Example: make bench ARGS='--quick --only nothing,relay --conditions plain'

Exit codes: 0 measured, 1 could not be measured (the message says why), 2 invalid arguments.
A missed target is not a failure; the table shows it."
)]
struct Arguments {
    /// Measure the speed only of these.
    #[arg(long, value_delimiter = ',', value_name = "CONTESTANTS")]
    only: Vec<Contestant>,
    /// Measure cold starts only under these conditions.
    #[arg(long, value_delimiter = ',', value_name = "CONDITIONS")]
    conditions: Vec<Conditions>,
    /// A few of everything and no instructions, for a first look.
    #[arg(long)]
    quick: bool,
    /// Write the tables and the plot into benches/.
    #[arg(long, conflicts_with_all = ["only", "conditions", "quick"])]
    record: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

// One thread for all stand-ins: what they cost is then the same for every contestant.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run(&Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speed: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let setting = setting()?;
    eprintln!("measuring on {setting}");
    let report = speed(arguments, setting).await?;
    let tables = report.tables();
    if arguments.record {
        let folder = contestants::root().join("benches");
        figures::record(&folder.join("README.md"), "make bench", &tables)?;
        fs::write(folder.join("speed.svg"), plot_of(&report))?;
    }
    print!("{tables}");
    Ok(())
}

async fn speed(arguments: &Arguments, setting: String) -> Result<Report, Box<dyn Error>> {
    let (rounds, warm_events): (usize, _) = if arguments.quick { (5, 100) } else { (21, 1000) };
    eprintln!("building");
    let contestants: Vec<Built> = Contestant::value_variants()
        .iter()
        .filter(|contestant| arguments.only.is_empty() || arguments.only.contains(contestant))
        .map(|contestant| contestant.build())
        .collect::<Result<_, _>>()?;

    let mut report = Report {
        setting,
        sizes: sizes(&contestants)?,
        cold: Vec::new(),
        warm: Vec::new(),
        instructions: None,
    };
    for conditions in Conditions::value_variants() {
        if arguments.conditions.is_empty() || arguments.conditions.contains(conditions) {
            // A start under the quota takes seconds, for some.
            let rounds = if *conditions == Conditions::Quota {
                rounds.div_ceil(2)
            } else {
                rounds
            };
            report.cold.extend(cold(&contestants, *conditions, rounds).await?);
        }
    }
    eprintln!("warm events");
    report.warm = measure::warm(&contestants, warm_events).await?;
    if !arguments.quick {
        eprintln!("instructions");
        report.instructions = Instructions::count()?;
        if report.instructions.is_none() {
            eprintln!("  not counted: valgrind is not installed");
        }
    }
    Ok(report)
}

/// `None` where the conditions cannot be created on this machine.
async fn cold(
    contestants: &[Built],
    conditions: Conditions,
    rounds: usize,
) -> Result<Option<ColdStarts>, Box<dyn Error>> {
    let mut latencies = Latencies::default();
    let mut quota = None;
    let mut note = String::new();
    match conditions {
        Conditions::Plain => {}
        Conditions::Quota => {
            quota = Quota::new(SMALL_FUNCTION);
            let Some(quota) = &quota else {
                eprintln!(
                    "cold starts, {conditions:?}: skipped, because no control group with a CPU limit can be created; run as root"
                );
                return Ok(None);
            };
            note = format!("{}.", quota.description);
        }
        Conditions::Latency => {
            latencies = SAME_REGION;
            note = format!(
                "+{} ms to connect, +{} ms for Secrets Manager, +{} ms for CleverTap, +{} ms for DynamoDB. The round trips that follow each other, which is the critical path: {} ms with the table, {} ms without.",
                latencies.clevertap.connection.as_millis(),
                latencies.secrets_manager.request.as_millis(),
                latencies.clevertap.request.as_millis(),
                latencies.dynamodb.request.as_millis(),
                latencies.critical_path(true).as_millis(),
                latencies.critical_path(false).as_millis(),
            );
        }
    }
    eprintln!("cold starts, {conditions:?} {note}");
    let figures = measure::cold(contestants, quota.as_ref(), latencies, rounds).await?;
    Ok(Some(ColdStarts { conditions, note, latencies, figures }))
}

fn sizes(contestants: &[Built]) -> Result<Vec<Size>, Box<dyn Error>> {
    let mut sizes = Vec::new();
    for built in contestants {
        if let Some(binary) = built.binary()? {
            let zip = miniz_oxide::deflate::compress_to_vec(&binary, 9);
            sizes.push(Size {
                contestant: built.contestant,
                binary_mb: megabytes(binary.len())?,
                zip_mb: megabytes(zip.len())?,
            });
        }
    }
    Ok(sizes)
}

/// The date (UTC), the machine, and how busy it is before anything is built or started.
fn setting() -> Result<String, Box<dyn Error>> {
    let date = OffsetDateTime::from(SystemTime::now()).date();
    let cpus = fs::read_to_string("/proc/cpuinfo")?;
    let cpu = cpus.lines().find(|line| line.starts_with("model name"));
    let (_, cpu) = cpu.and_then(|line| line.split_once(": ")).unwrap_or(("", "an unknown CPU"));
    let cores = thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // After the version comes the name of a distribution or of a host.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default();
    Ok(format!(
        "{date} on {cpu}: {cores} cores, Linux {kernel}, load average {load} at the start"
    ))
}

/// What an operator asks first, with what the template deploys.
fn plot_of(report: &Report) -> String {
    let rows = PLOTTED.map(|contestant| Row {
        name: contestant.titles().1,
        is_ours: contestant == Contestant::Relay,
    });
    let values = |value: &dyn Fn(Contestant) -> f64| PLOTTED.map(value).to_vec();
    let panels = [
        Panel {
            title: "Cold start, ms",
            note: "spawn to answer, 1/14 of a CPU",
            values: values(&|contestant| report.answer_ms(Conditions::Quota, contestant)),
        },
        Panel {
            title: "Warm event, µs",
            note: "median of 1,000",
            values: values(&|contestant| report.warm(contestant, |warm| warm.took_us.median)),
        },
        Panel {
            title: "Peak memory, MiB",
            note: "after 1,000 events",
            values: values(&|contestant| report.warm(contestant, |warm| warm.peak_mib)),
        },
    ];
    bars::draw(&rows, &panels)
}

const fn away(request_ms: u64) -> Latency {
    Latency {
        connection: Duration::from_millis(5),
        request: Duration::from_millis(request_ms),
    }
}

fn megabytes(bytes: usize) -> Result<f64, Box<dyn Error>> {
    Ok(f64::from(u32::try_from(bytes)?) / 1e6)
}
