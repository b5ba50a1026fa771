//! What was measured, as JSON and as the tables of `benches/README.md`, with the targets beside it.
//! It does not measure.

use crate::contestants::Contestant;
use crate::figures::Spread;
use crate::instructions::Instructions;
use crate::measure::{Cold, Warm};
use crate::services::Latency;
use serde::Serialize;
use std::fmt::Write;

/// Everything that one run measured.
#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    /// UTC.
    pub date: String,
    pub sample: &'static str,
    pub sizes: Vec<Size>,
    pub cold: Vec<ColdStarts>,
    pub warm: Vec<Warm>,
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

/// A binary, and how small deflate's level 9 makes it.
#[derive(Debug, Serialize)]
pub struct Size {
    pub contestant: Contestant,
    pub binary_mb: f64,
    pub zip_mb: f64,
}

/// Cold starts under one set of conditions.
#[derive(Debug, Serialize)]
pub struct ColdStarts {
    pub conditions: Conditions,
    /// The quota and its means, where there is one.
    pub quota: Option<String>,
    pub latency: Latency,
    pub figures: Vec<Cold>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Conditions {
    /// A whole CPU, everything on the same machine.
    Plain,
    /// A small Lambda's part of a CPU.
    Quota,
    /// Services that are milliseconds away.
    Latency,
}

/// What the function is to reach.
#[derive(Debug, Serialize)]
pub struct Target {
    pub what: &'static str,
    pub is_met: bool,
    pub limit: String,
    pub measured: String,
    /// What stands against it, where it is missed.
    pub why: Option<&'static str>,
}

impl Report {
    /// Holds what was measured against the targets; what was not measured is left out.
    pub fn judge(&mut self) {
        let mut targets = Vec::new();
        let floor = self.answer_ms(Conditions::Plain, Contestant::Nothing);
        let answer = self.answer_ms(Conditions::Plain, Contestant::Relay);
        targets.extend(at_most(
            "spawn to first answer, over the function that does nothing",
            ratio(answer, floor),
            2.5,
            "×",
            Some("the TLS handshakes with Secrets Manager and CleverTap and their checks of certificates come before the first answer, and the function that does nothing makes none"),
        ));
        let floor = self.warm_us(Contestant::Nothing);
        targets.extend(at_most(
            "warm median, over the function that does nothing",
            ratio(self.warm_us(Contestant::Relay), floor),
            1.8,
            "×",
            Some("a warm event's upload is a second round trip, under TLS, through the same kernel; the function that does nothing makes one"),
        ));
        targets.extend(at_most(
            "peak memory, after all warm events",
            self.single(Contestant::Relay).map(|warm| warm.peak_mib),
            9.0,
            " MiB",
            Some("most of it is the binary's own pages, which the kernel may drop"),
        ));
        let size = |size: &&Size| size.contestant == Contestant::Relay;
        targets.extend(at_most(
            "zip",
            self.sizes.iter().find(size).map(|size| size.zip_mb),
            4.0,
            " MB",
            None,
        ));
        for (what, peer) in [
            ("spawn to first answer, faster than Node", Contestant::Node),
            (
                "spawn to first answer, faster than Python",
                Contestant::Python,
            ),
        ] {
            let theirs = self.answer_ms(Conditions::Plain, peer);
            targets.extend(at_least(what, ratio(theirs, answer), 30.0));
        }
        let theirs = self.answer_ms(Conditions::Quota, Contestant::Defaults);
        let ours = self.answer_ms(Conditions::Quota, Contestant::Relay);
        targets.extend(at_least(
            "under the quota, spawn to first answer, faster than the same with default features",
            ratio(theirs, ours),
            6.0,
        ));
        targets.extend(at_most(
            "an event in a batch of ten, over a single one",
            self.in_batch(),
            1.0 / 3.0,
            "×",
            None,
        ));
        targets.extend(at_most(
            "with the table, further requests for each event",
            self.further_requests(),
            2.0,
            "",
            None,
        ));
        self.targets = targets;
    }

