//! Writes the generated tables of the documentation, and checks the pages' links. It does not know what a page says in
//! its own words: a cell that has no source in the code stays as it is written.

mod tables;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tables::tables;

const PAGES: [&str; 6] = [
    "README.md",
    "docs/architecture.md",
    "docs/deploy.md",
    "docs/mapping.md",
    "docs/operations.md",
    "docs/settings.md",
];

fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

#[track_caller]
fn read(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A generated table. The columns after those of a row are written by hand, and belong to its first cell.
struct Table {
    header: &'static str,
    /// Cells between ` | `.
    rows: Vec<String>,
}

impl Table {
    fn render(&self, written: &str) -> String {
        let columns = self.header.split(" | ").count();
        let by_hand: BTreeMap<_, Vec<_>> = written
            .lines()
            .map(|line| line.trim_matches('|').split('|').map(str::trim))
            .map(|mut cells| (cells.next().unwrap_or_default(), cells.collect()))
            .collect();
        let mut text = format!("| {} |\n|{}\n", self.header, "---|".repeat(columns));
        for row in &self.rows {
            let cells: Vec<_> = row.split(" | ").collect();
            let written = by_hand.get(cells[0]).into_iter().flatten().copied();
            let missing = columns - cells.len();
            let written = written.skip(cells.len() - 1).chain(std::iter::repeat(""));
            let cells: Vec<_> = cells.iter().copied().chain(written.take(missing)).collect();
            text += &format!("| {} |\n", cells.join(" | "));
        }
        text
    }
}

#[test]
fn the_generated_tables_are_up_to_date() {
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let mut tables = tables();
    let mut problems = Vec::new();
    for page in PAGES {
        let text = read(page);
        let mut parts = text.split("<!-- generated: ");
        let mut fresh = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once(" -->\n").expect("a name");
            let (written, rest) = rest.split_once("<!-- end -->").expect("an end");
            let table = tables.remove(name);
            let table = table.unwrap_or_else(|| panic!("{page}: no table {name}"));
            let table = table.render(written);
            let empty = table.lines().filter(|line| line.contains("|  |"));
            problems.extend(empty.map(|line| format!("{page}: fill in {line}")));
            fresh += &format!("<!-- generated: {name} -->\n{table}<!-- end -->{rest}");
        }
        if update {
            std::fs::write(path(page), &fresh).expect(page);
        } else if fresh != text {
            problems.push(format!("{page} is stale: run `make docs`"));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(tables.is_empty(), "on no page: {:?}", tables.keys());
}

/// What a heading is linked by.
fn anchor(heading: &str) -> String {
    let words = heading.trim_start_matches('#').trim().to_lowercase();
    let letters = words
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    letters.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn anchors(page: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(page).unwrap_or_default();
    let prose: String = text.split("```").step_by(2).collect();
    prose
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(anchor)
        .collect()
}

#[test]
fn every_link_leads_somewhere() {
    for page in PAGES {
        let text = read(page);
        for link in text.split("](").skip(1) {
            let (target, _) = link.split_once(')').expect("a closing bracket");
            if target.starts_with("http") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = match file {
                "" => path(page),
                file => path(page).parent().expect("a folder").join(file),
            };
            assert!(file.exists(), "{page}: {target}");
            let found = anchor.is_empty() || anchors(&file).contains(anchor);
            assert!(found, "{page}: {target}");
        }
    }
}
