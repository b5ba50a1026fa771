//! How many events the function carries, what stops more, and what they cost: its own code in simulated worlds that only
//! count, in virtual time.
//! It does not measure time on this machine; `speed` does, and the CPU time of an event is its figure.

mod cell;
mod page;

use cell::{ANSWERS_MS, Cell, ENVIRONMENTS, Load, MOST, Setup};
use clap::Parser;
use page::{Page, Prices};
use std::error::Error;
use std::fs;
use std::ops::ControlFlow;
use std::process::ExitCode;
use std::time::Instant;
use testkit::process::repository;
use testkit::simulation::{Scenario, run_all};
use tools::figures::record;

/// With these answers of CleverTap a load lasts its whole time; with others, or with fewer environments, a quarter.
const TYPICAL_MS: u64 = 200;

/// Measures in virtual time how many events the function carries, what stops more, and what they cost.
///
/// Prints the table to standard output and progress to standard error. The CPU time of an event is that of
/// benches/README.md, the prices and the API's limits are those of docs/costs.md.
#[derive(Parser)]
#[command(
    name = "capacity",
    after_help = "Example: make capacity ARGS='--quick'

Exit codes: 0 measured, 1 an event was lost, doubled or out of order, or a figure is missing, 2 invalid arguments."
)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an option of its own"
)]
struct Arguments {
    /// A quarter of the time, and no burst, for a first look.
    #[arg(long)]
    quick: bool,
    /// Ten minutes at 1,000 events a second and an hour's outage in each mode as well, which takes much longer.
    #[arg(long, conflicts_with = "quick")]
    long: bool,
    /// Write the table and the plot into docs/. Without `--long`, the rows of the last `--long` stay.
    #[arg(long, conflicts_with = "quick")]
    record: bool,
    /// Passed by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    match measure(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capacity: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let [costs, speeds] =
        ["docs/costs.md", "benches/README.md"].map(|page| repository().join(page));
    let (costs_text, speeds) = (fs::read_to_string(&costs)?, fs::read_to_string(speeds)?);
    let prices = Prices::read(&costs_text, &speeds)?;
    let cells = run(arguments, &prices)?;
    let page = Page { prices, cells };
    let table = page.table(&costs_text);
    print!("{table}");
    if arguments.record {
        record(&costs, "make capacity", &table)?;
        fs::write(repository().join("docs/capacity.svg"), page.plot())?;
    }
    Ok(())
}

/// All loads, the longest first so that the cores end together.
fn run(arguments: &Arguments, prices: &Prices) -> Result<Vec<Cell>, Box<dyn Error>> {
    let mut setups = Vec::new();
    for is_queue in [false, true] {
        let once = [
            (arguments.long, Load::TenMinutes),
            (arguments.long, Load::Outage),
            (!arguments.quick, Load::Burst),
        ];
        let once = once.into_iter().filter(|(is_wanted, _)| *is_wanted);
        let once = once.map(|(_, load)| (load, TYPICAL_MS));
        let always = ANSWERS_MS.into_iter().flat_map(|answer_ms| {
            [Load::Thousand, Load::Fifty, Load::Ten].map(|load| (load, answer_ms))
        });
        setups.extend(once.chain(always).map(|(load, answer_ms)| Setup {
            load,
            is_queue,
            answer_ms,
            environments: MOST,
        }));
    }
    let mut cells = play(&setups, arguments.quick, prices)?;
    // With more environments than were ever busy, nothing is different.
    let floods = cells.iter().filter(|cell| cell.setup.load == Load::Thousand);
    let fewer = floods.flat_map(|cell| {
        let fewer = ENVIRONMENTS.into_iter().filter(|count| *count < cell.most_environments);
        fewer.map(|environments| Setup { environments, ..cell.setup })
    });
    let fewer: Vec<_> = fewer.collect();
    cells.extend(play(&fewer, arguments.quick, prices)?);
    Ok(cells)
}

fn play(setups: &[Setup], is_quick: bool, prices: &Prices) -> Result<Vec<Cell>, Box<dyn Error>> {
    let (mut cells, mut problems, began) = (Vec::new(), Vec::new(), Instant::now());
    let scenarios = setups.iter().zip(0..).map(|(setup, seed)| {
        let is_short = is_quick || setup.answer_ms != TYPICAL_MS || setup.environments < MOST;
        // The seed tells whose run it is.
        Scenario { seed, ..setup.scenario(is_short, prices) }
    });
    run_all(scenarios, |run| {
        let setup = setups[usize::try_from(run.scenario.seed).expect("a small number")];
        eprintln!("{:4} s: {setup:?}", began.elapsed().as_secs());
        problems.extend(run.problems.iter().take(3).map(|problem| format!("{setup:?}: {problem}")));
        cells.push(Cell::of(setup, &run));
        ControlFlow::Continue(())
    });
    if problems.is_empty() {
        Ok(cells)
    } else {
        Err(problems.join("\n").into())
    }
}
