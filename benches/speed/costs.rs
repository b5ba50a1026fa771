//! What the capacity's measurements mean: tables, a plot, the limit that comes first at a rate, and its price.
//! It does not measure, and it takes the prices and settings from the page that it is written into.

use crate::capacity::{ANSWER_MS, Cell, ENVIRONMENTS, Mode};
use crate::plot::{self, Panel, Row};
use crate::report::{decimals, table, whole};
use std::error::Error;

/// The answers of CleverTap that limits and costs assume.
const TYPICAL_MS: u64 = 200;
const RATES: [f64; 3] = [10.0, 1_000.0, 100_000.0];
const SECONDS_A_MONTH: f64 = 30.0 * 86_400.0;
/// The function's memory in the template.
const GIBIBYTES: f64 = 0.25;
/// The share of CPU time from which this machine, not the function, sets the rate.
const CPU_LIMIT: f64 = 0.9;

pub struct Capacity {
    /// When and on what it was measured.
    pub setting: String,
    pub seconds: u64,
    pub cells: Vec<Cell>,
}

/// US dollars, from the tables of the page.
struct Prices {
    api: f64,
    invocation: f64,
    gibibyte_second: f64,
    write: f64,
    sqs: f64,
    logs: f64,
    /// Not a price: the template's `ThrottlingRate`.
    throttling_rate: f64,
}

/// What stops more events, and from which rate on in each mode.
struct Limit {
    name: &'static str,
    direct: f64,
    queue: f64,
}

impl Capacity {
    /// The tables, in Markdown. `page` has the prices.
    pub fn tables(&self, page: &str) -> Result<String, Box<dyn Error>> {
        let prices = Prices::read(page)?;
        let mut text = format!(
            "Measured on {}. {} s for each number, with environments as processes, all of them busy. In queue mode, up to 10 of them relay batches. A 200 takes what the buyer waits for, but for API Gateway, the network and cold starts. `≥`: the CPUs of the machine were the limit.\n",
            self.setting, self.seconds
        );
        let head = "| CleverTap answers in | environments | direct: events per second | a 200 takes (p50, p99) | sent again, for each event | queue: events per second | a 200 takes (p50, p99) |";
        let rows = ANSWER_MS.iter().flat_map(|&answer_ms| {
            ENVIRONMENTS.iter().filter_map(move |&environments| {
                let direct = self.cell(Mode::Direct, environments, answer_ms)?;
                let queue = self.cell(Mode::Queue, environments, answer_ms)?;
                Some([
                    format!("{answer_ms} ms"),
                    environments.to_string(),
                    direct.rate(),
                    direct.wait(),
                    decimals(direct.sent_again),
                    queue.rate(),
                    queue.wait(),
                ])
            })
        });
        text += &table("", "", head, rows);
        let head = "| requests for each event | Lambda | CleverTap | DynamoDB | SQS |";
        let rows = [
            ("`direct`, 15 environments", Mode::Direct, 15),
            ("`direct`, 50 environments: beyond CleverTap's limit", Mode::Direct, 50),
            ("`queue`, 50 environments: full batches", Mode::Queue, 50),
        ];
        let rows = rows.into_iter().filter_map(|(title, mode, environments)| {
            let cell = self.cell(mode, environments, TYPICAL_MS)?.per_event;
            let [lambda, clevertap, dynamodb, sqs] =
                [cell.invocations, cell.clevertap, cell.dynamodb, cell.sqs].map(decimals);
            Some([title.to_owned(), lambda, clevertap, dynamodb, sqs])
        });
        text += &table("", "", head, rows);
        // Fifteen environments are all that `direct` needs; with more, uploads are refused and sent again.
        let direct = self.cell(Mode::Direct, 15, TYPICAL_MS).ok_or("not enough was measured")?;
        let queue = self.cell(Mode::Queue, 50, TYPICAL_MS).ok_or("not enough was measured")?;
        let limits = limits(direct, queue, prices.throttling_rate);
        let head = "| limit, with answers in 200 ms | direct: events per second | queue: events per second |";
        let rows = limits.iter().map(|limit| {
            let rate = |rate: f64| {
                if rate.is_finite() {
                    whole(rate)
                } else {
                    "–".to_owned()
                }
            };
            [limit.name.to_owned(), rate(limit.direct), rate(limit.queue)]
        });
        text += &table("", "", head, rows);
        let head = "| events per second | direct: what stops it, in this order | direct: USD a month | queue: what stops it, in this order | queue: USD a month |";
        let rows = RATES.map(|rate| {
            [
                whole(rate),
                first(&limits, rate, |limit| limit.direct),
                whole(prices.month(rate, direct)),
                first(&limits, rate, |limit| limit.queue),
                whole(prices.month(rate, queue)),
            ]
        });
        Ok(text + &table("", "", head, rows))
    }

