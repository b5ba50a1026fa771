//! Which fields come with which events, and what becomes of them, over many files.
//! It does not know the files' folder, nor how the matrix is shown.

use super::account::{Explanation, Outcome};
use purchasely_clevertap::purchasely::catalogue::{FIELDS, MONEY_PREFIXES, currency};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The matrix. As JSON its keys are stable.
#[derive(Debug, Serialize)]
pub struct Coverage {
    /// How many files were read.
    pub files: usize,
    /// The events they hold, by name.
    pub events: Vec<String>,
    /// One row per field, by name.
    pub fields: Vec<Row>,
    /// Documented fields that no file holds.
    pub never_seen: Vec<String>,
    /// Files that are no event that can be mapped.
    pub not_mapped: Vec<NotMapped>,
}

/// One field over all files.
#[derive(Debug, Serialize)]
pub struct Row {
    /// Its name; `object.field` inside an object.
    pub field: String,
    /// What becomes of it.
    pub status: Status,
    /// Files in which a property carries it.
    pub mapped: usize,
    /// Files in which it is left behind.
    pub dropped: usize,
    /// Files without it.
    pub absent: usize,
    /// Each fate, with the number of files.
    pub fates: BTreeMap<&'static str, usize>,
    /// The fates that left it behind.
    #[serde(skip)]
    pub left_by: BTreeSet<&'static str>,
    /// Each event with its fates there; none where the event comes without it.
    pub events: BTreeMap<String, BTreeSet<&'static str>>,
}

/// What becomes of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// At least one file's is sent.
    Mapped,
    /// It is left behind wherever it comes.
    Dropped,
    /// It is documented, but in no file.
    NeverSeen,
}

/// A file that is no event that can be mapped.
#[derive(Debug, Serialize)]
pub struct NotMapped {
    /// The file.
    pub file: String,
    /// Unmappable or unreadable.
    pub outcome: Outcome,
    /// Why.
    pub why: String,
}

/// Holds the fields of these files against their events.
#[must_use]
pub fn of(accounts: &[Explanation]) -> Coverage {
    let named = |account: &Explanation| account.event.as_ref().map(|event| event.name.clone());
    let events: BTreeSet<_> = accounts.iter().filter_map(named).collect();
    let row = |field: &str| Row {
        field: field.to_owned(),
        status: Status::NeverSeen,
        mapped: 0,
        dropped: 0,
        absent: 0,
        fates: BTreeMap::new(),
        left_by: BTreeSet::new(),
        events: events
            .iter()
            .map(|name| (name.clone(), BTreeSet::new()))
            .collect(),
    };
    let mut rows = BTreeMap::new();
    for account in accounts {
        for field in &account.fields {
            let row = rows
                .entry(field.field.clone())
                .or_insert_with(|| row(&field.field));
            if field.property.is_some() {
                row.mapped += 1;
            } else {
                row.dropped += 1;
                row.left_by.insert(field.fate);
            }
            *row.fates.entry(field.fate).or_default() += 1;
            if let Some(name) = named(account)
                && let Some(cell) = row.events.get_mut(&name)
            {
                cell.insert(field.fate);
            }
        }
    }
    let never_seen = never_seen(&rows.keys().map(String::as_str).collect::<Vec<_>>());
    rows.extend(never_seen.iter().map(|field| (field.clone(), row(field))));
    let read = accounts.iter().filter_map(named).count();
    Coverage {
        files: accounts.len(),
        fields: rows.into_values().map(|row| row.counted(read)).collect(),
        events: events.into_iter().collect(),
        never_seen,
        not_mapped: accounts
            .iter()
            .filter(|account| !account.outcome.is_settled())
            .map(|account| NotMapped {
                file: account.file.clone(),
                outcome: account.outcome,
                why: account.why.clone().unwrap_or_default(),
            })
            .collect(),
    }
}

/// The documented fields that are not among these. Names that end in a currency count as one.
fn never_seen(seen: &[&str]) -> Vec<String> {
    let is_missing = |wanted: &str| {
        let inside = format!("{wanted}.");
        !seen
            .iter()
            .any(|field| *field == wanted || field.starts_with(&inside))
    };
    let fields = FIELDS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| is_missing(name));
    let money = MONEY_PREFIXES.iter().filter(|prefix| {
        let is_one = |field: &&str| field.starts_with(**prefix) && currency(field).is_some();
        !seen.iter().any(is_one)
    });
    let money = money.map(|prefix| format!("{prefix}<currency>"));
    fields.map(str::to_owned).chain(money).collect()
}

impl Row {
    /// Settles what depends on all `files`.
    fn counted(mut self, files: usize) -> Self {
        self.absent = files.saturating_sub(self.mapped + self.dropped);
        self.status = match (self.mapped, self.dropped) {
            (0, 0) => Status::NeverSeen,
            (0, _) => Status::Dropped,
            _ => Status::Mapped,
        };
        self
    }

    /// The events that come with it.
    #[must_use]
    pub fn found_in(&self) -> Vec<&str> {
        let found = self.events.iter().filter(|(_, fates)| !fates.is_empty());
        found.map(|(name, _)| name.as_str()).collect()
    }

    /// The events that come without it.
    #[must_use]
    pub fn absent_from(&self) -> Vec<&str> {
        let absent = self.events.iter().filter(|(_, fates)| fates.is_empty());
        absent.map(|(name, _)| name.as_str()).collect()
    }
}

impl Coverage {
    /// How many fields end so.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        let so = self.fields.iter().filter(|row| row.status == status);
        so.count()
    }
}
