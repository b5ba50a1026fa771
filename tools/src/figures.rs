//! Figures as a page shows them: numbers, tables, and where on the page they stand.
//! It does not know what the figures mean.

use std::{fs, io, path::Path};

/// Three digits where there are fraction digits to drop; a dash for what was not measured.
pub fn decimals(number: f64) -> String {
    match number {
        _ if number.is_nan() => "–".to_owned(),
        _ if number == 0.0 || number >= 100.0 => whole(number),
        _ if number >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    }
}

/// Without fraction digits.
pub fn whole(number: f64) -> String {
    grouped(format!("{number:.0}"))
}

/// With a comma between thousands.
pub fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(|group| String::from_utf8_lossy(group));
    groups.collect::<Vec<_>>().join(",")
}

/// Empty without rows.
pub fn table<const N: usize>(
    title: &str,
    note: &str,
    head: &str,
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let rows = rows.into_iter().map(|cells| format!("| {} |", cells.join(" | ")));
    let rows = rows.collect::<Vec<_>>().join("\n");
    if rows.is_empty() {
        return rows;
    }
    let note = if note.is_empty() { note } else { &format!("{note}\n\n") };
    let line = "---|".repeat(N);
    let title = if title.is_empty() {
        title
    } else {
        &format!("### {title}\n\n")
    };
    format!("\n{title}{note}{head}\n|{line}\n{rows}\n")
}

/// The number with which a cell of a page's table begins, in the row of this name; the name is column 0.
pub fn figure_in(page: &str, row: &str, column: usize) -> Result<f64, String> {
    let line = page.lines().find(|line| line.starts_with(&format!("| {row} |")));
    let cell = line.and_then(|line| line.split(" | ").nth(column)?.split_whitespace().next());
    let figure = cell.and_then(|cell| cell.trim_end_matches('|').parse().ok());
    figure.ok_or_else(|| format!("no table has a number in column {column} of the row `{row}`"))
}

/// Replaces what stands between the two comments of a page that name the command which writes it.
pub fn record(page: &Path, command: &str, text: &str) -> io::Result<()> {
    let [begin, end] =
        ["begin", "end"].map(|edge| format!("<!-- written by `{command}`: {edge} -->\n"));
    let old = fs::read_to_string(page)?;
    let parts = old.split_once(&begin);
    let parts = parts.and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) = parts.ok_or_else(|| {
        let page = page.display();
        io::Error::other(format!("{page} lacks the comments between which it goes: {begin}{end}"))
    })?;
    fs::write(page, format!("{before}{begin}\n{text}\n{end}{after}"))?;
    eprintln!("wrote {}", page.display());
    Ok(())
}
