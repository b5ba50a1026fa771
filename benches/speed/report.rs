//! What one run measured, and the tables of `benches/README.md` with the targets beside it.
//! It does not measure.

use crate::contestants::Contestant;
use crate::events::SAMPLE;
use crate::instructions::Instructions;
use crate::measure::Latencies;
use crate::spread::Spread;
use clap::ValueEnum;
use std::time::Duration;
use tools::figures::{decimals, grouped, table};

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
    pub latencies: Latencies,
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

/// Why a peer is not left further behind.
const LESS: &str = "the peer has neither table nor queues and uploads one record";

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
        let head = "| hash | verify, without it | parse | map | write the upload | all, without the hash |";
        let instructions = self.instructions.iter().map(|count| {
            let verify = count.verify.saturating_sub(count.hash);
            let sum = count.without_hash();
            [count.hash, verify, count.parse, count.map, count.write, sum].map(grouped)
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
        all.find(|warm| warm.contestant == contestant).map_or(f64::NAN, figure)
    }

    /// One row for each target that was measured.
    fn targets(&self) -> Vec<[String; 4]> {
        use Conditions::{Latency, Plain, Quota};
        use Contestant::{Bare, Defaults, Node, Nothing, Python, Relay, RelayAlone};
        use Limit::{AtLeast, AtMost};
        let answer = |conditions, contestant| self.answer_ms(conditions, contestant);
        let speedup = |conditions, peer| answer(conditions, peer) / answer(conditions, Relay);
        let warm = |contestant| self.warm(contestant, |warm| warm.took_us.median);
        let requests = |contestant| self.warm(contestant, Warm::requests_per_event);
        let zip = self.sizes.iter().find(|size| size.contestant == Relay);
        let away = self.cold.iter().find(|starts| starts.conditions == Latency);
        let instructions =
            self.instructions.and_then(|count| u32::try_from(count.without_hash()).ok());
        let targets = [
            (
                "spawn to first answer, over the function that does nothing",
                AtMost(2.5, "×"),
                answer(Plain, Relay) / answer(Plain, Nothing),
                "it makes three TLS handshakes and verifies their certificates, the other none",
            ),
            (
                "services further away, spawn to first answer, over the critical path of round trips",
                AtMost(1.1, "×"),
                away.map_or(f64::NAN, |starts| {
                    starts.answer_ms(Relay) / starts.critical_path_ms(Relay)
                }),
                "the start of the process, its handshakes and the work for the event come on top, and the first upload waits for the answer to the request that opened its connection",
            ),
            (
                "warm median without the table, over the bare forward",
                AtMost(1.25, "×"),
                warm(RelayAlone) / warm(Bare),
                "the bare forward does not verify, parse, map, read the answer or log",
            ),
            (
                "instructions to verify, parse, map and write, without the hash",
                AtMost(200_000.0, ""),
                instructions.map_or(f64::NAN, f64::from),
                "it reads a hundred fields, and its map keeps CleverTap's limits for each",
            ),
            (
                "peak memory, after all warm events",
                AtMost(9.0, " MiB"),
                self.warm(Relay, |warm| warm.peak_mib),
                "the AWS SDK's clients of the table and the queues are in it",
            ),
            (
                "zip",
                AtMost(4.0, " MB"),
                zip.map_or(f64::NAN, |size| size.zip_mb),
                "the AWS SDK",
            ),
            (
                "spawn to first answer, faster than Node",
                AtLeast(30.0),
                speedup(Plain, Node),
                LESS,
            ),
            (
                "spawn to first answer, faster than Python",
                AtLeast(30.0),
                speedup(Plain, Python),
                LESS,
            ),
            (
                "under the quota, spawn to first answer, faster than the plain relay in Rust",
                AtLeast(6.0),
                speedup(Quota, Defaults),
                LESS,
            ),
            (
                "with the table, additional requests for each event",
                AtMost(2.0, ""),
                requests(Relay) - requests(RelayAlone),
                "claims were repeated",
            ),
        ];
        let measured = targets.into_iter().filter(|(_, _, measured, _)| !measured.is_nan());
        let rows = measured.map(|(what, limit, measured, why_missed)| {
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
            let missed = || format!("**missed**: {why_missed}");
            let verdict = if is_met { "met".to_owned() } else { missed() };
            [what.to_owned(), limit, text, verdict]
        });
        rows.collect()
    }

    fn warm_table(&self) -> String {
        let bare = self.warm(Contestant::Bare, |warm| warm.took_us.median);
        let rows = self.warm.iter().map(|warm| {
            [
                warm.contestant.titles().0.to_owned(),
                quartiles(&warm.took_us),
                decimals(warm.took_us.median / bare),
                decimals(warm.took_us.p99),
                decimals(warm.cpu_us.median),
                decimals(warm.peak_mib),
                decimals(warm.requests_per_event()),
                warm.traffic.connections.to_string(),
            ]
        });
        let events = self.warm.first().map_or(0, |warm| warm.events);
        let note = format!("{events} of each, after 100 that are not counted.");
        let head = "| | median, µs | × bare forward | p99, µs | CPU, µs | peak memory, MiB | requests | new connections |";
        table("Warm events", &note, head, rows)
    }
}

impl ColdStarts {
    fn answer_ms(&self, contestant: Contestant) -> f64 {
        let mut figures = self.figures.iter();
        let cold = figures.find(|cold| cold.contestant == contestant);
        cold.map_or(f64::NAN, |cold| cold.answer_ms.median)
    }

    fn critical_path_ms(&self, contestant: Contestant) -> f64 {
        ms(self.latencies.critical_path(contestant == Contestant::Relay))
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

fn quartiles(spread: &Spread) -> String {
    let numbers = [spread.lower_quartile, spread.median, spread.upper_quartile];
    let [lower, median, upper] = numbers.map(decimals);
    format!("{median} ({lower}–{upper})")
}
