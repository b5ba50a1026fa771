//! What the figures mean: one table with the first limit and the price of each load, and one plot.
//! It does not run a world. It takes prices and settings from the pages, and the memory from the template.

use crate::cell::{ANSWERS_MS, Cell, ENVIRONMENTS, Load, MOST, Setup};
use std::fs;
use std::time::Duration;
use testkit::process::repository;
use testkit::simulation::Limit;
use testkit::template;
use tools::figures::{decimals, figure_in, grouped, table, whole};
use tools::svg::{self, Bars};

const SECONDS_A_MONTH: f64 = 30.0 * 86_400.0;
/// A function of so many megabytes has a whole CPU (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>).
const MEGABYTES_OF_A_CPU: f64 = 1769.0;
/// Where more requests than this come for each event, a price would be that of an overload.
const MAX_REQUESTS: f64 = 1.05;
const HEAD: &str = "| load | CleverTap answers in | mode | limits met, the first one first | relayed per second | sent again, for each event | a 200 takes (p50, p99) | the last is relayed | USD a month |";

pub struct Page {
    pub prices: Prices,
    pub cells: Vec<Cell>,
}

/// US dollars, and what else the pages say.
pub struct Prices {
    api: f64,
    invocation: f64,
    gigabyte_second: f64,
    write: f64,
    sqs: f64,
    logs: f64,
    gigabytes: f64,
    /// An event's CPU time on the function's share of a CPU.
    pub cpu: Duration,
    /// `ThrottlingRate` and `ThrottlingBurst`.
    pub throttling: [f64; 2],
}

impl Prices {
    pub fn read(costs: &str, speeds: &str) -> Result<Self, String> {
        let price = |name: &str, column| figure_in(costs, name, column);
        let text = fs::read_to_string(repository().join("template.yaml"));
        let template = text.map_err(|error| error.to_string()).and_then(|it| template::parse(&it));
        let memory = template?["Parameters"]["MemorySize"]["Default"].as_f64();
        let memory = memory.ok_or("template.yaml has no default of MemorySize")?;
        let cpu_ms = cpu_ms(speeds, memory).ok_or_else(|| {
            format!("benches/README.md has no CPU time of a warm event at {memory} MB; run `make bench` first, which measures it")
        })?;
        Ok(Self {
            api: price("API Gateway, HTTP API", 1)? / 1e6,
            invocation: price("Lambda, requests", 1)? / 1e6,
            gigabyte_second: price("Lambda, duration on arm64", 1)?,
            write: price("DynamoDB, on-demand writes", 1)? / 1e6,
            sqs: price("SQS, FIFO queues", 1)? / 1e6,
            logs: price("Logs", 3)? / 1e6,
            gigabytes: memory / 1024.0,
            cpu: Duration::from_secs_f64(cpu_ms / 1e3 * MEGABYTES_OF_A_CPU / memory),
            throttling: [
                price("Requests per second to the API (`ThrottlingRate`)", 1)?,
                price("Requests at once (`ThrottlingBurst`)", 1)?,
            ],
        })
    }

    /// Without the fixed costs.
    fn month(&self, cell: &Cell) -> f64 {
        let [webhooks, batches] = cell.invocations;
        // In queue mode the function writes an event's line twice.
        let lines = if cell.setup.is_queue { 2.0 } else { 1.0 };
        let each = self.api * cell.requests
            + self.invocation * (webhooks + batches)
            + self.gigabyte_second * self.gigabytes * cell.duration
            + self.write * cell.writes
            // Lambda receives and deletes a batch.
            + self.sqs * (cell.sqs + 2.0 * batches)
            + self.logs * lines;
        each * f64::from(cell.setup.load.shape().1) * SECONDS_A_MONTH
    }
}

impl Page {
    /// The table in Markdown. The rows of a `--long` that was not run are those that the page has.
    pub fn table(&self, page: &str) -> String {
        let mut text = format!(
            "In virtual time, and the same on every machine: each event takes {} ms of its environment for its CPU time.\n",
            decimals(self.prices.cpu.as_secs_f64() * 1e3)
        );
        let setups = Load::ALL.into_iter().flat_map(|load| {
            ANSWERS_MS.into_iter().flat_map(move |answer_ms| {
                [false, true].map(|is_queue| Setup {
                    load,
                    is_queue,
                    answer_ms,
                    environments: MOST,
                })
            })
        });
        let rows = setups.filter_map(|setup| self.cell(setup)).map(|cell| self.row(cell));
        text += &table("", "", HEAD, rows);
        let is_long = |line: &&str| {
            Load::LONG
                .iter()
                .any(|load| line.starts_with(&format!("| {} |", load.shape().0)))
        };
        if !text.lines().any(|line| is_long(&line)) {
            text.extend(page.lines().filter(is_long).flat_map(|line| [line, "\n"]));
        }
        text
    }

