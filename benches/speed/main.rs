//! Measures the function's release build beside its peers, in one run and in turn: cold starts, warm events, memory,
//! size, and the instructions of its own work.
//! It knows the function only from outside, except for those instructions.

mod contestants;
mod events;
mod instructions;
mod measure;
mod quota;
mod report;
mod table;

use clap::{Parser, ValueEnum};
use contestants::{Built, Contestant};
use instructions::Instructions;
use measure::Setting;
use quota::Quota;
use report::{CLEVERTAP_MS, ColdStarts, Conditions, MemorySize, Report, Size};
use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};
use testkit::sockets::Latency;
use time::OffsetDateTime;
use tools::figures;
use tools::svg::{self, Bars};

/// The smallest is the one for the cold starts on a part of a CPU.
const MEMORY_MB: [u32; 4] = [128, 256, 512, 1024];
const PAGE: &str = "benches/README.md";
/// The plot that the project's README shows.
const PLOT: &str = "benches/speed.svg";
const PLOTTED: [Contestant; 6] = [
    Contestant::Nothing,
    Contestant::Limit,
    Contestant::Relay,
    Contestant::Defaults,
    Contestant::Node,
    Contestant::Python,
];
/// What services in the same region add, roughly.
const AWAY: &str = "+5 ms to connect, +15 ms for Secrets Manager, +4 ms for DynamoDB";
const COSTS: &str = "docs/costs.md";

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
    /// Measure only these.
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
    let report = measure(arguments).await?;
    let tables = report.tables(&fs::read_to_string(contestants::root().join(COSTS))?)?;
    if arguments.record {
        figures::record(&contestants::root().join(PAGE), "make bench", &tables)?;
        fs::write(contestants::root().join(PLOT), plot(&report))?;
    }
    print!("{tables}");
    Ok(())
}

async fn measure(arguments: &Arguments) -> Result<Report, Box<dyn Error>> {
    let setting = machine()?;
    eprintln!("measuring on {setting}");
    let (rounds, events) = if arguments.quick { (5, 100) } else { (21, 1000) };
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
        memory: Vec::new(),
        instructions: None,
    };
    for &conditions in Conditions::value_variants() {
        if arguments.conditions.is_empty() || arguments.conditions.contains(&conditions) {
            report.cold.extend(cold(&contestants, conditions, rounds).await?);
        }
    }
    eprintln!("warm events");
    report.warm = measure::warm(&contestants, &Setting::default(), events).await?;
    let relay: Vec<_> = contestants
        .into_iter()
        .filter(|built| built.contestant == Contestant::Relay)
        .collect();
    for mb in MEMORY_MB {
        let clevertap = Duration::from_millis(CLEVERTAP_MS);
        let setting = away(Quota::of(mb), clevertap);
        if setting.quota.is_some() && !relay.is_empty() {
            eprintln!("{mb} MB");
            let cold = measure::cold(&relay, &setting, rounds.div_ceil(2)).await?.remove(0);
            let warm = measure::warm(&relay, &setting, 2 * rounds).await?.remove(0);
            report.memory.push(MemorySize { mb, cold, warm });
        }
    }
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
    let mut setting = Setting::default();
    let mut note = String::new();
    // A start under the quota takes seconds, for some.
    let mut rounds = rounds;
    match conditions {
        Conditions::Plain => {}
        Conditions::Quota => {
            setting.quota = Quota::of(MEMORY_MB[0]);
            let Some(quota) = &setting.quota else {
                eprintln!(
                    "cold starts, {conditions:?}: skipped, because no control group with a CPU limit can be created; run as root"
                );
                return Ok(None);
            };
            note = format!("{}.", quota.description);
            rounds = rounds.div_ceil(2);
        }
        Conditions::Latency => {
            setting = away(None, Duration::from_millis(20));
            note = format!("{AWAY}, +20 ms for CleverTap.");
        }
    }
    eprintln!("cold starts, {conditions:?} {note}");
    let samples = measure::cold(contestants, &setting, rounds).await?;
    Ok(Some(ColdStarts { conditions, note, samples }))
}

/// [`AWAY`], with such a CleverTap.
fn away(quota: Option<Quota>, clevertap: Duration) -> Setting {
    let away = |request| Latency { connection: Duration::from_millis(5), request };
    Setting {
        quota,
        secrets_manager: away(Duration::from_millis(15)),
        clevertap: away(clevertap),
        dynamodb: away(Duration::from_millis(4)),
    }
}

fn sizes(contestants: &[Built]) -> Result<Vec<Size>, Box<dyn Error>> {
    let mut sizes = Vec::new();
    for built in contestants {
        if let Some(binary) = built.binary()? {
            let zip = miniz_oxide::deflate::compress_to_vec(&binary, 9);
            let megabytes = |bytes| u32::try_from(bytes).map(|bytes| f64::from(bytes) / 1e6);
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
fn machine() -> Result<String, Box<dyn Error>> {
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
fn plot(report: &Report) -> String {
    let class = |contestant| {
        if contestant == Contestant::Relay {
            "ours"
        } else {
            "theirs"
        }
    };
    let rows = PLOTTED.map(|contestant| (contestant.titles().1, class(contestant)));
    let values = |value: &dyn Fn(Contestant) -> f64| PLOTTED.map(value).to_vec();
    let panels = [
        Bars {
            title: "Cold start, ms",
            note: "spawn to answer, 1/14 of a CPU",
            values: values(&|contestant| report.answer_ms(Conditions::Quota, contestant)),
        },
        Bars {
            title: "Warm event, µs",
            note: "median of 1,000",
            values: values(&|contestant| report.warm(contestant, |warm| &warm.took_ms) * 1e3),
        },
        Bars {
            title: "Peak memory, MiB",
            note: "after 1,000 events",
            values: values(&|contestant| report.warm(contestant, |warm| &warm.peak_mib)),
        },
    ];
    svg::bars(&rows, panels)
}
