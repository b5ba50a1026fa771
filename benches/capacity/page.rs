//! What the figures mean: one table with the first limit and the price of each load, and one plot.
//! It does not run a world. It takes prices and settings from the pages, and the memory from the template.

use crate::cell::{ANSWERS_MS, Cell, ENVIRONMENTS, Load};
use std::fs;
use std::time::Duration;
use testkit::process::repository;
use testkit::simulation::Limit;
use testkit::template;
use tools::figures::{decimals, grouped, table, whole};
use tools::svg::bars::{self, Panel, Row};

const SECONDS_A_MONTH: f64 = 30.0 * 86_400.0;
/// A function of so many megabytes has a whole CPU (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>).
const MEGABYTES_OF_A_CPU: f64 = 1769.0;
/// Where more requests than this come for each event, a price would be that of an overload.
const MAX_REQUESTS: f64 = 1.05;
const HEAD: &str = "| load | CleverTap answers in | mode | first limit | relayed per second | sent again, for each event | a 200 takes (p50, p99) | the last is relayed | USD a month |";

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
        let price = |name: &str, column: usize| {
            let row = costs.lines().find(|line| line.starts_with(&format!("| {name} |")));
            let cell = row.and_then(|row| first_number(row, column));
            cell.ok_or_else(|| format!("docs/costs.md has no price of {name}"))
        };
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
        let event = &cell.per_event;
        let [webhooks, batches] = event.invocations;
        // In queue mode the function writes an event's line twice.
        let lines = if cell.is_queue { 2.0 } else { 1.0 };
        let each = self.api * event.requests
            + self.invocation * (webhooks + batches)
            + self.gigabyte_second * self.gigabytes * event.duration
            + self.write * event.dynamodb
            // Lambda receives and deletes a batch.
            + self.sqs * (event.sqs + 2.0 * batches)
            + self.logs * lines;
        each * f64::from(cell.load.shape().0) * SECONDS_A_MONTH
    }
}

impl Page {
    /// The table in Markdown. The rows of a `--long` that was not run are those that the page has.
    pub fn table(&self, page: &str) -> String {
        let mut text = format!(
            "In virtual time, and the same on every machine: each event takes {} ms of its environment for its CPU time.\n",
            decimals(self.prices.cpu.as_secs_f64() * 1e3)
        );
        let rows = Load::ALL.into_iter().flat_map(|load| {
            let cells = ANSWERS_MS.into_iter().flat_map(move |answer_ms| {
                [false, true].map(|is_queue| self.cell(load, is_queue, answer_ms, 1000))
            });
            cells.flatten().map(|cell| self.row(cell))
        });
        text += &table("", "", HEAD, rows);
        let long = format!("| {} |", Load::TenMinutes.title());
        if !text.contains(&long) {
            let kept = page.lines().filter(|line| line.starts_with(&long));
            let kept: String = kept.map(|line| format!("{line}\n")).collect();
            let place = text.find(&format!("| {} |", Load::Burst.title())).unwrap_or(text.len());
            text.insert_str(place, &kept);
        }
        text
    }

    pub fn plot(&self) -> String {
        let names = |mode: &'static str| {
            ENVIRONMENTS.into_iter().chain([1000]).map(move |count| (mode, count))
        };
        let rows: Vec<_> = names("direct").chain(names("queue")).collect();
        let titles = ANSWERS_MS.map(|answer_ms| format!("CleverTap answers in {answer_ms} ms"));
        let panel = |place: usize| Panel {
            title: &titles[place],
            note: "events per second, by environments",
            values: rows
                .iter()
                .map(|(mode, count)| {
                    let cell = |count| {
                        self.cell(Load::Thousand, *mode == "queue", ANSWERS_MS[place], count)
                    };
                    cell(*count).or_else(|| cell(1000)).map_or(f64::NAN, |cell| cell.per_second)
                })
                .collect(),
        };
        let names: Vec<_> = rows
            .iter()
            .map(|(mode, count)| format!("{mode}, {}", grouped(*count)))
            .collect();
        let rows: Vec<_> = rows
            .iter()
            .zip(&names)
            .map(|((mode, _), name)| Row { name, is_ours: *mode == "queue" })
            .collect();
        bars::draw(&rows, &[panel(0), panel(1), panel(2)])
    }

    fn cell(
        &self,
        load: Load,
        is_queue: bool,
        answer_ms: u64,
        environments: usize,
    ) -> Option<&Cell> {
        self.cells.iter().find(|cell| {
            (cell.load, cell.is_queue, cell.answer_ms, cell.environments)
                == (load, is_queue, answer_ms, environments)
        })
    }

    fn row(&self, cell: &Cell) -> [String; 9] {
        let [median, p99] = cell.wait.map(time);
        let is_carried = cell.per_event.requests < MAX_REQUESTS && cell.load.is_steady();
        [
            cell.load.title().to_owned(),
            format!("{} ms", cell.answer_ms),
            format!("`{}`", if cell.is_queue { "queue" } else { "direct" }),
            self.first_limit(cell),
            decimals(cell.per_second),
            decimals(cell.sent_again),
            if median == p99 {
                median
            } else {
                format!("{median}, {p99}")
            },
            time(cell.last),
            if is_carried {
                whole(self.prices.month(cell))
            } else {
                "–".to_owned()
            },
        ]
    }

    fn first_limit(&self, cell: &Cell) -> String {
        let is_raised =
            f64::from(cell.load.shape().0) > self.prices.throttling[0] && cell.load.is_steady();
        let limit = cell.met.first().map(|(limit, share)| {
            let name = match limit {
                Limit::Requests => "`ThrottlingRate`",
                Limit::Environments => "Lambda's 1,000 environments",
                Limit::Uploads => "CleverTap's 15 uploads",
            };
            format!("{name}: refuses {} %", decimals(share * 100.0))
        });
        let behind = cell.is_behind.then(|| "`MaximumConcurrency`".to_owned());
        let raised = is_raised.then(|| "`ThrottlingRate`, raised here".to_owned());
        let limits: Vec<_> = raised.into_iter().chain(limit).chain(behind).collect();
        if limits.is_empty() {
            "none".to_owned()
        } else {
            limits.join("; ")
        }
    }
}

/// The CPU time of a warm event in the row of a size of memory, by the title of its column.
fn cpu_ms(page: &str, memory: f64) -> Option<f64> {
    let (_, section) = page.split_once("### Memory sizes\n")?;
    let mut rows = section.lines().filter(|line| line.starts_with("| "));
    let mut titles = rows.next()?.split(" | ");
    let column =
        titles.position(|title| title.trim_end_matches(" |") == "CPU of a warm event, ms")?;
    let row = rows.find(|row| row.starts_with(&format!("| {memory} MB |")))?;
    first_number(row, column)
}

/// What a cell of a row begins with.
fn first_number(row: &str, column: usize) -> Option<f64> {
    let cell = row.split(" | ").nth(column)?;
    cell.split_whitespace().next()?.parse().ok()
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
