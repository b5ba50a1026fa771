//! Plots of bars with their numbers. It does not know how its numbers were measured.

use super::{LEFT, TOP};
use crate::figures::{decimals, whole};
use crate::svg;

const LONGEST_BAR: f64 = 153.0;
/// The distance from one bar to the next.
const STEP: u32 = 30;

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
    let names = rows.iter().zip(tops());
    let names = names.map(|(row, top)| svg::name(top + 13, row.class(), row.name)).collect();
    let bottom = TOP + rows.iter().map(|_| STEP).sum::<u32>() + 4;
    let panels = [0, 1, 2].map(|place| panels[place].draw(rows, LEFT[place]));
    svg::draw(names, panels, bottom)
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
    fn draw(&self, rows: &[Row<'_>], left: u32) -> svg::Panel {
        let greatest = self.values.iter().copied().fold(0.0, f64::max);
        let (mut drawn, mut in_words) = (Vec::new(), Vec::new());
        for ((row, value), top) in rows.iter().zip(&self.values).zip(tops()) {
            if value.is_nan() {
                continue;
            }
            let length = (value / greatest * LONGEST_BAR).max(1.5);
            let (class, baseline, number) = (row.class(), top + 13, readable(*value));
            let (start, end) = (f64::from(left) + 0.5, f64::from(left) + length + 7.0);
            drawn.push(format!(
                r#"<rect x="{start}" y="{top}" width="{length:.1}" height="16" rx="2" class="{class}"/>
<text x="{end:.1}" y="{baseline}" class="number {class}">{number}</text>"#
            ));
            in_words.push(format!("{} {number}", row.name));
        }
        let (title, note) = (self.title.to_owned(), self.note.to_owned());
        svg::Panel { title, note, in_words: in_words.join(", "), drawn }
    }
}

/// Two or three digits, or more.
fn readable(value: f64) -> String {
    if value < 10.0 { decimals(value) } else { whole(value) }
}
