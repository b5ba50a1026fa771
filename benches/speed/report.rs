//! What one run measured, and the tables of `benches/README.md` with the targets beside it.
//! It does not measure.

use crate::contestants::Contestant;
use crate::events::SAMPLE;
use crate::instructions::Instructions;
use crate::measure::Samples;
use clap::ValueEnum;
use tools::figures::{decimals, figure_in, grouped, table};

/// The answers of CleverTap that the table of memory sizes assumes.
pub const CLEVERTAP_MS: u64 = 200;
/// What this bench counted at the commit d08df9b, with which the function had become right about the webhooks that
/// the field really sends.
const INSTRUCTIONS_BEFORE: f64 = 187_150.0;

/// Why a target was missed.
const CALLS: &str =
    "the AWS SDK takes a third of the instructions of an event for each of its two calls";
const HANDSHAKES: &str =
    "it makes three TLS handshakes at once, and the AWS SDK signs three requests";

pub struct Report {
    /// When and on what it was measured.
    pub setting: String,
    pub sizes: Vec<Size>,
    pub cold: Vec<ColdStarts>,
    pub warm: Vec<Samples>,
    pub memory: Vec<MemorySize>,
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
    pub samples: Vec<Samples>,
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

/// This function on the part of a CPU that a memory size gives.
pub struct MemorySize {
    pub mb: u32,
    pub cold: Samples,
    pub warm: Samples,
}

/// What a target is compared with, and whether it is a lower bound.
enum Bound {
    AtMost(f64, &'static str),
    AtLeast(f64),
}

impl Report {
    /// The tables, in Markdown. `costs` is the page that has the prices.
    pub fn tables(&self, costs: &str) -> Result<String, String> {
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
        text += &self.memory_table(costs)?;
        let sizes = self.sizes.iter().map(|size| {
            let title = size.contestant.titles().0.to_owned();
            [title, decimals(size.binary_mb), decimals(size.zip_mb)]
        });
        text += &table("Size", "", "| | binary, MB | zip, MB |", sizes);
        let head = "| hash | verify, without it | parse | map | write the upload | all, without the hash | 100 unknown fields | 200 unknown fields |";
        let note = "The last two are to parse, map and write an event that has so many unknown fields and none but the required ones beside.";
        let instructions = self.instructions.iter().map(|count| {
            let verify = count.verify.saturating_sub(count.hash);
            let (all, few, many) = (count.without_hash(), count.unknown_100, count.unknown_200);
            [count.hash, verify, count.parse, count.map, count.write, all, few, many].map(grouped)
        });
        Ok(text + &table("Instructions for one event", note, head, instructions))
    }

    /// The median time from the start of a process to its first answer. NaN where it was not measured.
    pub fn answer_ms(&self, conditions: Conditions, contestant: Contestant) -> f64 {
        let starts = self.cold.iter().find(|starts| starts.conditions == conditions);
        figure(starts.map_or(&[], |starts| &starts.samples), contestant, |cold| &cold.took_ms)
    }

    /// A median of single events. NaN where it was not measured.
    pub fn warm(&self, contestant: Contestant, values: fn(&Samples) -> &Vec<f64>) -> f64 {
        figure(&self.warm, contestant, values)
    }

    /// One row for each target that was measured.
    fn targets(&self) -> Vec<[String; 4]> {
        use Bound::{AtLeast, AtMost};
        use Conditions::{Plain, Quota};
        use Contestant::{Limit, Node, Python, Relay};
        let over =
            |conditions, peer| self.answer_ms(conditions, Relay) / self.answer_ms(conditions, peer);
        let of = |peer, values| self.warm(Relay, values) / self.warm(peer, values);
        let counted =
            |figure: fn(&Instructions) -> f64| self.instructions.as_ref().map_or(f64::NAN, figure);
        let mut targets = Vec::new();
        for (name, peer) in [("Node's", Node), ("Python's", Python)] {
            targets.extend([
                (
                    format!("first answer, faster than {name}"),
                    AtLeast(25.0),
                    1.0 / over(Plain, peer),
                    HANDSHAKES,
                ),
                (
                    format!("first answer on 1/14 of a CPU, faster than {name}"),
                    AtLeast(25.0),
                    1.0 / over(Quota, peer),
                    HANDSHAKES,
                ),
                (
                    format!("CPU of a warm event, of {name}"),
                    AtMost(0.25, "×"),
                    of(peer, |warm| &warm.cpu_ms),
                    CALLS,
                ),
                (
                    format!("peak memory, of {name}"),
                    AtMost(0.2, "×"),
                    of(peer, |warm| &warm.peak_mib),
                    CALLS,
                ),
            ]);
        }
        targets.extend([
            (
                "CPU of a warm event, of the limit's".to_owned(),
                AtMost(6.5, "×"),
                of(Limit, |warm| &warm.cpu_ms),
                CALLS,
            ),
            (
                "first answer, of the limit's".to_owned(),
                AtMost(2.0, "×"),
                over(Plain, Limit),
                HANDSHAKES,
            ),
            (
                "instructions to verify, parse, map and write, without the hash".to_owned(),
                AtMost(INSTRUCTIONS_BEFORE, ""),
                counted(|count| as_f64(count.without_hash())),
                "builds of the same code differ by some dozens; more is a change of what an event takes",
            ),
            (
                "instructions for 200 unknown fields, of those for 100".to_owned(),
                AtMost(2.6, "×"),
                counted(|count| as_f64(count.unknown_200) / as_f64(count.unknown_100)),
                "a name is compared with those before it",
            ),
        ]);
        let measured = targets.into_iter().filter(|(_, _, measured, _)| !measured.is_nan());
        let rows = measured.map(|(what, bound, measured, why_missed)| {
            let (target, unit, is_met) = match bound {
                AtMost(most, unit) => {
                    (format!("at most {}{unit}", decimals(most)), unit, measured <= most)
                }
                AtLeast(least) => (format!("at least {least}×"), "×", measured >= least),
            };
            let missed = || format!("**missed**: {why_missed}");
            let verdict = if is_met { "met".to_owned() } else { missed() };
            [what, target, format!("{}{unit}", decimals(measured)), verdict]
        });
        rows.collect()
    }