    /// The tables, in Markdown.
    pub fn tables(&self) -> String {
        let mut text = format!(
            "Measured on {} on {}: {} cores, Linux {}, load average {} at the start. `a (b–c)` is a median and its quartiles. The event is `{}`.\n",
            self.date,
            self.machine.cpu,
            self.machine.cores,
            self.machine.kernel,
            self.machine.load,
            self.sample,
        );
        if !self.targets.is_empty() {
            text.push_str("\n### Targets\n\n| | target | measured | |\n|---|---|---|---|\n");
            for target in &self.targets {
                let verdict = match (target.is_met, target.why) {
                    (true, _) => "met".to_owned(),
                    (false, Some(why)) => format!("**missed**: {why}"),
                    (false, None) => "**missed**".to_owned(),
                };
                push(
                    &mut text,
                    &[target.what, &target.limit, &target.measured, &verdict],
                );
            }
        }
        for starts in &self.cold {
            starts.table(&mut text);
        }
        if !self.warm.is_empty() {
            self.warm_table(&mut text);
        }
        if !self.sizes.is_empty() {
            text.push_str("\n### Size\n\n| | binary, MB | zip, MB |\n|---|---|---|\n");
            for size in &self.sizes {
                push(
                    &mut text,
                    &[
                        size.contestant.title(),
                        &decimals(size.binary_mb),
                        &decimals(size.zip_mb),
                    ],
                );
            }
        }
        if let Some(instructions) = &self.instructions {
            text.push_str("\n### Instructions for one event\n\n| verify | parse | map | verify, parse and map | write the upload |\n|---|---|---|---|---|\n");
            push(
                &mut text,
                &[
                    &grouped(instructions.verify),
                    &grouped(instructions.parse),
                    &grouped(instructions.map),
                    &grouped(instructions.verify_parse_map()),
                    &grouped(instructions.write),
                ],
            );
        }
        text
    }

    /// The median time to the first answer.
    pub fn answer_ms(&self, conditions: Conditions, contestant: Contestant) -> Option<f64> {
        let starts = self
            .cold
            .iter()
            .find(|starts| starts.conditions == conditions)?;
        starts
            .of(contestant)
            .map(|figures| figures.answer_ms.median)
    }

    /// The figures of single events.
    pub fn single(&self, contestant: Contestant) -> Option<&Warm> {
        self.warm
            .iter()
            .find(|warm| warm.contestant == contestant && warm.events_at_once == 1)
    }

    fn warm_us(&self, contestant: Contestant) -> Option<f64> {
        self.single(contestant).map(|warm| warm.took_us.median)
    }

    /// What an event in a batch takes, as a part of what a single one does.
    fn in_batch(&self) -> Option<f64> {
        let batch = self.warm.iter().find(|warm| warm.events_at_once > 1)?;
        let in_batch = batch.took_us.median / count(batch.events_at_once);
        ratio(Some(in_batch), self.warm_us(batch.contestant))
    }

    fn further_requests(&self) -> Option<f64> {
        let requests = |contestant| self.single(contestant).map(requests_per_event);
        Some(requests(Contestant::RelayWithTable)? - requests(Contestant::Relay)?)
    }

    fn warm_table(&self, text: &mut String) {
        let events = self.warm.iter().find(|warm| warm.events_at_once == 1);
        let events = events.map_or(0, |warm| warm.invocations);
        let _ = write!(
            text,
            "\n### Warm events\n\n{events} of each, after 100 that are not counted.\n\n\
             | | median, µs | × floor | p99, µs | CPU, µs | peak memory, MiB | requests | new connections |\n|---|---|---|---|---|---|---|---|\n"
        );
        let floor = self.warm_us(Contestant::Nothing);
        for warm in &self.warm {
            let events = count(warm.events_at_once);
            let title = match warm.events_at_once {
                1 => warm.contestant.title().to_owned(),
                many => format!(
                    "{}, for each of {many} messages at once",
                    warm.contestant.title()
                ),
            };
            let spread = warm.took_us;
            push(
                text,
                &[
                    &title,
                    &format!(
                        "{:.0} ({:.0}–{:.0})",
                        spread.median / events,
                        spread.lower / events,
                        spread.upper / events
                    ),
                    &times(ratio(Some(spread.median / events), floor)),
                    &format!("{:.0}", spread.p99 / events),
                    &format!("{:.0}", warm.cpu_us.median / events),
                    &format!("{:.1}", warm.peak_mib),
                    &decimals(requests_per_event(warm)),
                    &warm.traffic.total().connections.to_string(),
                ],
            );
        }
    }
}

impl ColdStarts {
    fn of(&self, contestant: Contestant) -> Option<&Cold> {
        let mut figures = self.figures.iter();
        figures.find(|figures| figures.contestant == contestant)
    }

