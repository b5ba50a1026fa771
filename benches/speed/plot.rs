//! Plots of bars with their numbers, as SVG without fonts or scripts.
//! It does not know how its numbers were measured.

use crate::report::{decimals, whole};

/// The left edges of the three groups of bars. The names of the rows are left of the first.
const LEFT: [u32; 3] = [144, 387, 629];
const LONGEST_BAR: f64 = 153.0;
/// The upper edge of the first bar, and the distance to the next.
const TOP: u32 = 64;
const STEP: u32 = 30;

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

/// A name left of the bars, and whether its bars are to stand out.
pub struct Row<'r> {
    pub name: &'r str,
    pub is_ours: bool,
}

/// One group of bars.
pub struct Panel<'p> {
    pub title: &'p str,
    pub note: &'p str,
    /// For each row; NaN where it was not measured.
    pub values: Vec<f64>,
}

pub fn draw(rows: &[Row<'_>], panels: &[Panel<'_>; 3]) -> String {
    let in_words = panels.each_ref().map(|panel| panel.in_words(rows)).join(". ");
    let bottom = TOP + rows.iter().map(|_| STEP).sum::<u32>() + 4;
    let height = bottom + 12;
    let names = rows.iter().zip(tops()).map(|(row, top)| {
        format!(
            r#"<text x="134" y="{}" text-anchor="end" class="{}">{}</text>"#,
            top + 13,
            row.class(),
            row.name,
        )
    });
    let drawn = panels.iter().zip(LEFT).map(|(panel, left)| panel.draw(rows, left, bottom));
    let lines: Vec<String> = names.chain(drawn).collect();
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}" width="860" height="{height}" role="img" aria-labelledby="title">
<title id="title">{in_words}</title>
{STYLE}
{}
</svg>
"#,
        lines.join("\n")
    )
}

fn tops() -> impl Iterator<Item = u32> {
    (0..).map(|number| TOP + number * STEP)
}

impl Row<'_> {
    fn class(&self) -> &'static str {
        if self.is_ours { "ours" } else { "theirs" }
    }
}

impl Panel<'_> {
    fn draw(&self, rows: &[Row<'_>], left: u32, bottom: u32) -> String {
        let Self { title, note, values } = self;
        let mut lines = vec![format!(
            r#"<text x="{left}" y="24" class="title">{title}</text>
<text x="{left}" y="42" class="note">{note}</text>
<line x1="{left}" y1="58" x2="{left}" y2="{bottom}"/>"#
        )];
        let greatest = values.iter().copied().fold(0.0, f64::max);
        for ((row, value), top) in rows.iter().zip(values).zip(tops()) {
            if value.is_nan() {
                continue;
            }
            let length = (value / greatest * LONGEST_BAR).max(1.5);
            let (class, baseline) = (row.class(), top + 13);
            let (start, end) = (f64::from(left) + 0.5, f64::from(left) + length + 7.0);
            lines.push(format!(
                r#"<rect x="{start}" y="{top}" width="{length:.1}" height="16" rx="2" class="{class}"/>
<text x="{end:.1}" y="{baseline}" class="number {class}">{}</text>"#,
                readable(*value)
            ));
        }
        lines.join("\n")
    }

    /// For readers who cannot see the plot.
    fn in_words(&self, rows: &[Row<'_>]) -> String {
        let Self { title, note, values } = self;
        let measured = rows.iter().zip(values).filter(|(_, value)| !value.is_nan());
        let values = measured.map(|(row, value)| format!("{} {}", row.name, readable(*value)));
        format!("{title} ({note}): {}", values.collect::<Vec<_>>().join(", "))
    }
}

/// Two or three digits, or more.
fn readable(value: f64) -> String {
    if value < 10.0 { decimals(value) } else { whole(value) }
}
