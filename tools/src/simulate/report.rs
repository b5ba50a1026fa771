//! What happened in many simulated worlds, in figures and one plot.
//! It does not know how a world is judged.

use crate::Unusable;
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
    requests: usize,
    kills: usize,
    throttled: usize,
    dead_letters: usize,
    faults: BTreeMap<&'static str, usize>,
    duplicates: BTreeMap<&'static str, usize>,
    /// The first long world of each mode, by the mode's name.
    curves: BTreeMap<&'static str, Curves>,
    deepest_backlog: usize,
    longest_block: Duration,
    long_events: BTreeMap<&'static str, usize>,
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
        self.requests += run.requests.len();
        self.kills += run.kills;
        self.throttled += run.throttled;
        self.dead_letters += run.dead_letters;
        for (total, of_run) in
            [(&mut self.faults, &run.faults), (&mut self.duplicates, &run.duplicates)]
        {
            for (kind, count) in of_run {
                *total.entry(kind).or_default() += count;
            }
        }
        let blocks = run.history.iter().filter_map(History::block);
        self.longest_block = blocks.chain([self.longest_block]).max().unwrap_or_default();
        let curves = Curves::of(&run.history);
        let deepest = curves.in_flight.iter().copied().max().unwrap_or_default();
        self.deepest_backlog = self.deepest_backlog.max(deepest);
        if run.scenario.length == Length::Long {
            let mode = run.scenario.mode();
            *self.long_events.entry(mode).or_default() += run.history.len();
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
        let mut rows = vec![
            ("worlds".to_owned(), grouped(self.worlds)),
            ("events".to_owned(), grouped(self.events)),
        ];
        if let Some(first) = self.first_seed {
            rows.insert(0, ("first seed".to_owned(), first.to_string()));
        }
        for (mode, events) in &self.long_events {
            rows.push((format!("of them in worlds of 20,000, {mode} mode"), grouped(*events)));
        }
        rows.push(("requests of the function".to_owned(), grouped(self.requests)));
        for (kind, count) in &self.faults {
            rows.push((format!("fault: {kind}"), grouped(*count)));
        }
        rows.push(("environments killed or timed out".to_owned(), grouped(self.kills)));
        let throttled = "webhooks that Lambda refused because no environment was free";
        rows.push((throttled.to_owned(), grouped(self.throttled)));
        rows.push(("events that were a dead letter".to_owned(), grouped(self.dead_letters)));
        for (cause, count) in &self.duplicates {
            rows.push((format!("duplicate record: {cause}"), grouped(*count)));
        }
        rows.push(("most events in flight at once".to_owned(), grouped(self.deepest_backlog)));
        let minutes = self.longest_block.as_secs() / 60;
        rows.push(("longest block of a user".to_owned(), format!("{minutes} min")));
        rows.push(("worlds that broke a guarantee".to_owned(), grouped(self.failed)));
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

/// 1234567 as 1,234,567.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}

/// Colours follow the reader's preference for light or dark.
const STYLE: &str = r#"<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.note { font-size: 12px; fill: #59636e; }
polyline { fill: none; stroke-width: 1.5; }
.direct { stroke: #d9622b; }
.queue { stroke: #3a78b5; stroke-dasharray: 5 2; }
line { stroke: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .note { fill: #9198a1; }
  .direct { stroke: #f08250; }
  .queue { stroke: #6aa9e9; }
  line { stroke: #3d444d; }
}
</style>"#;
const WIDTH: usize = 860;
const LEFT: usize = 60;
const PANEL: usize = 130;

/// Three panels above each other, one line for each mode.
fn plot(curves: &BTreeMap<&'static str, Curves>) -> String {
    type Values = fn(&Curves) -> &Vec<usize>;
    let panels: [(&str, Values); 3] = [
        ("Events in flight", |curves| &curves.in_flight),
        ("Blocked users", |curves| &curves.blocked_users),
        ("Duplicate records until then", |curves| &curves.duplicates),
    ];
    let steps = curves.values().map(|curves| curves.in_flight.len()).max().unwrap_or(1).max(2);
    let x = |step: usize| LEFT + step * (WIDTH - LEFT - 20) / (steps - 1);
    let mut drawn = String::new();
    let mut words = Vec::new();
    for (number, (title, values)) in panels.iter().enumerate() {
        let (top, bottom) = (number * PANEL + 56, number * PANEL + PANEL + 26);
        let greatest = curves.values().flat_map(values).copied().max().unwrap_or(0).max(1);
        let mut lines = String::new();
        for (mode, curves) in curves {
            let point = |(step, value): (usize, &usize)| {
                format!("{},{}", x(step), bottom - value * (bottom - top) / greatest)
            };
            let points: Vec<_> = values(curves).iter().enumerate().map(point).collect();
            let points = points.join(" ");
            writeln!(lines, r#"<polyline class="{mode}" points="{points}"/>"#)
                .expect("a text takes everything");
            let most = values(curves).iter().max().copied().unwrap_or(0);
            words.push(format!("{title}, {mode} mode: at most {}", grouped(most)));
        }
        let greatest = grouped(greatest);
        write!(
            drawn,
            r#"<text x="{LEFT}" y="{}" class="title">{title}</text>
<text x="{}" y="{}" text-anchor="end" class="note">{greatest}</text>
<line x1="{LEFT}" y1="{bottom}" x2="{}" y2="{bottom}"/>
{lines}"#,
            top - 10,
            LEFT - 8,
            top + 5,
            WIDTH - 20,
        )
        .expect("a text takes everything");
    }
    let height = panels.len() * PANEL + 60;
    let hours = (0..steps).step_by(60).map(|step| {
        format!(
            r#"<text x="{}" y="{}" class="note">{} h</text>"#,
            x(step),
            height - 14,
            step / 60
        )
    });
    let (hours, words) = (hours.collect::<Vec<_>>().join("\n"), words.join(". "));
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="title">
<title id="title">{words}</title>
{STYLE}
<text x="{LEFT}" y="20" class="note">20,000 events in each mode. In the first two hours, services fail.</text>
<polyline class="direct" points="600,16 630,16"/><text x="636" y="20" class="note">direct</text>
<polyline class="queue" points="700,16 730,16"/><text x="736" y="20" class="note">queue</text>
{drawn}{hours}
</svg>
"#
    )
}
