//! Measures the function's release build beside its peers, in one run and in turn: cold starts, warm
//! events, batches, memory, size, and the instructions of its own work.
//! It knows the function only from outside, but for those instructions.

mod contestants;
mod events;
mod figures;
mod http1;
mod instructions;
mod measure;
mod plot;
mod process;
mod quota;
mod report;
mod runtime_api;
mod services;

use clap::{Parser, ValueEnum};
use contestants::{Built, Contestant};
use instructions::Instructions;
use quota::Quota;
use report::{ColdStarts, Conditions, Machine, Report, Size};
use services::Latency;
use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// What services in the same region add, roughly.
const AWAY: Latency = Latency {
    connecting: Duration::from_millis(5),
    secrets_manager: Duration::from_millis(15),
    clevertap: Duration::from_millis(20),
    dynamodb: Duration::from_millis(4),
};
/// A Lambda of 128 MB has this part of a CPU: 1,769 MB are a whole one
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>).
const SMALL_LAMBDA: f64 = 128.0 / 1769.0;
/// A load average above this, before anything was started, is somebody else's.
const BUSY: f64 = 0.5;
const README: &str = "benches/README.md";
const PLOT: &str = "benches/speed.svg";
const BEGIN: &str = "<!-- what `make bench` wrote begins -->\n";
const END: &str = "<!-- what `make bench` wrote ends -->\n";

/// Measures the function's release build beside its peers, in one run and in turn.
///
/// Builds what it measures first. Tables go to standard output, progress to standard error.
#[derive(Parser)]
#[command(
    name = "speed",
    after_help = "Example: cargo bench --bench speed -- --quick --only nothing,relay --conditions plain

Exit codes: 0 measured, 1 could not be measured (the reason is told), 2 wrong arguments.
A missed target is no failure; the table says so."
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
struct Arguments {
    /// Measure these only.
    #[arg(long, value_delimiter = ',', value_name = "WHO")]
    only: Vec<Contestant>,
    /// Start under these conditions only.
    #[arg(long, value_delimiter = ',', value_name = "WHICH")]
    conditions: Vec<Conditions>,
    /// The part of one CPU that the quota allows.
    #[arg(long, value_name = "FRACTION", default_value_t = SMALL_LAMBDA, value_parser = part_of_a_cpu)]
    quota: f64,
    /// Hold the quota by signals even where a control group can be made.
    #[arg(long)]
    signals: bool,
    /// A few cold starts and events and no instructions, for a first look.
    #[arg(long)]
    quick: bool,
    /// Print JSON in place of tables.
    #[arg(long)]
    json: bool,
    /// Write the tables into benches/README.md and draw benches/speed.svg.
    #[arg(long, conflicts_with_all = ["only", "conditions", "quota", "signals", "quick"])]
    record: bool,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure_all(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("speed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure_all(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let (rounds, warm_events) = if arguments.quick {
        (5, 100)
    } else {
        (21, 1000)
    };
    let wanted =
        |contestant: &&Contestant| arguments.only.is_empty() || arguments.only.contains(contestant);
    let machine = machine()?;
    if machine.load > BUSY {
        eprintln!(
            "the machine is busy (load average {}): only what is measured side by side can be compared",
            machine.load
        );
    }
    eprintln!("building");
    let contestants: Vec<Built> = Contestant::value_variants()
        .iter()
        .filter(wanted)
        .map(|contestant| contestant.build())
        .collect::<Result<_, _>>()?;

    let mut report = Report {
        machine,
        date: OffsetDateTime::from(SystemTime::now()).date().to_string(),
        sample: events::SAMPLE,
        sizes: sizes(&contestants)?,
        cold: Vec::new(),
        warm: Vec::new(),
        instructions: None,
        targets: Vec::new(),
    };
    for conditions in Conditions::value_variants() {
        if arguments.conditions.is_empty() || arguments.conditions.contains(conditions) {
            let started = cold(&contestants, *conditions, arguments, rounds)?;
            report.cold.push(started);
        }
    }
    eprintln!("warm events");
    report.warm = measure::warm(&contestants, warm_events)?;
    if !arguments.quick {
        eprintln!("instructions");
        report.instructions = Instructions::count()?;
        if report.instructions.is_none() {
            eprintln!("  not counted: valgrind is not installed");
        }
    }
    report.judge();

    if arguments.record {
        record(&report)?;
    }
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.tables());
    }
    Ok(())
}

fn cold(
    contestants: &[Built],
    conditions: Conditions,
    arguments: &Arguments,
    rounds: usize,
) -> Result<ColdStarts, Box<dyn Error>> {
    let quota = match (conditions, arguments.signals) {
        (Conditions::Quota, false) => Some(Quota::of(arguments.quota)),
        (Conditions::Quota, true) => Some(Quota::by_signals(arguments.quota)),
        _ => None,
    };
    let latency = match conditions {
        Conditions::Latency => AWAY,
        Conditions::Plain | Conditions::Quota => Latency::default(),
    };
    let means = quota.as_ref().map(Quota::means);
    eprintln!(
        "cold starts, {conditions:?}{}",
        means
            .iter()
            .map(|means| format!(": {means}"))
            .collect::<String>()
    );
    let conditions_of = measure::Conditions {
        quota: quota.as_ref(),
        latency,
    };
    Ok(ColdStarts {
        conditions,
        latency,
        figures: measure::cold(contestants, &conditions_of, rounds)?,
        quota: means,
    })
}

fn sizes(contestants: &[Built]) -> Result<Vec<Size>, Box<dyn Error>> {
    let mut sizes = Vec::new();
    for built in contestants {
        let Some(binary) = built.binary()? else {
            continue;
        };
        if built.contestant == Contestant::RelayWithTable {
            continue;
        }
        let zip = miniz_oxide::deflate::compress_to_vec(&binary, 9);
        sizes.push(Size {
            contestant: built.contestant,
            binary_mb: megabytes(binary.len()),
            zip_mb: megabytes(zip.len()),
        });
    }
    Ok(sizes)
}

fn machine() -> Result<Machine, Box<dyn Error>> {
    let told = fs::read_to_string("/proc/cpuinfo")?;
    let model = told
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    // What follows the version names a distribution or a host.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg")?;
    let load = load.split(' ').next().unwrap_or_default().parse()?;
    Ok(Machine {
        cpu: model
            .map_or("an unknown CPU", |model| {
                model.trim_start_matches([' ', '\t', ':'])
            })
            .to_owned(),
        cores: thread::available_parallelism()?.get(),
        kernel: kernel.to_owned(),
        load,
    })
}

/// Puts the tables between their marks and draws the plot.
fn record(report: &Report) -> Result<(), Box<dyn Error>> {
    let readme = contestants::root().join(README);
    let text = fs::read_to_string(&readme)?;
    let marks = text.find(BEGIN).zip(text.find(END));
    let Some((begin, end)) = marks.filter(|(begin, end)| begin < end) else {
        return Err(format!("{README} has not the two marks between which tables go").into());
    };
    let (before, after) = (&text[..begin + BEGIN.len()], &text[end..]);
    fs::write(&readme, format!("{before}\n{}\n{after}", report.tables()))?;
    fs::write(contestants::root().join(PLOT), plot::draw(report))?;
    eprintln!("wrote {README} and {PLOT}");
    Ok(())
}

fn part_of_a_cpu(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(part) if part > 0.0 && part <= 1.0 => Ok(part),
        _ => Err("a part of one CPU is more than 0 and at most 1".to_owned()),
    }
}

fn megabytes(bytes: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let bytes = bytes as f64;
    bytes / 1e6
}
