//! How events ended, counted. It does not know why.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// How one event ended. In the order in which the summary names them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The receiver answered that nothing more is to be done.
    Acknowledged {
        /// The receiver's own word: `relayed`, `duplicate`, `ignored`, `dead_lettered`, `queued`, …
        word: String,
        /// Its reason, where it gave one.
        reason: Option<String>,
    },
    /// Acknowledged before, by an earlier run or for another copy.
    Skipped,
    /// Not acknowledged: the last status, or what stood in for it.
    Failed(String),
    /// Not sent, because an earlier event of the same user failed.
    Held,
    /// Not sent, because the run ended before, or was a dry one.
    NotSent,
}

impl Outcome {
    fn word(&self) -> &str {
        match self {
            Self::Acknowledged { word, .. } => word,
            Self::Skipped => "skipped",
            Self::Failed(_) => "failed",
            Self::Held => "held",
            Self::NotSent => "not_sent",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Acknowledged { reason, .. } => reason.as_deref(),
            Self::Failed(status) => Some(status),
            Self::Skipped | Self::Held | Self::NotSent => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{} ({reason})", self.word()),
            None => f.write_str(self.word()),
        }
    }
}

/// How many events ended how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary(BTreeMap<Outcome, usize>);

impl Summary {
    /// Counts one more event.
    pub fn add(&mut self, outcome: Outcome) {
        *self.0.entry(outcome).or_default() += 1;
    }

    /// Whether nothing is left to send.
    pub fn all_acknowledged(&self) -> bool {
        self.0.keys().all(|outcome| match outcome {
            Outcome::Acknowledged { .. } | Outcome::Skipped => true,
            Outcome::Failed(_) | Outcome::Held | Outcome::NotSent => false,
        })
    }

    /// One line per outcome, and one for all.
    pub fn table(&self) -> String {
        let rows = self.0.iter().map(|(outcome, &n)| (outcome.to_string(), n));
        let all = ("all".to_owned(), self.0.values().sum());
        let rows: Vec<_> = rows.chain([all]).collect();
        let width = rows.iter().map(|(outcome, _)| outcome.len()).max();
        let width = width.unwrap_or_default();
        rows.iter().fold(String::new(), |mut table, (outcome, n)| {
            let _ = writeln!(table, "{outcome:<width$}  {n:>7}");
            table
        })
    }

    /// A list of outcomes with their counts.
    pub fn json(&self) -> Value {
        let row = |(outcome, n): (&Outcome, &usize)| match outcome.reason() {
            Some(reason) => json!({ "outcome": outcome.word(), "reason": reason, "events": n }),
            None => json!({ "outcome": outcome.word(), "events": n }),
        };
        self.0.iter().map(row).collect()
    }
}
