//! Accounts and coverage as text: aligned for people, or one line of JSON.
//! It does not know why anything is as it is.

use super::account::{Destination, Explanation, Money, Named, Profile};
use super::coverage::{Coverage, Row, Status};
use super::identity::Identity;
use serde::Serialize;

/// So many events are listed by name; more are only counted.
const FEW: usize = 4;

/// One line of JSON.
#[must_use]
pub fn json(told: &impl Serialize) -> String {
    serde_json::to_string(told).expect("what is told always has a JSON form") + "\n"
}

/// One file's account for people.
#[must_use]
pub fn account(told: &Explanation) -> String {
    let profile = told.profile.as_ref();
    let facts = [
        ("Outcome", Some(outcome(told))),
        ("Event", told.event.as_ref().map(event)),
        ("Identity", told.identity.as_ref().map(identity)),
        ("Profile", profile.map(row)),
        ("", profile.map(changes)),
        ("Revenue", told.revenue.as_ref().map(revenue)),
    ];
    let facts: Vec<_> = facts
        .into_iter()
        .filter_map(|(name, said)| Some(vec![name.to_owned(), said?]))
        .collect();
    let parts = [
        format!("{}\n\n{}", told.file, table(&facts)),
        fields(told),
        profile.map(written).unwrap_or_default(),
        upload(told),
    ];
    parts.concat()
}

fn outcome(told: &Explanation) -> String {
    let why = told.why.as_deref().unwrap_or_default();
    match (told.account, &told.event) {
        (Some(account), _) => format!("sent in one upload to the {account} account"),
        (None, Some(_)) if told.outcome.is_settled() => format!("ignored, nothing is sent: {why}"),
        (None, Some(_)) => format!("unmappable, it can never be sent: {why}"),
        (None, None) => format!("unreadable, it is no event: {why}"),
    }
}

fn event(event: &Named) -> String {
    match &event.sent_as {
        Some(sent_as) => format!("{} is raised as `{sent_as}`: {}", event.name, event.why),
        None => format!("{} is not raised: {}", event.name, event.why),
    }
}

fn identity(identity: &Identity) -> String {
    let id = identity.id.as_deref().unwrap_or_default();
    match (identity.key, &identity.field) {
        (Some(key), Some(field)) => format!("{key} `{id}` from {field}: {}", identity.why),
        (None, Some(field)) => format!("nobody, for all of {field} `{id}`: {}", identity.why),
        (_, None) => format!("nobody: {}", identity.why),
    }
}

fn row(profile: &Profile) -> String {
    format!("row {}: {}", profile.row, profile.says)
}

fn changes(profile: &Profile) -> String {
    match &profile.why {
        Some(why) => format!("no record: {why}"),
        None => profile.changes.clone(),
    }
}

fn revenue(revenue: &Money) -> String {
    match &revenue.event {
        Some(name) => format!("`{name}`: {}", revenue.why),
        None => format!("none: {}", revenue.why),
    }
}

fn fields(told: &Explanation) -> String {
    if told.fields.is_empty() {
        return String::new();
    }
    let row = |field: &Destination| {
        let property = field.property.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            field.field.clone(),
            field.fate.to_owned(),
            property,
            field.why.clone(),
        ]
    };
    let header = ["field", "fate", "property", "why"]
        .map(str::to_owned)
        .to_vec();
    let rows: Vec<_> = std::iter::once(header)
        .chain(told.fields.iter().map(row))
        .collect();
    let is_sent = told
        .event
        .as_ref()
        .is_some_and(|event| event.sent_as.is_some());
    let sent = told
        .fields
        .iter()
        .filter(|field| field.property.is_some())
        .count();
    let title = if is_sent {
        format!(
            "Fields: {} in the payload, {sent} sent with the event",
            told.fields.len()
        )
    } else {
        "Fields: what would become of each, if the event were raised".to_owned()
    };
    format!("\n{title}\n{}", table(&rows))
}

fn written(profile: &Profile) -> String {
    if profile.written.is_empty() {
        return String::new();
    }
    let rows = profile.written.iter().map(|written| {
        let from = format!("from {}", written.from);
        vec![written.property.clone(), written.value.to_string(), from]
    });
    let rows: Vec<_> = rows.collect();
    let untouched = match profile.untouched.join(", ") {
        none if none.is_empty() => none,
        names => format!("  (left as they are: {names})\n"),
    };
    format!("\nProfile properties written\n{}{untouched}", table(&rows))
}

fn upload(told: &Explanation) -> String {
    let (Some(body), Some(pretty)) = (&told.body, &told.pretty) else {
        return String::new();
    };
    let bytes = body.len();
    format!("\nUpload ({bytes} bytes when sent, without this white space)\n{pretty}\n")
}

/// The matrix in one line per field, and its sum.
#[must_use]
pub fn coverage(told: &Coverage) -> String {
    let header = ["field", "mapped", "dropped", "absent", "events"]
        .map(str::to_owned)
        .to_vec();
    let rows: Vec<_> = std::iter::once(header)
        .chain(told.fields.iter().map(|row| {
            vec![
                row.field.clone(),
                row.mapped.to_string(),
                dropped(row),
                row.absent.to_string(),
                events(row),
            ]
        }))
        .collect();
    let not_mapped: String = told
        .not_mapped
        .iter()
        .map(|file| format!("{}: not mapped: {}\n", file.file, file.why))
        .collect();
    let sum = format!(
        "{} files, {} events, {} fields: {} mapped, {} dropped wherever they come, {} documented but never seen; {} files not mapped\n",
        told.files,
        told.events.len(),
        told.fields.len(),
        told.count(Status::Mapped),
        told.count(Status::Dropped),
        told.count(Status::NeverSeen),
        told.not_mapped.len(),
    );
    [table(&rows), "\n".to_owned(), not_mapped, sum].concat()
}

/// How many are left behind, and by which fate.
fn dropped(row: &Row) -> String {
    let fates: Vec<_> = row.left_by.iter().copied().collect();
    format!("{} {}", row.dropped, fates.join(", "))
}

fn events(row: &Row) -> String {
    let (found, absent) = (row.found_in(), row.absent_from());
    if found.is_empty() {
        "never seen".to_owned()
    } else if absent.is_empty() {
        "in all".to_owned()
    } else if found.len() <= FEW {
        format!("only in {}", found.join(", "))
    } else if absent.len() <= FEW {
        format!("in all but {}", absent.join(", "))
    } else {
        format!("in {} of {}", found.len(), row.events.len())
    }
}

/// Rows of cells, aligned, two spaces apart and two from the edge.
fn table(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<_> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<_> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}"))
            .collect();
        format!("  {}", cells.join("  ").trim_end()) + "\n"
    };
    rows.iter().map(line).collect()
}