    fn table(&self, text: &mut String) {
        let rounds = self.figures.first().map_or(0, |cold| cold.answer_ms.count);
        let conditions = match (self.conditions, &self.quota) {
            (Conditions::Quota, Some(quota)) => format!("Cold starts on a part of a CPU: {quota}"),
            (Conditions::Plain, _) => "Cold starts".to_owned(),
            _ => format!(
                "Cold starts with services further away: +{} ms to connect, +{} ms for Secrets Manager, +{} ms for CleverTap, +{} ms for DynamoDB",
                self.latency.connecting.as_millis(),
                self.latency.secrets_manager.as_millis(),
                self.latency.clevertap.as_millis(),
                self.latency.dynamodb.as_millis(),
            ),
        };
        let (title, note) = conditions.split_once(": ").unwrap_or((&conditions, ""));
        let note = if note.is_empty() {
            String::new()
        } else {
            format!(" {note}.")
        };
        let _ = write!(
            text,
            "\n### {title}\n\n{rounds} of each.{note}\n\n\
             | | to the first `next`, ms | to the first answer, ms | × floor | CPU, ms | peak memory, MiB | TLS connections | requests |\n|---|---|---|---|---|---|---|---|\n"
        );
        let floor = self.of(Contestant::Nothing);
        let floor = floor.map(|figures| figures.answer_ms.median);
        for cold in &self.figures {
            let traffic = cold.traffic.total();
            push(
                text,
                &[
                    cold.contestant.title(),
                    &spread(&cold.next_ms),
                    &spread(&cold.answer_ms),
                    &times(ratio(Some(cold.answer_ms.median), floor)),
                    &decimals(cold.cpu_ms.median),
                    &format!("{:.1}", cold.peak_mib.median),
                    &traffic.connections.to_string(),
                    &traffic.requests.to_string(),
                ],
            );
        }
    }
}

fn at_most(
    what: &'static str,
    measured: Option<f64>,
    limit: f64,
    unit: &str,
    why: Option<&'static str>,
) -> Option<Target> {
    let measured = measured?;
    Some(Target {
        what,
        is_met: measured <= limit,
        limit: format!("at most {}{unit}", decimals(limit)),
        measured: format!("{}{unit}", decimals(measured)),
        why,
    })
}

fn at_least(what: &'static str, measured: Option<f64>, limit: f64) -> Option<Target> {
    let measured = measured?;
    Some(Target {
        what,
        is_met: measured >= limit,
        limit: format!("at least {limit}×"),
        measured: format!("{measured:.1}×"),
        why: None,
    })
}

fn ratio(of: Option<f64>, to: Option<f64>) -> Option<f64> {
    Some(of? / to?)
}

fn times(ratio: Option<f64>) -> String {
    ratio.map_or("–".to_owned(), decimals)
}

fn requests_per_event(warm: &Warm) -> f64 {
    let events = count(warm.invocations * warm.events_at_once);
    #[expect(clippy::cast_precision_loss, reason = "counted in thousands")]
    let requests = warm.traffic.total().requests as f64;
    requests / events
}

fn count(number: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counted in thousands")]
    let number = number as f64;
    number
}

fn spread(spread: &Spread) -> String {
    format!(
        "{} ({}–{})",
        decimals(spread.median),
        decimals(spread.lower),
        decimals(spread.upper)
    )
}

/// Three digits, as far as there are any.
pub fn decimals(number: f64) -> String {
    if number == 0.0 || number >= 100.0 {
        format!("{number:.0}")
    } else if number >= 10.0 {
        format!("{number:.1}")
    } else {
        format!("{number:.2}")
    }
}

fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn push(text: &mut String, cells: &[&str]) {
    let _ = writeln!(text, "| {} |", cells.join(" | "));
}
