//! Formats an explanation for people. It does not know why anything is as it is.

use super::explanation::{Choice, Explanation};

pub fn explanation(explanation: &Explanation) -> String {
    let name = explanation.name.as_deref().unwrap_or("body");
    let outcome = format!("{name} {}: {}", explanation.outcome, explanation.why);
    let mut facts = vec![["Outcome".to_owned(), outcome]];
    let choices = [
        ("Forward", &explanation.forward),
        ("Event", &explanation.event),
        ("Identity", &explanation.identity),
        ("Profile", &explanation.profile),
        ("Revenue", &explanation.revenue),
    ];
    for (name, choice) in choices {
        if let Some(Choice { sent, why }) = choice {
            let sent = sent.as_deref().unwrap_or("none");
            facts.push([name, sent].map(str::to_owned));
            facts.push(["", why].map(str::to_owned));
        }
    }
    let mut parts = vec![format!("{}\n\n{}", explanation.file, table(&facts))];
    if !explanation.fields.is_empty() {
        parts.push(fields(explanation));
    }
    if let (Some(upload), Some(pretty)) = (&explanation.upload, &explanation.pretty_upload) {
        let bytes = upload.get().len();
        let title = format!("Upload ({bytes} bytes when sent, without this white space)");
        parts.push(format!("{title}\n{pretty}\n"));
    }
    parts.join("\n")
}

fn fields(explanation: &Explanation) -> String {
    let mut rows = vec![["field", "outcome", "property", "why"].map(str::to_owned)];
    rows.extend(explanation.fields.iter().map(|field| {
        let property = field.property.as_deref().unwrap_or("-");
        [&field.name, field.outcome, property, &field.why].map(str::to_owned)
    }));
    let is_raised = explanation.event.as_ref().is_some_and(|event| event.sent.is_some());
    let title = if is_raised { "" } else { ", if the event were raised" };
    format!("Fields of the payload{title}\n{}", table(&rows))
}

/// Aligned columns, two spaces apart and two from the edge.
pub fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or(0));
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths);
        let cells = cells.map(|(cell, width)| format!("  {cell:<width$}"));
        cells.collect::<String>().trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}
