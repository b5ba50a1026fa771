//! What one run measured: as JSON, and as the tables of `benches/README.md` with the targets beside it.
//! It does not measure.

use crate::contestants::Contestant;
use crate::instructions::Instructions;
use crate::spread::Spread;
use serde::Serialize;
use std::ops::{Add, Sub};
use std::time::Duration;

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// UTC.
    pub date: String,
    pub sample: &'static str,
    pub sizes: Vec<Size>,
    pub cold: Vec<ColdStarts>,
    pub warm: Vec<Warm>,
    /// `None` where they were not counted.
    pub instructions: Option<Instructions>,
    pub targets: Vec<Target>,
}

#[derive(Debug, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub kernel: String,
    /// The load average before anything was built or started.
    pub load: f64,
}

#[derive(Debug, Serialize)]
pub struct Size {
    pub contestant: Contestant,
    pub binary_mb: f64,
    /// Compressed by deflate at level 9.
    pub zip_mb: f64,
}

/// The cold starts of all contestants under the same conditions.
#[derive(Debug, Serialize)]
pub struct ColdStarts {
    pub conditions: Conditions,
    /// The quota, or what the services add.
    pub note: String,
    pub figures: Vec<Cold>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Conditions {
    /// A whole CPU, everything on the same machine.
    Plain,
    /// A small Lambda function's part of a CPU.
    Quota,
    /// Services that are milliseconds away.
    Latency,
}

/// One contestant's cold starts, each up to its first answer.
#[derive(Debug, Serialize)]
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
#[derive(Debug, Serialize)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Traffic {
    pub requests: u32,
    pub connections: u32,
}

#[derive(Debug, Serialize)]
pub struct Target {
    pub what: &'static str,
    pub limit: String,
    pub measured: String,
    pub is_met: bool,
}

impl Report {
    /// Compares what was measured with the targets; a target that was not measured is left out.
    pub fn compare(&mut self) {
        use Conditions::{Plain, Quota};
        use Contestant::{Defaults, Node, Nothing, Python, Relay, RelayWithTable};
        let answer = |conditions, contestant| self.answer_ms(conditions, contestant);
        let warm = |contestant| Some(self.warm(contestant, 1)?.took_us.median);
        let requests = |contestant| Some(self.warm(contestant, 1)?.requests_per_event());
        let batch = self.warm.iter().find(|warm| warm.events_at_once > 1);
        let zip = self.sizes.iter().find(|size| size.contestant == Relay);
        let faster = |conditions, peer| ratio(answer(conditions, peer), answer(conditions, Relay));

        let at_most = |what, measured: Option<f64>, limit, unit| {
            let measured = measured?;
            Some(Target {
                what,
                limit: format!("at most {}{unit}", decimals(limit)),
                measured: format!("{}{unit}", decimals(measured)),
                is_met: measured <= limit,
            })
        };
        let at_least = |what, measured: Option<f64>, limit| {
            let measured = measured?;
            Some(Target {
                what,
                limit: format!("at least {limit}×"),
                measured: format!("{measured:.1}×"),
                is_met: measured >= limit,
            })
        };
        let targets = [
            at_most(
                "spawn to first answer, over the function that does nothing",
                ratio(answer(Plain, Relay), answer(Plain, Nothing)),
                2.5,
                "×",
            ),
            at_most(
                "warm median, over the function that does nothing",
                ratio(warm(Relay), warm(Nothing)),
                1.8,
                "×",
            ),
            at_most(
                "peak memory, after all warm events",
                self.warm(Relay, 1).map(|warm| warm.peak_mib),
                9.0,
                " MiB",
            ),
            at_most("zip", zip.map(|size| size.zip_mb), 4.0, " MB"),
            at_least(
                "spawn to first answer, faster than Node",
                faster(Plain, Node),
                30.0,
            ),
            at_least(
                "spawn to first answer, faster than Python",
                faster(Plain, Python),
                30.0,
            ),
            at_least(
                "under the quota, spawn to first answer, faster than the same with default features",
                faster(Quota, Defaults),
                6.0,
            ),
            at_most(
                "an event in a batch of ten, over a single one",
                ratio(
                    batch.map(|batch| batch.per_event(batch.took_us.median)),
                    warm(Relay),
                ),
                1.0 / 3.0,
                "×",
            ),
            at_most(
                "with the table, additional requests for each event",
                requests(RelayWithTable)
                    .zip(requests(Relay))
                    .map(|(with, without)| with - without),
                2.0,
                "",
            ),
        ];
        self.targets = targets.into_iter().flatten().collect();
    }

    /// The tables, in Markdown.
    pub fn tables(&self) -> String {
        let Machine {
            cpu,
            cores,
            kernel,
            load,
        } = &self.machine;
        let mut text = format!(
            "Measured on {} on {cpu}: {cores} cores, Linux {kernel}, load average {load} at the start. `a (b–c)` is a median and its quartiles. The event is `{}`.\n",
            self.date, self.sample,
        );
        if !self.targets.is_empty() {
            let rows = self.targets.iter().map(|target| {
                let verdict = if target.is_met { "met" } else { "**missed**" };
                [target.what, &target.limit, &target.measured, verdict].map(str::to_owned)
            });
            text += &table("Targets", "", ["", "target", "measured", ""], rows);
        }
        for starts in &self.cold {
            text += &starts.table();
        }
        if !self.warm.is_empty() {
            text += &self.warm_table();
        }
        if !self.sizes.is_empty() {
            let rows = self.sizes.iter().map(|size| {
                let title = size.contestant.titles().0.to_owned();
                [title, decimals(size.binary_mb), decimals(size.zip_mb)]
            });
            text += &table("Size", "", ["", "binary, MB", "zip, MB"], rows);
        }
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

    fn warm_table(&self) -> String {
        let floor = self.warm(Contestant::Nothing, 1);
        let floor = floor.map(|floor| floor.took_us.median);
        let rows = self.warm.iter().map(|warm| {
            let mut title = warm.contestant.titles().0.to_owned();
            if warm.events_at_once > 1 {
                title += &format!(", for each event in a batch of {}", warm.events_at_once);
            }
            let us = |time| format!("{:.0}", warm.per_event(time));
            let Spread {
                lower_quartile,
                median,
                upper_quartile,
                p99,
                ..
            } = warm.took_us;
            [
                title,
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

fn table<const N: usize>(
    title: &str,
    note: &str,
    columns: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut lines = vec![format!("\n### {title}\n")];
    if !note.is_empty() {
        lines.push(format!("{note}\n"));
    }
    lines.push(format!(
        "| {} |\n|{}",
        columns.join(" | "),
        "---|".repeat(N)
    ));
    lines.extend(
        rows.into_iter()
            .map(|cells| format!("| {} |", cells.join(" | "))),
    );
    lines.join("\n") + "\n"
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
