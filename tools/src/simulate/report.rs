//! What happened in many simulated worlds, in figures and one plot.
//! It does not know how a world is judged.

use crate::Unusable;
use crate::figures::grouped;
use crate::svg::{self, LEFT, TOP, WIDTH};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;
use testkit::simulation::{History, Length, Run};

/// The plot has one point for each.
const STEP: Duration = Duration::from_mins(1);
const REPORT: &str = "report.md";
const PLOT: &str = "plot.svg";

/// All runs so far.
#[derive(Default)]
pub struct Report {
    /// The seed of the first world, after those that once failed, if the others have the next ones.
    pub first_seed: Option<u64>,
    pub worlds: usize,
    pub events: usize,
    pub failed: usize,
    problems: Vec<String>,
    /// By what is counted.
    counts: BTreeMap<String, usize>,
    /// The first long world of each mode, by the mode's name.
    curves: BTreeMap<&'static str, Curves>,
    deepest_backlog: usize,
    longest_block: Duration,
}

/// What is under way in a world, at each step.
struct Curves {
    in_flight: Vec<usize>,
    blocked_users: Vec<usize>,
    duplicates: Vec<usize>,
}

impl Report {
    pub fn add(&mut self, run: Run) {
        self.worlds += 1;
        self.events += run.history.len();
        self.failed += usize::from(!run.problems.is_empty());
        let command = run.scenario.command();
        self.problems
            .extend(run.problems.iter().map(|problem| format!("{command}: {problem}")));
        let prefixed = |prefix: &'static str, counts: &BTreeMap<&str, usize>| {
            let counts = counts.iter();
            counts
                .map(|(kind, count)| (format!("{prefix}: {kind}"), *count))
                .collect::<Vec<_>>()
        };
        let of_run = [
            ("environments killed or timed out", run.kills),
            ("events that were a dead letter", run.dead_letters),
            ("requests of the function", run.requests.len()),
            ("webhooks that Lambda refused because no environment was free", run.throttled),
        ];
        let of_run = of_run.map(|(what, count)| (what.to_owned(), count)).into_iter();
        let of_run = of_run
            .chain(prefixed("fault", &run.faults))
            .chain(prefixed("duplicate record", &run.duplicates));
        of_run.for_each(|(what, count)| *self.counts.entry(what).or_default() += count);
        let blocks = run.history.iter().filter_map(History::block);
        self.longest_block = blocks.chain([self.longest_block]).max().unwrap_or_default();
        let curves = Curves::of(&run.history);
        let deepest = curves.in_flight.iter().copied().max().unwrap_or_default();
        self.deepest_backlog = self.deepest_backlog.max(deepest);
        if run.scenario.length == Length::Long {
            let mode = run.scenario.mode();
            let what = format!("events in worlds of 20,000, {mode} mode");
            *self.counts.entry(what).or_default() += run.history.len();
            self.curves.entry(mode).or_insert(curves);
        }
    }

    /// Writes the report, and the plot if there was a long world.
    pub fn write(&self, folder: &Path, took: Duration) -> Result<(), Unusable> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
        };
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        write(REPORT, self.text(took))?;
        if !self.curves.is_empty() {
            write(PLOT, plot(&self.curves))?;
        }
        Ok(())
    }

    fn text(&self, took: Duration) -> String {
        let seed = self.first_seed.map(|first| ("first seed", first.to_string()));
        let totals = [("worlds", grouped(self.worlds)), ("events", grouped(self.events))];
        let counts = self.counts.iter().map(|(what, count)| (what.as_str(), grouped(count)));
        let minutes = self.longest_block.as_secs() / 60;
        let ends = [
            ("most events in flight at once", grouped(self.deepest_backlog)),
            ("longest block of a user", format!("{minutes} min")),
            ("worlds that broke a guarantee", grouped(self.failed)),
        ];
        let rows = seed.into_iter().chain(totals).chain(counts).chain(ends);
        let mut text = format!(
            "{} minutes on this machine.\n\n| what | how many |\n|---|---:|\n",
            took.as_secs() / 60
        );
        for (what, count) in rows {
            writeln!(text, "| {what} | {count} |").expect("a text takes everything");
        }
        for problem in &self.problems {
            writeln!(text, "\n{problem}").expect("a text takes everything");
        }
        text
    }
}

