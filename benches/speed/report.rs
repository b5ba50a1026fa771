//! What one run measured, and the tables of `benches/README.md` with the targets beside it.
//! It does not measure.

use crate::contestants::Contestant;
use crate::events::{BATCH, SAMPLE};
use crate::instructions::Instructions;
use crate::spread::Spread;
use clap::ValueEnum;
use std::ops::{Add, Sub};
use std::time::Duration;

pub struct Report {
    pub machine: Machine,
    /// UTC.
    pub date: String,
    pub sizes: Vec<Size>,
    pub cold: Vec<ColdStarts>,
    pub warm: Vec<Warm>,
    /// `None` where they were not counted.
    pub instructions: Option<Instructions>,
}

pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    /// The load average before anything was built or started.
    pub load: f64,
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

/// One contestant's events after its first ones.
pub struct Warm {
    pub contestant: Contestant,
    /// In one invocation.
    pub events_at_once: u32,
    pub invocations: u32,
    /// For each invocation.
    pub took_us: Spread,
    /// For each invocation.
    pub cpu_us: Spread,
    /// Since the process began.
    pub peak_mib: f64,
    /// Of all invocations.
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
        let Machine {
            cpu,
            cores,
            kernel,
            load,
        } = &self.machine;
        let mut text = format!(
            "Measured on {} on {cpu}: {cores} cores, Linux {kernel}, load average {load} at the start. `a (b–c)` is a median and its quartiles. The event is `{SAMPLE}`.\n",
            self.date,
        );
        text += &table(
            "Targets",
            "",
            ["", "target", "measured", ""],
            self.targets(),
        );
        for starts in &self.cold {
            text += &starts.table();
        }
        text += &self.warm_table();
        let sizes = self.sizes.iter().map(|size| {
            let title = size.contestant.titles().0.to_owned();
            [title, decimals(size.binary_mb), decimals(size.zip_mb)]
        });
        text += &table("Size", "", ["", "binary, MB", "zip, MB"], sizes);
        if let Some(Instructions {
            verify,
            parse,
            map,
            write,
        }) = self.instructions
        {
            let row = [verify, parse, map, verify + parse + map, write].map(grouped);
            let columns = [
                "verify",
                "parse",
                "map",
                "verify, parse and map",
                "write the upload",
            ];
            text += &table("Instructions for one event", "", columns, [row]);
        }
        text
    }

    /// The median time from the start of a process to its first answer.
    pub fn answer_ms(&self, conditions: Conditions, contestant: Contestant) -> Option<f64> {
        let mut all = self.cold.iter();
        all.find(|starts| starts.conditions == conditions)?
            .answer_ms(contestant)
    }

    pub fn warm(&self, contestant: Contestant, events_at_once: u32) -> Option<&Warm> {
        self.warm
            .iter()
            .find(|warm| warm.contestant == contestant && warm.events_at_once == events_at_once)
    }

    /// One row for each target that was measured.
    fn targets(&self) -> Vec<[String; 4]> {
        use Conditions::{Plain, Quota};
        use Contestant::{Defaults, Node, Nothing, Python, Relay, RelayWithTable};
        use Limit::{AtLeast, AtMost};
        let warm = |contestant| Some(self.warm(contestant, 1)?.took_us.median);
        let answer = |conditions, contestant| self.answer_ms(conditions, contestant);
        let speedup = |conditions, peer| ratio(answer(conditions, peer), answer(conditions, Relay));
        let batch = self.warm(Relay, BATCH);
        let requests = |contestant| Some(self.warm(contestant, 1)?.requests_per_event());
        let zip = self.sizes.iter().find(|size| size.contestant == Relay);
        let targets = [
            (
                "spawn to first answer, over the function that does nothing",
                AtMost(2.5, "×"),
                ratio(answer(Plain, Relay), answer(Plain, Nothing)),
            ),
            (
                "warm median, over the function that does nothing",
                AtMost(1.8, "×"),
                ratio(warm(Relay), warm(Nothing)),
            ),
            (
                "peak memory, after all warm events",
                AtMost(9.0, " MiB"),
                self.warm(Relay, 1).map(|warm| warm.peak_mib),
            ),
            ("zip", AtMost(4.0, " MB"), zip.map(|size| size.zip_mb)),
            (
                "spawn to first answer, faster than Node",
                AtLeast(30.0),
                speedup(Plain, Node),
            ),
            (
                "spawn to first answer, faster than Python",
                AtLeast(30.0),
                speedup(Plain, Python),
            ),
            (
                "under the quota, spawn to first answer, faster than the same with default features",
                AtLeast(6.0),
                speedup(Quota, Defaults),
            ),
            (
                "an event in a batch of ten, over a single one",
                AtMost(1.0 / 3.0, "×"),
                ratio(
                    batch.map(|batch| batch.per_event(batch.took_us.median)),
                    warm(Relay),
                ),
            ),
            (
                "with the table, additional requests for each event",
                AtMost(2.0, ""),
                requests(RelayWithTable)
                    .zip(requests(Relay))
                    .map(|(with, without)| with - without),
            ),
        ];
        let rows = targets.into_iter().filter_map(|(what, limit, measured)| {
            let measured = measured?;
            let (limit, text, is_met) = match limit {
                AtMost(limit, unit) => (
                    format!("at most {}{unit}", decimals(limit)),
                    format!("{}{unit}", decimals(measured)),
                    measured <= limit,
                ),
                AtLeast(limit) => (
                    format!("at least {limit}×"),
                    format!("{measured:.1}×"),
                    measured >= limit,
                ),
            };
            let verdict = if is_met { "met" } else { "**missed**" };
            Some([what.to_owned(), limit, text, verdict.to_owned()])
        });
        rows.collect()
    }

    fn warm_table(&self) -> String {
        let floor = self.warm(Contestant::Nothing, 1);
        let floor = floor.map(|floor| floor.took_us.median);
        let rows = self.warm.iter().map(|warm| {
            let title = warm.contestant.titles().0;
            let batch = match warm.events_at_once {
                1 => String::new(),
                many => format!(", for each event in a batch of {many}"),
            };
            let us = |time| format!("{:.0}", warm.per_event(time));
            let Spread {
                lower_quartile,
                median,
                upper_quartile,
                p99,
                ..
            } = warm.took_us;
            [
                format!("{title}{batch}"),
                format!(
                    "{} ({}–{})",
                    us(median),
                    us(lower_quartile),
                    us(upper_quartile)
                ),
                times(ratio(Some(warm.per_event(median)), floor)),
                us(p99),
                us(warm.cpu_us.median),
                format!("{:.1}", warm.peak_mib),
                decimals(warm.requests_per_event()),
                warm.traffic.connections.to_string(),
            ]
        });
        let events = self.warm.iter().find(|warm| warm.events_at_once == 1);
        let events = events.map_or(0, |warm| warm.invocations);
        let note = format!("{events} of each, after 100 that are not counted.");
        let columns = [
            "",
            "median, µs",
            "× floor",
            "p99, µs",
            "CPU, µs",
            "peak memory, MiB",
            "requests",
            "new connections",
        ];
        table("Warm events", &note, columns, rows)
    }
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            requests: self.requests + other.requests,
            connections: self.connections + other.connections,
        }
    }
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            requests: self.requests - earlier.requests,
            connections: self.connections - earlier.connections,
        }
    }
}

