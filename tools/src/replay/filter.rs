//! Chooses among saved events by name and time. It does not know where they come from.

use crate::saved::Saved;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

#[derive(clap::Args)]
pub struct Filter {
    /// Only events of this name; may be repeated.
    #[arg(long = "event", value_name = "NAME")]
    names: Vec<String>,
    /// Only events that happened at or after this time: RFC 3339, or a date for its midnight in UTC.
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    since: Option<i64>,
    /// Only events that happened before this time.
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    until: Option<i64>,
}

impl Filter {
    /// An event without a time matches no limit of time.
    pub fn matches(&self, event: &Saved) -> bool {
        let is_named = |name: &String| {
            event.name.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(name))
        };
        let at = event.created_at_ms;
        (self.names.is_empty() || self.names.iter().any(is_named))
            && self.since.is_none_or(|since| at.is_some_and(|at| at >= since))
            && self.until.is_none_or(|until| at.is_some_and(|at| at < until))
    }
}

fn time_ms(text: &str) -> Result<i64, String> {
    let time = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339));
    let milliseconds = time
        .ok()
        .and_then(|time| i64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok());
    milliseconds.ok_or_else(|| "not like 2026-03-02T08:15:30Z or 2026-03-02".to_owned())
}
