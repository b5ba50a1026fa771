//! The plot that the project's README shows: bars with their numbers, as SVG without fonts or scripts.
//! It does not know how its numbers were measured.

use crate::contestants::Contestant;
use crate::report::{Conditions, Report, decimals};

const ROWS: [Contestant; 5] = [
    Contestant::Nothing,
    Contestant::Relay,
    Contestant::Defaults,
    Contestant::Node,
    Contestant::Python,
];
/// The left edges of the three groups of bars. The names of the rows are left of the first.
const LEFT: [f64; 3] = [144.0, 387.0, 629.0];
const LONGEST_BAR: f64 = 153.0;
/// The upper edges of the rows' bars.
const TOP: [f64; 5] = [64.0, 94.0, 124.0, 154.0, 184.0];

/// Colours follow the reader's preference for light or dark.
const STYLE: &str = r#"<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title { font-weight: 600; }
.note { font-size: 12px; fill: #59636e; }
.ours { font-weight: 600; }
.number { font-variant-numeric: tabular-nums; }
rect { fill: #aab4bf; }
rect.ours { fill: #d9622b; }
line { stroke: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .note { fill: #9198a1; }
  rect { fill: #56606b; }
  rect.ours { fill: #f08250; }
  line { stroke: #3d444d; }
}
</style>"#;

/// One group of bars.
struct Panel {
    title: &'static str,
    note: &'static str,
    /// Those rows that were measured, with their upper edges.
    rows: Vec<(Contestant, f64, f64)>,
}

pub fn draw(report: &Report) -> String {
    let panels = [
        Panel::new("Cold start, ms", "spawn to answer, 1/14 of a CPU", |contestant| {
            report.answer_ms(Conditions::Quota, contestant)
        }),
        Panel::new("Warm event, µs", "median of 1,000", |contestant| {
            report.warm(contestant, |warm| warm.took_us.median)
        }),
        Panel::new("Peak memory, MiB", "after 1,000 events", |contestant| {
            report.warm(contestant, |warm| warm.peak_mib)
        }),
    ];
    let in_words = panels.each_ref().map(Panel::in_words).join(". ");
    let names = ROWS.into_iter().zip(TOP).map(|(contestant, top)| {
        format!(
            r#"<text x="134" y="{}" text-anchor="end" class="{}">{}</text>"#,
            top + 13.0,
            class(contestant),
            contestant.titles().1,
        )
    });
    let drawn = panels.iter().zip(LEFT).map(|(panel, left)| panel.draw(left));
    let lines: Vec<String> = names.chain(drawn).collect();
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 230" width="860" height="230" role="img" aria-labelledby="title">
<title id="title">{in_words}</title>
{STYLE}
{}
</svg>
"#,
        lines.join("\n")
    )
}

impl Panel {
    fn new(title: &'static str, note: &'static str, value: impl Fn(Contestant) -> f64) -> Self {
        let rows = ROWS.into_iter().zip(TOP);
        let rows = rows.map(|(contestant, top)| (contestant, top, value(contestant)));
        let rows = rows.filter(|(.., value)| !value.is_nan()).collect();
        Self { title, note, rows }
    }

    fn draw(&self, left: f64) -> String {
        let Self { title, note, rows } = self;
        let mut lines = vec![format!(
            r#"<text x="{left}" y="24" class="title">{title}</text>
<text x="{left}" y="42" class="note">{note}</text>
<line x1="{left}" y1="58" x2="{left}" y2="218"/>"#
        )];
        let greatest = rows.iter().map(|(.., value)| *value).fold(0.0, f64::max);
        for (contestant, top, value) in rows {
            let length = (value / greatest * LONGEST_BAR).max(1.5);
            let (class, baseline) = (class(*contestant), top + 13.0);
            let (start, end) = (left + 0.5, left + length + 7.0);
            lines.push(format!(
                r#"<rect x="{start}" y="{top}" width="{length:.1}" height="16" rx="2" class="{class}"/>
<text x="{end:.1}" y="{baseline}" class="number {class}">{}</text>"#,
                readable(*value)
            ));
        }
        lines.join("\n")
    }

    /// For readers who cannot see the plot.
    fn in_words(&self) -> String {
        let Self { title, note, rows } = self;
        let rows = rows.iter();
        let values = rows.map(|(row, _, value)| format!("{} {}", row.titles().1, readable(*value)));
        let values = values.collect::<Vec<_>>().join(", ");
        format!("{title} ({note}): {values}")
    }
}

/// Two or three digits, with a comma between thousands.
fn readable(value: f64) -> String {
    match format!("{value:.0}") {
        _ if value < 10.0 => decimals(value),
        digits if value < 1000.0 => digits,
        digits => {
            let (thousands, rest) = digits.split_at(digits.len() - 3);
            format!("{thousands},{rest}")
        }
    }
}

fn class(contestant: Contestant) -> &'static str {
    if contestant == Contestant::Relay { "ours" } else { "theirs" }
}
