//! What one run measured, and the tables of `benches/README.md` with the targets beside it.
//! It does not measure.

use crate::contestants::Contestant;
use crate::events::SAMPLE;
use crate::instructions::Instructions;
use crate::spread::Spread;
use clap::ValueEnum;
use std::time::Duration;

pub struct Report {
    /// When and on what it was measured.
    pub setting: String,
    pub sizes: Vec<Size>,
    pub cold: Vec<ColdStarts>,
    pub warm: Vec<Warm>,
    /// `None` where they were not counted.
    pub instructions: Option<Instructions>,
}

pub struct Size {
    pub contestant: Contestant,
    pub binary_mb: f64,
    /// Compressed by deflate at level 9.
    pub zip_mb: f64,
}

/// The cold starts of all contestants under the same conditions.
pub struct ColdStarts {
    pub conditions: Conditions,
    /// The quota, or what the services add.
    pub note: String,
    pub figures: Vec<Cold>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Conditions {
    /// A whole CPU, everything on the same machine.
    Plain,
    /// A small Lambda function's part of a CPU.
    Quota,
    /// Services that are milliseconds away.
    Latency,
}

/// One contestant's cold starts, each up to its first answer.
pub struct Cold {
    pub contestant: Contestant,
    pub next_ms: Spread,
    pub answer_ms: Spread,
    pub cpu_ms: Spread,
    pub peak_mib: Spread,
    /// Of the start with the most requests.
    pub traffic: Traffic,
}

/// One contestant's events after its first ones. Figures are for each event.
pub struct Warm {
    pub contestant: Contestant,
    /// In one invocation.
    pub batch: u32,
    pub events: u32,
    pub took_us: Spread,
    pub cpu_us: Spread,
    /// Since the process began.
    pub peak_mib: f64,
    /// Of all events.
    pub traffic: Traffic,
}

/// What reached the services, all of them together.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Traffic {
    pub requests: u32,
    pub connections: u32,
}

enum Limit {
    AtMost(f64, &'static str),
    AtLeast(f64),
}

impl Report {
    /// The tables, in Markdown.
    pub fn tables(&self) -> String {
        let mut text = format!(
            "Measured on {}. `a (b–c)` is a median and its quartiles. The event is `{SAMPLE}`.\n",
            self.setting
        );
        let head = "| | target | measured | |";
        text += &table("Targets", "", head, self.targets());
        for starts in &self.cold {
            text += &starts.table();
        }
        text += &self.warm_table();
        let sizes = self.sizes.iter().map(|size| {
            let title = size.contestant.titles().0.to_owned();
            [title, decimals(size.binary_mb), decimals(size.zip_mb)]
        });
        text += &table("Size", "", "| | binary, MB | zip, MB |", sizes);
        let head = "| verify | parse | map | verify, parse and map | write the upload |";
        let instructions = self.instructions.iter().map(|count| {
            let sum = count.verify + count.parse + count.map;
            [count.verify, count.parse, count.map, sum, count.write].map(grouped)
        });
        text + &table("Instructions for one event", "", head, instructions)
    }

    /// The median time from the start of a process to its first answer. NaN where it was not measured.
    pub fn answer_ms(&self, conditions: Conditions, contestant: Contestant) -> f64 {
        let mut all = self.cold.iter();
        all.find(|starts| starts.conditions == conditions)
            .map_or(f64::NAN, |starts| starts.answer_ms(contestant))
    }

    /// A figure of single events. NaN where it was not measured.
    pub fn warm(&self, contestant: Contestant, figure: fn(&Warm) -> f64) -> f64 {
        let mut all = self.warm.iter();
        all.find(|warm| warm.contestant == contestant && warm.batch == 1).map_or(f64::NAN, figure)
    }