impl ColdStarts {
    fn answer_ms(&self, contestant: Contestant) -> Option<f64> {
        let mut figures = self.figures.iter();
        let cold = figures.find(|cold| cold.contestant == contestant)?;
        Some(cold.answer_ms.median)
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
                times(ratio(Some(cold.answer_ms.median), floor)),
                decimals(cold.cpu_ms.median),
                format!("{:.1}", cold.peak_mib.median),
                cold.traffic.connections.to_string(),
                cold.traffic.requests.to_string(),
            ]
        });
        let rounds = self.figures.first().map_or(0, |cold| cold.answer_ms.count);
        let note = format!("{rounds} of each. {}", self.note);
        let columns = [
            "",
            "to the first `next`, ms",
            "to the first answer, ms",
            "× floor",
            "CPU, ms",
            "peak memory, MiB",
            "TLS connections",
            "requests",
        ];
        table(title, note.trim(), columns, rows)
    }
}

impl Warm {
    /// Of an invocation's figure.
    fn per_event(&self, figure: f64) -> f64 {
        figure / f64::from(self.events_at_once)
    }

    fn requests_per_event(&self) -> f64 {
        self.per_event(f64::from(self.traffic.requests) / f64::from(self.invocations))
    }
}

pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Three digits where the number has fraction digits to drop.
pub fn decimals(number: f64) -> String {
    if number == 0.0 || number >= 100.0 {
        format!("{number:.0}")
    } else if number >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

/// Empty without rows.
fn table<const N: usize>(
    title: &str,
    note: &str,
    columns: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let line = |cells: [String; N]| format!("| {} |\n", cells.join(" | "));
    let rows: String = rows.into_iter().map(line).collect();
    if rows.is_empty() {
        return rows;
    }
    let note = if note.is_empty() {
        String::new()
    } else {
        format!("{note}\n\n")
    };
    let head = line(columns.map(str::to_owned));
    format!("\n### {title}\n\n{note}{head}|{}\n{rows}", "---|".repeat(N))
}

fn ratio(of: Option<f64>, to: Option<f64>) -> Option<f64> {
    Some(of? / to?)
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or("–".to_owned(), decimals)
}

fn quartiles(spread: &Spread) -> String {
    let [lower, median, upper] =
        [spread.lower_quartile, spread.median, spread.upper_quartile].map(decimals);
    format!("{median} ({lower}–{upper})")
}

/// With a comma between thousands.
fn grouped(number: u64) -> String {
    if number < 1000 {
        return number.to_string();
    }
    format!("{},{:03}", grouped(number / 1000), number % 1000)
}
