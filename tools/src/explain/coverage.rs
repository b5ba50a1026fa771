//! Which fields come with which events, and what happens to them, over many files.
//! It does not know why a field is sent or not.

use super::explanation::Explanation;
use super::text::table;
use purchasely_clevertap::purchasely::catalogue::{FIELDS, MONEY_PREFIXES, currency};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Up to this many events are listed by name.
const MAX_LISTED_EVENTS: usize = 4;

#[derive(Default, Serialize)]
pub struct Coverage {
    files: usize,
    events: BTreeSet<String>,
    /// By name: every field of the files and every documented one.
    fields: BTreeMap<String, Row>,
    /// Files that can never be sent, with the reason.
    not_mapped: BTreeMap<String, String>,
}

#[derive(Default, Serialize)]
struct Row {
    /// Files in which a property carries the field.
    mapped: usize,
    /// Files in which the field is not sent.
    dropped: usize,
    /// The outcomes of the field, with the number of files.
    outcomes: BTreeMap<&'static str, usize>,
    /// Events that come with the field.
    events: BTreeSet<String>,
}

impl Coverage {
    pub fn of(explanations: &[Explanation]) -> Self {
        let mut coverage = Self { files: explanations.len(), ..Self::default() };
        for explanation in explanations {
            if !explanation.is_settled() {
                let why = explanation.why.clone();
                coverage.not_mapped.insert(explanation.file.clone(), why);
            }
            coverage.events.extend(explanation.name.clone());
            for field in &explanation.fields {
                let row = coverage.fields.entry(field.name.clone()).or_default();
                match field.property {
                    Some(_) => row.mapped += 1,
                    None => row.dropped += 1,
                }
                *row.outcomes.entry(field.outcome).or_default() += 1;
                row.events.extend(explanation.name.clone());
            }
        }
        for field in coverage.never_seen() {
            coverage.fields.insert(field, Row::default());
        }
        coverage
    }

    /// The documented fields without a row. All currencies of an amount count as one field.
    fn never_seen(&self) -> Vec<String> {
        let seen = |is_it: &dyn Fn(&str) -> bool| self.fields.keys().any(|field| is_it(field));
        let fields = FIELDS.iter().map(|(name, _)| *name);
        let fields = fields.filter(|name| !seen(&|field| field.split('.').next() == Some(name)));
        let money = MONEY_PREFIXES.iter().filter(|prefix| {
            !seen(&|field| field.starts_with(**prefix) && currency(field).is_some())
        });
        let money = money.map(|prefix| format!("{prefix}<currency>"));
        fields.map(str::to_owned).chain(money).collect()
    }

    pub fn text(&self) -> String {
        let mut rows =
            vec![["field", "mapped", "dropped", "outcomes", "events"].map(str::to_owned)];
        rows.extend(self.fields.iter().map(|(field, row)| {
            let outcomes = row.outcomes.iter().map(|(word, n)| format!("{word} {n}"));
            [
                field.clone(),
                row.mapped.to_string(),
                row.dropped.to_string(),
                outcomes.collect::<Vec<_>>().join(", "),
                self.events_with(row),
            ]
        }));
        let not_mapped = self.not_mapped.iter();
        let not_mapped = not_mapped.map(|(file, why)| format!("{file}: not mapped: {why}\n"));
        let count = |is_it: fn(&Row) -> bool| self.fields.values().filter(|row| is_it(row)).count();
        format!(
            "{}\n{}{} files, {} events, {} fields: {} mapped, {} never sent, {} documented but in no file; {} files not mapped\n",
            table(&rows),
            not_mapped.collect::<String>(),
            self.files,
            self.events.len(),
            self.fields.len(),
            count(|row| row.mapped > 0),
            count(|row| row.mapped == 0 && row.dropped > 0),
            count(|row| row.mapped + row.dropped == 0),
            self.not_mapped.len(),
        )
    }

    fn events_with(&self, row: &Row) -> String {
        let list = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>().join(", ");
        let with: Vec<_> = row.events.iter().collect();
        let without: Vec<_> = self.events.difference(&row.events).collect();
        match (with.len(), without.len()) {
            (0, _) => "in none".to_owned(),
            (_, 0) => "in all".to_owned(),
            (1..=MAX_LISTED_EVENTS, _) => format!("only in {}", list(with)),
            (_, 1..=MAX_LISTED_EVENTS) => format!("in all but {}", list(without)),
            (n, _) => format!("in {n} of {}", self.events.len()),
        }
    }
}