    pub fn plot(&self) -> String {
        let modes = [(Mode::Direct, "direct", false), (Mode::Queue, "queue", true)];
        let rows = modes.into_iter().flat_map(|(mode, name, is_ours)| {
            ENVIRONMENTS.map(|count| (mode, count, format!("{name}, {count}"), is_ours))
        });
        let rows: Vec<_> = rows.collect();
        let titles = ANSWER_MS.map(|answer_ms| format!("CleverTap answers in {answer_ms} ms"));
        let panel = |place: usize| Panel {
            title: &titles[place],
            note: "events per second, by environments",
            values: rows
                .iter()
                .map(|(mode, count, ..)| {
                    let cell = self.cell(*mode, *count, ANSWER_MS[place]);
                    cell.map_or(f64::NAN, |cell| cell.events_per_second)
                })
                .collect(),
        };
        let names: Vec<_> =
            rows.iter().map(|(.., name, is_ours)| Row { name, is_ours: *is_ours }).collect();
        plot::draw(&names, &[panel(0), panel(1), panel(2)])
    }

    fn cell(&self, mode: Mode, environments: usize, answer_ms: u64) -> Option<&Cell> {
        self.cells.iter().find(|cell| {
            (cell.mode, cell.environments, cell.answer_ms) == (mode, environments, answer_ms)
        })
    }
}

impl Cell {
    fn rate(&self) -> String {
        let sign = if self.cpu > CPU_LIMIT { "≥ " } else { "" };
        format!("{sign}{}", decimals(self.events_per_second))
    }

    fn wait(&self) -> String {
        format!("{}, {} ms", decimals(self.wait_ms.median), decimals(self.wait_ms.p99))
    }
}

/// AWS's are defaults that it raises on request: <https://docs.aws.amazon.com/general/latest/gr/aws-service-information.html>.
fn limits(direct: &Cell, queue: &Cell, throttling_rate: f64) -> Vec<Limit> {
    let both = |name, rate| Limit { name, direct: rate, queue: rate };
    let invocations = 1000.0;
    let writes = 40_000.0;
    vec![
        Limit {
            name: "CleverTap: 15 uploads at once (measured)",
            direct: direct.events_per_second,
            queue: queue.events_per_second,
        },
        both("`ThrottlingRate`, the setting", throttling_rate),
        Limit {
            name: "Lambda: 1,000 invocations at once",
            direct: invocations / direct.per_event.duration,
            queue: invocations / queue.per_event.duration,
        },
        both("API Gateway: 10,000 requests a second in an account and region", 10_000.0),
        Limit {
            name: "DynamoDB: 40,000 writes a second to an on-demand table",
            direct: writes / direct.per_event.dynamodb,
            queue: writes / queue.per_event.dynamodb,
        },
        Limit {
            name: "SQS: 70,000 sends a second to a high-throughput FIFO queue in the largest regions",
            direct: f64::INFINITY,
            queue: 70_000.0,
        },
    ]
}

fn first(limits: &[Limit], rate: f64, of_mode: fn(&Limit) -> f64) -> String {
    let mut limits: Vec<_> = limits.iter().filter(|limit| of_mode(limit) < rate).collect();
    limits.sort_by(|a, b| of_mode(a).total_cmp(&of_mode(b)));
    let names: Vec<_> =
        limits.iter().filter_map(|limit| limit.name.split([':', ',']).next()).collect();
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

impl Prices {
    fn read(page: &str) -> Result<Self, String> {
        let price = |name: &str, column: usize| {
            let row = page.lines().find(|line| line.starts_with(&format!("| {name} |")));
            let cell = row.and_then(|row| row.split(" | ").nth(column));
            cell.and_then(|cell| cell.trim_end_matches(" |").parse::<f64>().ok())
                .ok_or_else(|| format!("docs/costs.md has no price of {name}"))
        };
        Ok(Self {
            api: price("API Gateway, HTTP API", 1)? / 1e6,
            invocation: price("Lambda, requests", 1)? / 1e6,
            gibibyte_second: price("Lambda, duration on arm64", 1)?,
            write: price("DynamoDB, on-demand writes", 1)? / 1e6,
            sqs: price("SQS, FIFO queues", 1)? / 1e6,
            logs: price("Logs", 3)? / 1e6,
            throttling_rate: price("Requests per second to the API (`ThrottlingRate`)", 1)?,
        })
    }

    /// Without the fixed costs.
    fn month(&self, events_per_second: f64, cell: &Cell) -> f64 {
        let event = cell.per_event;
        // In queue mode the function writes an event's line twice.
        let lines = if cell.mode == Mode::Queue { 2.0 } else { 1.0 };
        let each = self.api * (1.0 + cell.sent_again)
            + self.invocation * event.invocations
            + self.gibibyte_second * GIBIBYTES * event.duration
            + self.write * event.dynamodb
            + self.sqs * event.sqs
            + self.logs * lines;
        each * events_per_second * SECONDS_A_MONTH
    }
}