impl Curves {
    fn of(history: &[History]) -> Self {
        let ends = history.iter().filter_map(|event| event.acknowledged.max(event.settled));
        let steps = place(ends.max().unwrap_or_default()) + 2;
        let mut curves = Self {
            in_flight: vec![0; steps],
            blocked_users: vec![0; steps],
            duplicates: vec![0; steps],
        };
        for event in history {
            let end = event.acknowledged.max(event.settled).map_or(steps, |end| place(end) + 1);
            curves.in_flight[place(event.sent)..end]
                .iter_mut()
                .for_each(|count| *count += 1);
            if let Some(block) = event.block() {
                let blocked = place(event.sent)..=place(event.sent + block);
                curves.blocked_users[blocked].iter_mut().for_each(|count| *count += 1);
            }
            // Replays come weeks later.
            for at in event.repeated.iter().filter(|at| place(**at) < steps) {
                curves.duplicates[place(*at)..].iter_mut().for_each(|count| *count += 1);
            }
        }
        curves
    }
}

fn place(at: Duration) -> usize {
    usize::try_from(at.as_secs() / STEP.as_secs()).unwrap_or(usize::MAX)
}

/// The lower edge of the panels.
const BOTTOM: u32 = TOP + 160;

/// One line for each mode in each panel.
fn plot(curves: &BTreeMap<&'static str, Curves>) -> String {
    type Values = fn(&Curves) -> &Vec<usize>;
    let panels: [(&str, Values); 3] = [
        ("Events in flight", |curves| &curves.in_flight),
        ("Blocked users", |curves| &curves.blocked_users),
        ("Duplicate records until then", |curves| &curves.duplicates),
    ];
    let class = |mode: &str| if mode == "queue" { "theirs" } else { "ours" };
    let names = curves.keys().zip([TOP + 13, TOP + 43]).flat_map(|(mode, y)| {
        let points = format!("20,{y} 60,{y}");
        [
            format!(r#"<polyline class="{}" points="{points}"/>"#, class(mode)),
            svg::name(y + 4, class(mode), mode),
        ]
    });
    let steps = curves.values().map(|curves| curves.in_flight.len()).max().unwrap_or(1).max(2);
    let end = format!("{} h", steps / 60);
    let panels = [0, 1, 2].map(|place| {
        let ((title, values), left) = (panels[place], LEFT[place]);
        let most = |curves: &Curves| values(curves).iter().max().copied().unwrap_or(0);
        let greatest = curves.values().map(most).max().unwrap_or(0).max(1);
        let scaled = |value: usize, of: usize, pixels: u32| value * pixels as usize / of;
        let point = |(step, value): (usize, &usize)| {
            let x = left as usize + scaled(step, steps - 1, WIDTH);
            format!("{x},{}", BOTTOM as usize - 20 - scaled(*value, greatest, BOTTOM - TOP - 30))
        };
        let curve = |(mode, curves): (&&str, &Curves)| {
            let points: Vec<_> = values(curves).iter().enumerate().map(point).collect();
            let (class, points) = (class(mode), points.join(" "));
            format!(r#"<polyline class="{class}" points="{points}"/>"#)
        };
        let words = curves.iter().map(|(mode, curves)| format!("{mode} {}", grouped(most(curves))));
        svg::Panel {
            title: title.to_owned(),
            note: format!("at most {} in {end}", grouped(greatest)),
            in_words: words.collect::<Vec<_>>().join(", "),
            drawn: curves.iter().map(curve).collect(),
        }
    });
    svg::draw(names.collect(), panels, BOTTOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_panel_has_a_line_for_each_mode() {
        let curves = |most: usize| Curves {
            in_flight: (0..500).map(|step| step % 50 * most).collect(),
            blocked_users: (0..500).map(|step| most * 250 / (step + 1)).collect(),
            duplicates: (0..500).collect(),
        };
        let svg = plot(&[("direct", curves(40)), ("queue", curves(13))].into());
        assert_eq!(svg.matches("<polyline").count(), 2 * (1 + 3));
    }
}
