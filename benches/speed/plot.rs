//! The plot that the README shows: bars with their numbers, drawn as SVG without any font or script.
//! It does not know how its numbers were measured.

use crate::contestants::Contestant;
use crate::report::{Conditions, Report, decimals};
use std::fmt::Write;

const WIDTH: f64 = 860.0;
const MARGIN: f64 = 16.0;
/// Room for the names at the left.
const NAMES: f64 = 128.0;
const GAP: f64 = 28.0;
/// Room for a number after the longest bar.
const NUMBER: f64 = 62.0;
const TOP: f64 = 64.0;
const ROW: f64 = 30.0;
const BAR: f64 = 16.0;
const ROWS: [Contestant; 5] = [
    Contestant::Nothing,
    Contestant::Relay,
    Contestant::Defaults,
    Contestant::Node,
    Contestant::Python,
];

/// One group of bars.
struct Panel {
    title: &'static str,
    note: &'static str,
    values: Vec<Option<f64>>,
}

/// Draws the report. Colours follow the reader's preference for light or dark.
pub fn draw(report: &Report) -> String {
    let panels = panels(report);
    let height = TOP + ROW * count(ROWS.len()) + MARGIN;
    let panel_width =
        (WIDTH - 2.0 * MARGIN - NAMES - GAP * count(panels.len() - 1)) / count(panels.len());
    let mut svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" aria-labelledby="title">
<title id="title">{}</title>
<style>
text {{ font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }}
.title {{ font-weight: 600; }}
.note {{ font-size: 12px; fill: #59636e; }}
.ours {{ font-weight: 600; }}
.number {{ font-variant-numeric: tabular-nums; }}
rect {{ fill: #aab4bf; }}
rect.ours {{ fill: #d9622b; }}
line {{ stroke: #d1d9e0; }}
@media (prefers-color-scheme: dark) {{
  text {{ fill: #f0f6fc; }}
  .note {{ fill: #9198a1; }}
  rect {{ fill: #56606b; }}
  rect.ours {{ fill: #f08250; }}
  line {{ stroke: #3d444d; }}
}}
</style>
"#,
        describe(&panels)
    );
    for (position, contestant) in ROWS.into_iter().enumerate() {
        let baseline = row(position) + BAR - 3.0;
        let _ = writeln!(
            svg,
            r#"<text x="{:.0}" y="{baseline:.1}" text-anchor="end"{}>{}</text>"#,
            MARGIN + NAMES - 10.0,
            class(contestant, ""),
            contestant.short_title(),
        );
    }
    for (position, panel) in panels.iter().enumerate() {
        let left = MARGIN + NAMES + count(position) * (panel_width + GAP);
        panel.draw(&mut svg, left, panel_width - NUMBER, height);
    }
    svg.push_str("</svg>\n");
    svg
}

impl Panel {
    fn draw(&self, svg: &mut String, left: f64, longest: f64, height: f64) {
        let _ = writeln!(
            svg,
            r#"<text x="{left:.1}" y="24" class="title">{}</text>
<text x="{left:.1}" y="42" class="note">{}</text>
<line x1="{left:.1}" y1="{:.1}" x2="{left:.1}" y2="{:.1}"/>"#,
            self.title,
            self.note,
            TOP - 6.0,
            height - MARGIN + 4.0,
        );
        let most = self.values.iter().flatten().copied().fold(0.0, f64::max);
        for (position, (contestant, value)) in ROWS.into_iter().zip(&self.values).enumerate() {
            let Some(value) = value else {
                continue;
            };
            let length = (value / most * longest).max(1.5);
            let top = row(position);
            let _ = writeln!(
                svg,
                r#"<rect x="{:.1}" y="{top:.1}" width="{length:.1}" height="{BAR}" rx="2"{}/>
<text x="{:.1}" y="{:.1}"{}>{}</text>"#,
                left + 0.5,
                class(contestant, ""),
                left + length + 7.0,
                top + BAR - 3.0,
                class(contestant, "number"),
                readable(*value),
            );
        }
    }
}

fn panels(report: &Report) -> Vec<Panel> {
    let values = |value: &dyn Fn(Contestant) -> Option<f64>| ROWS.map(value).to_vec();
    vec![
        Panel {
            title: "Cold start, ms",
            note: "spawn to answer, 1/14 of a CPU",
            values: values(&|contestant| report.answer_ms(Conditions::Quota, contestant)),
        },
        Panel {
            title: "Warm event, µs",
            note: "median of 1,000",
            values: values(&|contestant| Some(report.single(contestant)?.took_us.median)),
        },
        Panel {
            title: "Peak memory, MiB",
            note: "after 1,000 events",
            values: values(&|contestant| Some(report.single(contestant)?.peak_mib)),
        },
    ]
}

/// The plot in words, for those who cannot see it.
fn describe(panels: &[Panel]) -> String {
    let of = |panel: &Panel| {
        let values = ROWS.into_iter().zip(&panel.values);
        let told: Vec<_> = values
            .filter_map(|(contestant, value)| {
                Some(format!(
                    "{} {}",
                    contestant.short_title(),
                    readable((*value)?)
                ))
            })
            .collect();
        format!("{} ({}): {}", panel.title, panel.note, told.join(", "))
    };
    panels.iter().map(of).collect::<Vec<_>>().join(". ")
}

fn readable(value: f64) -> String {
    if value >= 1000.0 {
        let rounded = format!("{value:.0}");
        let (thousands, rest) = rounded.split_at(rounded.len() - 3);
        return format!("{thousands},{rest}");
    }
    if value >= 10.0 {
        return format!("{value:.0}");
    }
    decimals(value)
}

fn row(position: usize) -> f64 {
    TOP + ROW * count(position)
}

fn class(contestant: Contestant, other: &str) -> String {
    let ours = (contestant == Contestant::Relay).then_some("ours");
    let classes: Vec<_> = ours
        .into_iter()
        .chain([other])
        .filter(|class| !class.is_empty())
        .collect();
    if classes.is_empty() {
        return String::new();
    }
    format!(r#" class="{}""#, classes.join(" "))
}

fn count(number: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let number = number as f64;
    number
}