    /// One row for each target that was measured.
    fn targets(&self) -> Vec<[String; 4]> {
        use Conditions::{Plain, Quota};
        use Contestant::{Defaults, Node, Nothing, Python, Relay, RelayWithTable};
        use Limit::{AtLeast, AtMost};
        let answer = |conditions, contestant| self.answer_ms(conditions, contestant);
        let speedup = |conditions, peer| answer(conditions, peer) / answer(conditions, Relay);
        let warm = |contestant| self.warm(contestant, |warm| warm.took_us.median);
        let requests = |contestant| self.warm(contestant, Warm::requests_per_event);
        let batch = self.warm.iter().find(|warm| warm.batch > 1);
        let zip = self.sizes.iter().find(|size| size.contestant == Relay);
        let targets = [
            (
                "spawn to first answer, over the function that does nothing",
                AtMost(2.5, "×"),
                answer(Plain, Relay) / answer(Plain, Nothing),
            ),
            (
                "warm median, over the function that does nothing",
                AtMost(1.8, "×"),
                warm(Relay) / warm(Nothing),
            ),
            (
                "peak memory, after all warm events",
                AtMost(9.0, " MiB"),
                self.warm(Relay, |warm| warm.peak_mib),
            ),
            ("zip", AtMost(4.0, " MB"), zip.map_or(f64::NAN, |size| size.zip_mb)),
            ("spawn to first answer, faster than Node", AtLeast(30.0), speedup(Plain, Node)),
            ("spawn to first answer, faster than Python", AtLeast(30.0), speedup(Plain, Python)),
            (
                "under the quota, spawn to first answer, faster than the same with default features",
                AtLeast(6.0),
                speedup(Quota, Defaults),
            ),
            (
                "an event in a batch of ten, over a single one",
                AtMost(1.0 / 3.0, "×"),
                batch.map_or(f64::NAN, |batch| batch.took_us.median) / warm(Relay),
            ),
            (
                "with the table, additional requests for each event",
                AtMost(2.0, ""),
                requests(RelayWithTable) - requests(Relay),
            ),
        ];
        let measured = targets.into_iter().filter(|(.., measured)| !measured.is_nan());
        let rows = measured.map(|(what, limit, measured)| {
            let (limit, text, is_met) = match limit {
                AtMost(limit, unit) => (
                    format!("at most {}{unit}", decimals(limit)),
                    format!("{}{unit}", decimals(measured)),
                    measured <= limit,
                ),
                AtLeast(limit) => {
                    (format!("at least {limit}×"), format!("{measured:.1}×"), measured >= limit)
                }
            };
            let verdict = if is_met { "met" } else { "**missed**" };
            [what.to_owned(), limit, text, verdict.to_owned()]
        });
        rows.collect()
    }

    fn warm_table(&self) -> String {
        let floor = self.warm(Contestant::Nothing, |warm| warm.took_us.median);
        let rows = self.warm.iter().map(|warm| {
            let title = warm.contestant.titles().0;
            [
                match warm.batch {
                    1 => title.to_owned(),
                    many => format!("{title}, for each event in a batch of {many}"),
                },
                quartiles(&warm.took_us),
                decimals(warm.took_us.median / floor),
                decimals(warm.took_us.p99),
                decimals(warm.cpu_us.median),
                decimals(warm.peak_mib),
                decimals(warm.requests_per_event()),
                warm.traffic.connections.to_string(),
            ]
        });
        let events = self.warm.first().map_or(0, |warm| warm.events);
        let note = format!("{events} of each, after 100 that are not counted.");
        let head = "| | median, µs | × floor | p99, µs | CPU, µs | peak memory, MiB | requests | new connections |";
        table("Warm events", &note, head, rows)
    }
}

impl ColdStarts {
    fn answer_ms(&self, contestant: Contestant) -> f64 {
        let mut figures = self.figures.iter();
        let cold = figures.find(|cold| cold.contestant == contestant);
        cold.map_or(f64::NAN, |cold| cold.answer_ms.median)
    }

    fn table(&self) -> String {
        let title = match self.conditions {
            Conditions::Plain => "Cold starts",
            Conditions::Quota => "Cold starts on a part of a CPU",
            Conditions::Latency => "Cold starts with services further away",
        };
        let floor = self.answer_ms(Contestant::Nothing);
        let rows = self.figures.iter().map(|cold| {
            [
                cold.contestant.titles().0.to_owned(),
                quartiles(&cold.next_ms),
                quartiles(&cold.answer_ms),
                decimals(cold.answer_ms.median / floor),
                decimals(cold.cpu_ms.median),
                decimals(cold.peak_mib.median),
                cold.traffic.connections.to_string(),
                cold.traffic.requests.to_string(),
            ]
        });
        let rounds = self.figures.first().map_or(0, |cold| cold.answer_ms.count);
        let note = format!("{rounds} of each. {}", self.note);
        let head = "| | to the first `next`, ms | to the first answer, ms | × floor | CPU, ms | peak memory, MiB | TLS connections | requests |";
        table(title, note.trim(), head, rows)
    }
}

impl Warm {
    fn requests_per_event(&self) -> f64 {
        f64::from(self.traffic.requests) / f64::from(self.events)
    }
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Three digits where there are fraction digits to drop; a dash for what was not measured.
pub fn decimals(number: f64) -> String {
    match number {
        _ if number.is_nan() => "–".to_owned(),
        _ if number == 0.0 || number >= 100.0 => format!("{number:.0}"),
        _ if number >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Empty without rows.
fn table<const N: usize>(
    title: &str,
    note: &str,
    head: &str,
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows = rows.into_iter().map(|cells| format!("| {} |", cells.join(" | ")));
    let rows = rows.collect::<Vec<_>>().join("\n");
    if rows.is_empty() {
        return rows;
    }
    let note = if note.is_empty() { note } else { &format!("{note}\n\n") };
    let line = "---|".repeat(N);
    format!("\n### {title}\n\n{note}{head}\n|{line}\n{rows}\n")
}

fn quartiles(spread: &Spread) -> String {
    let numbers = [spread.lower_quartile, spread.median, spread.upper_quartile];
    let [lower, median, upper] = numbers.map(decimals);
    format!("{median} ({lower}–{upper})")
}

/// With a comma between thousands.
fn grouped(number: u64) -> String {
    if number < 1000 {
        return number.to_string();
    }
    format!("{},{:03}", grouped(number / 1000), number % 1000)
}
