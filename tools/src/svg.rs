//! Three panels beside each other, as SVG without fonts or scripts.
//! It does not know what is drawn.

use crate::figures::{decimals, whole};

/// The left edge of each panel, and how wide its content may be. What the rows or curves mean is left of the first.
pub const LEFT: [u32; 3] = [144, 387, 629];
pub const WIDTH: u32 = 215;
/// The upper edge of what is in a panel.
pub const TOP: u32 = 64;
/// Of bars: the longest, and the distance from one to the next.
const LONGEST_BAR: f64 = 153.0;
const STEP: u32 = 30;
/// Colours follow the reader's preference for light or dark.
const STYLE: &str = r#"<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328; }
.title, .ours { font-weight: 600; }
.note { font-size: 12px; fill: #59636e; }
.number { font-variant-numeric: tabular-nums; }
rect { fill: #aab4bf; }
rect.ours { fill: #d9622b; }
line { stroke: #d1d9e0; }
polyline { fill: none; stroke: #3a78b5; stroke-width: 1.5; stroke-dasharray: 5 2; }
polyline.ours { stroke: #d9622b; stroke-dasharray: none; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .note { fill: #9198a1; }
  rect { fill: #56606b; }
  rect.ours { fill: #f08250; }
  line { stroke: #3d444d; }
  polyline { stroke: #6aa9e9; }
  polyline.ours { stroke: #f08250; }
}
</style>"#;

pub struct Panel {
    pub title: String,
    pub note: String,
    /// Its content for readers who cannot see it.
    pub in_words: String,
    /// Its content, in elements.
    pub drawn: Vec<String>,
}

/// One panel of bars.
pub struct Bars<'b> {
    pub title: &'b str,
    pub note: &'b str,
    /// For each row; NaN where there is none.
    pub values: Vec<f64>,
}

/// Bars with their numbers. A row has a name, left of its bars, and a class: `ours` stands out.
pub fn bars(rows: &[(&str, &str)], panels: [Bars<'_>; 3]) -> String {
    let tops = || (0..).map(|number| TOP + number * STEP);
    let names = rows.iter().zip(tops()).map(|((row, class), top)| name(top + 13, class, row));
    let bottom = TOP + rows.iter().map(|_| STEP).sum::<u32>() + 4;
    let mut lefts = LEFT.into_iter().map(f64::from);
    let panels = panels.map(|Bars { title, note, values }| {
        let left = lefts.next().unwrap_or_default();
        let greatest = values.iter().copied().fold(0.0, f64::max);
        let (mut drawn, mut in_words) = (Vec::new(), Vec::new());
        for (((row, class), value), top) in rows.iter().zip(values).zip(tops()) {
            if value.is_nan() {
                continue;
            }
            let length = (value / greatest * LONGEST_BAR).max(1.5);
            let number = if value < 10.0 { decimals(value) } else { whole(value) };
            let (start, end, baseline) = (left + 0.5, left + length + 7.0, top + 13);
            drawn.push(format!(
                r#"<rect x="{start}" y="{top}" width="{length:.1}" height="16" rx="2" class="{class}"/>
<text x="{end:.1}" y="{baseline}" class="number {class}">{number}</text>"#
            ));
            in_words.push(format!("{row} {number}"));
        }
        let (title, note) = (title.to_owned(), note.to_owned());
        Panel { title, note, in_words: in_words.join(", "), drawn }
    });
    draw(names.collect(), panels, bottom)
}

/// `bottom` is the lower edge of what is in a panel, and `names` stand left of the panels.
pub fn draw(names: Vec<String>, panels: [Panel; 3], bottom: u32) -> String {
    let in_words = panels
        .each_ref()
        .map(|Panel { title, note, in_words, .. }| format!("{title} ({note}): {in_words}"));
    let height = bottom + 12;
    let mut elements = names;
    for (Panel { title, note, drawn, .. }, left) in panels.into_iter().zip(LEFT) {
        elements.push(text((left, 24), "title", &title));
        elements.push(text((left, 42), "note", &note));
        elements.push(format!(r#"<line x1="{left}" y1="58" x2="{left}" y2="{bottom}"/>"#));
        elements.extend(drawn);
    }
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}" width="860" height="{height}" role="img" aria-labelledby="title">
<title id="title">{}</title>
{STYLE}
{}
</svg>
"#,
        in_words.join(". "),
        elements.join("\n")
    )
}

pub fn text((x, y): (u32, u32), class: &str, text: &str) -> String {
    format!(r#"<text x="{x}" y="{y}" class="{class}">{text}</text>"#)
}

/// A name left of the panels.
pub fn name(y: u32, class: &str, name: &str) -> String {
    format!(r#"<text x="134" y="{y}" text-anchor="end" class="{class}">{name}</text>"#)
}