    pub fn plot(&self) -> String {
        let modes = [("direct", false), ("queue", true)].into_iter();
        let rows = modes.flat_map(|(mode, is_queue)| {
            ENVIRONMENTS.map(|count| (format!("{mode}, {}", grouped(count)), is_queue, count))
        });
        let rows: Vec<_> = rows.collect();
        let titles = ANSWERS_MS.map(|answer_ms| format!("CleverTap answers in {answer_ms} ms"));
        let panel = |place: usize| {
            let value = |&(_, is_queue, environments): &(String, bool, usize)| {
                let answer_ms = ANSWERS_MS[place];
                let setup = Setup {
                    load: Load::Thousand,
                    is_queue,
                    answer_ms,
                    environments,
                };
                let most = Setup { environments: MOST, ..setup };
                let cell = self.cell(setup).or_else(|| self.cell(most));
                cell.map_or(f64::NAN, |cell| cell.per_second)
            };
            let note = "events per second, by environments";
            Bars {
                title: &titles[place],
                note,
                values: rows.iter().map(value).collect(),
            }
        };
        let names: Vec<_> = rows
            .iter()
            .map(|(name, is_queue, _)| (&**name, if *is_queue { "ours" } else { "theirs" }))
            .collect();
        svg::bars(&names, [panel(0), panel(1), panel(2)])
    }

    fn cell(&self, setup: Setup) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.setup == setup)
    }

    fn row(&self, cell: &Cell) -> [String; 9] {
        let Setup { load, is_queue, answer_ms, .. } = cell.setup;
        let [median, p99] = cell.wait.map(time);
        let has_price = cell.requests < MAX_REQUESTS && load.is_steady();
        let price = if has_price {
            whole(self.prices.month(cell))
        } else {
            "–".to_owned()
        };
        [
            load.shape().0.to_owned(),
            format!("{answer_ms} ms"),
            if is_queue { "`queue`" } else { "`direct`" }.to_owned(),
            limits(cell),
            decimals(cell.per_second),
            decimals(cell.sent_again),
            if median == p99 {
                median
            } else {
                format!("{median}, {p99}")
            },
            time(cell.last),
            price,
        ]
    }
}

fn limits(cell: &Cell) -> String {
    let met = cell.met.iter().map(|(limit, share)| {
        let name = match limit {
            Limit::Requests => "`ThrottlingRate`",
            Limit::Environments => "environments",
            Limit::Uploads => "CleverTap",
        };
        format!("{name} ({} %)", decimals(share * 100.0))
    });
    let raised = cell.setup.load.is_flood().then(|| "`ThrottlingRate` (raised)".to_owned());
    let behind = cell.is_behind.then(|| "`MaximumConcurrency`".to_owned());
    let limits: Vec<_> = raised.into_iter().chain(met).chain(behind).collect();
    if limits.is_empty() {
        "none".to_owned()
    } else {
        limits.join(", ")
    }
}

/// The CPU time of a warm event in the row of a size of memory, by the title of its column.
fn cpu_ms(page: &str, memory: f64) -> Option<f64> {
    let (_, section) = page.split_once("### Memory sizes\n")?;
    let mut rows = section.lines().filter(|line| line.starts_with("| "));
    let mut titles = rows.next()?.split(" | ");
    let column =
        titles.position(|title| title.trim_end_matches(" |") == "CPU of a warm event, ms")?;
    figure_in(section, &format!("{memory} MB"), column).ok()
}

/// A time in a unit that suits it.
fn time(seconds: f64) -> String {
    match seconds {
        _ if seconds.is_infinite() => "–".to_owned(),
        _ if seconds < 1.0 => format!("{} ms", whole(seconds * 1e3)),
        _ if seconds < 180.0 => format!("{} s", decimals(seconds)),
        _ if seconds < 3.0 * 3600.0 => format!("{} min", decimals(seconds / 60.0)),
        _ => format!("{} h", decimals(seconds / 3600.0)),
    }
}