    fn warm_table(&self) -> String {
        let limit = self.warm(Contestant::Limit, |warm| &warm.took_ms);
        let rows = self.warm.iter().map(|warm| {
            let us: Vec<_> = warm.took_ms.iter().map(|ms| ms * 1e3).collect();
            [
                warm.contestant.titles().0.to_owned(),
                quartiles(&us),
                decimals(median(&warm.took_ms) / limit),
                decimals(percentile(&us, 99)),
                decimals(median(&warm.cpu_ms) * 1e3),
                decimals(percentile(&warm.peak_mib, 100)),
                decimals(count(warm.traffic.requests) / count(warm.took_ms.len())),
                warm.traffic.connections.to_string(),
            ]
        });
        let events = self.warm.first().map_or(0, |warm| warm.took_ms.len());
        let note = format!("{events} of each, after 100 that are not counted.");
        let head = "| | median, µs | × the limit | p99, µs | CPU, µs | peak memory, MiB | requests | new connections |";
        table("Warm events", &note, head, rows)
    }

    fn memory_table(&self, costs: &str) -> Result<String, String> {
        let request = figure_in(costs, "Lambda, requests", 1)?;
        let gigabyte_second = figure_in(costs, "Lambda, duration on arm64", 1)?;
        let rows = self.memory.iter().map(|MemorySize { mb, cold, warm }| {
            let gigabytes = f64::from(*mb) / 1024.0;
            // Lambda bills whole milliseconds.
            let seconds = median(&warm.took_ms).ceil() / 1e3;
            [
                format!("{} MB", grouped(mb)),
                quartiles(&cold.took_ms),
                decimals(median(&cold.cpu_ms)),
                quartiles(&warm.took_ms),
                decimals(median(&warm.cpu_ms)),
                decimals(request + 1e6 * gigabytes * seconds * gigabyte_second),
            ]
        });
        let note = format!(
            "This function, on the part of a CPU that Lambda gives to each size (1,769 MB: a whole one), with CleverTap {CLEVERTAP_MS} ms away and the other services as above. Prices are Lambda's of [Costs and capacity](../docs/costs.md#prices), for requests and warm events."
        );
        let head = "| | cold start to the first answer, ms | CPU of a cold start, ms | warm event, ms | CPU of a warm event, ms | USD for a million events |";
        Ok(table("Memory sizes", &note, head, rows))
    }
}

impl ColdStarts {
    fn table(&self) -> String {
        let title = match self.conditions {
            Conditions::Plain => "Cold starts",
            Conditions::Quota => "Cold starts on a part of a CPU",
            Conditions::Latency => "Cold starts with services further away",
        };
        let floor = figure(&self.samples, Contestant::Nothing, |cold| &cold.took_ms);
        let rounds = self.samples.first().map_or(0, |cold| cold.took_ms.len());
        let rows = self.samples.iter().map(|cold| {
            [
                cold.contestant.titles().0.to_owned(),
                quartiles(&cold.next_ms),
                quartiles(&cold.took_ms),
                decimals(median(&cold.took_ms) / floor),
                decimals(median(&cold.cpu_ms)),
                decimals(median(&cold.peak_mib)),
                decimals(count(cold.traffic.connections) / count(rounds)),
                decimals(count(cold.traffic.requests) / count(rounds)),
            ]
        });
        let note = format!("{rounds} of each. {}", self.note);
        let head = "| | to the first `next`, ms | to the first answer, ms | × floor | CPU, ms | peak memory, MiB | TLS connections | requests |";
        table(title, note.trim(), head, rows)
    }
}

fn figure(all: &[Samples], contestant: Contestant, values: fn(&Samples) -> &Vec<f64>) -> f64 {
    let samples = all.iter().find(|samples| samples.contestant == contestant);
    samples.map_or(f64::NAN, |samples| median(values(samples)))
}

/// NaN for an empty sample.
fn percentile(sample: &[f64], percent: usize) -> f64 {
    let mut sorted = sample.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get(last * percent / 100).copied().unwrap_or(f64::NAN)
}

fn median(sample: &[f64]) -> f64 {
    percentile(sample, 50)
}

fn quartiles(sample: &[f64]) -> String {
    let [lower, median, upper] = [25, 50, 75].map(|percent| decimals(percentile(sample, percent)));
    format!("{median} ({lower}–{upper})")
}

fn count(number: usize) -> f64 {
    as_f64(number.try_into().unwrap_or(u64::MAX))
}

fn as_f64(number: u64) -> f64 {
    u32::try_from(number).map_or(f64::NAN, f64::from)
}
