//! What is reported about one event, for its line in the log and its metrics.
//! It does not know how the line is written; `telemetry` does.

use crate::aws::secret::Secret;
use crate::clevertap::UploadStats;
use crate::mapping::identity::purchasely_id;
use crate::mapping::{Ignored, Notes};
use crate::outcome::{Class, Outcome, Severity};
use crate::purchasely::Event;
use crate::purchasely::signature::user_digest;
use std::time::Duration;

/// A failure of an event that has waited for less is over with the sender's next attempts, or is reported by them.
const PATIENCE: Duration = Duration::from_mins(5);

/// What is reported about one event, or about a request that is not one.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub outcome: Outcome,
    /// Purchasely's id of the event, if it looks like one.
    pub event_id: Option<String>,
    /// Purchasely's name of the event.
    pub event_name: Option<String>,
    /// The digest of the id by which Purchasely knows the user.
    pub user: Option<String>,
    /// The event's age on arrival, if Purchasely itself sent it and it has a time.
    pub event_age: Option<Duration>,
    /// How long a failed event has waited: since SQS got its message, or else since it happened, if that is known.
    pub waited: Option<Duration>,
    /// Whether it belongs to the account for sandbox purchases.
    pub is_for_sandbox_account: bool,
    /// Whether the event's name is outside the catalogue, and reported for the first time today.
    pub is_unknown: bool,
    /// Whether the claims table was unavailable, so that the event may be relayed twice.
    pub dedup_unavailable: bool,
    /// How long the operator's backend took to take it, if it was forwarded.
    pub forwarded: Option<Duration>,
    pub upload: UploadStats,
    pub notes: Notes,
}

impl Report {
    /// A report about something that is not an event, or not yet known to be one.
    pub fn new(outcome: Outcome) -> Self {
        Self {
            outcome,
            event_id: None,
            event_name: None,
            user: None,
            event_age: None,
            waited: None,
            is_for_sandbox_account: false,
            is_unknown: false,
            dedup_unavailable: false,
            forwarded: None,
            upload: UploadStats::default(),
            notes: Notes::default(),
        }
    }

    /// A report about an event. `age` is that on arrival; the user's digest needs the secret.
    pub fn of_event(
        outcome: Outcome,
        event: &Event<'_>,
        age: Option<Duration>,
        secret: Option<&Secret>,
    ) -> Self {
        let shared_secret = secret.and_then(|secret| secret.shared_secrets().next());
        let user = purchasely_id(event).zip(shared_secret);
        Self {
            event_id: event.id().and_then(loggable_id).map(str::to_owned),
            event_name: Some(event.name().to_owned()),
            user: user.map(|(id, secret)| user_digest(secret, &id)),
            event_age: age,
            ..Self::new(outcome)
        }
    }

    /// That of the outcome, or a warning if something is missing or odd although the event was handled.
    pub fn severity(&self) -> Severity {
        match self.outcome.row().severity {
            Severity::Info if self.warnings().next().is_some() => Severity::Warn,
            severity => severity,
        }
    }

    /// The report as a sentence, for the log.
    pub fn message(&self) -> String {
        let warnings = self.warnings().map(|warning| format!("; {warning}"));
        self.outcome.message() + &warnings.collect::<String>()
    }

    /// Whether it relayed an event, as far as a delivery was to relay one: not a dropped sandbox purchase.
    pub fn is_relayed(&self) -> Option<bool> {
        match self.outcome {
            Outcome::Relayed => Some(true),
            Outcome::DryRun
            | Outcome::Duplicate
            | Outcome::Waiting
            | Outcome::Ignored(Ignored::Sandbox) => None,
            _ => Some(false),
        }
    }

    /// Whether nothing can be relayed until somebody corrects the secret or the account, as far as it shows that. The
    /// account for sandbox purchases shows nothing about the other one.
    pub fn is_stuck(&self) -> Option<bool> {
        match self.outcome {
            _ if self.is_for_sandbox_account => None,
            Outcome::Relayed | Outcome::DryRun => Some(false),
            _ => self.is_refused_access().then_some(true),
        }
    }

    /// Whether the event waits, and its user's later events with it, for what does not pass by itself.
    pub fn is_held(&self) -> bool {
        match self.outcome.row().class {
            Some(Class::Event) => true,
            Some(Class::Queue | Class::Forward | Class::Unexpected) => {
                self.waited.is_none_or(|waited| waited >= PATIENCE)
            }
            _ => false,
        }
    }

    pub fn is_profile_refused(&self) -> bool {
        self.upload.profile_refused.is_some() || self.outcome == Outcome::ProfileRefused
    }

    /// Whether something in CleverTap will be missing or odd although production events are relayed.
    pub fn has_data_problem(&self) -> bool {
        let Notes {
            revenue_missing,
            has_placeholder,
            unknown_environment,
            ..
        } = self.notes;
        revenue_missing
            || has_placeholder
            || unknown_environment
            || self.is_unknown
            || self.is_profile_refused()
            || (self.is_for_sandbox_account && self.is_refused_access())
    }

    fn is_refused_access(&self) -> bool {
        matches!(self.outcome.row().class, Some(Class::Credentials | Class::Secret))
    }

    fn warnings(&self) -> impl Iterator<Item = &'static str> {
        let Notes {
            revenue_missing,
            has_placeholder,
            unknown_environment,
            ..
        } = self.notes;
        let warnings = [
            (
                revenue_missing,
                "no revenue event, because the transaction has no amount in the currency that REVENUE_CURRENCY names",
            ),
            (
                has_placeholder,
                "an id is a placeholder such as `undefined` or was damaged, so it counts as absent: find out where the app sets it",
            ),
            (
                unknown_environment,
                "environment is neither PRODUCTION nor SANDBOX, so only the event itself is sent, without profile and revenue, unless the account is a test account",
            ),
        ];
        warnings.into_iter().filter_map(|(is_so, warning)| is_so.then_some(warning))
    }
}

/// An id that may be logged: only what looks like an idempotency key, so that nothing personal slips out.
fn loggable_id(id: &str) -> Option<&str> {
    let is_plain = id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (is_plain && !id.is_empty() && id.len() <= 64).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;
    use crate::purchasely::Verified;

    #[test]
    fn a_report_names_its_event() {
        let body = br#"{"event_name":"ACTIVATE","event_id":"e-1","user_id":"u-1"}"#;
        let event = Event::parse(Verified::unsigned(body)).unwrap();
        let age = Some(Duration::from_secs(3));
        let report = Report::of_event(Outcome::Relayed, &event, age, None);
        let named = (report.event_id.as_deref(), report.event_name.as_deref(), report.event_age);
        assert_eq!(named, (Some("e-1"), Some("ACTIVATE"), age));
    }

    #[test]
    fn what_is_missing_or_odd_is_a_warning_if_the_event_was_handled() {
        let notes = [
            Notes { revenue_missing: true, ..Notes::default() },
            Notes { has_placeholder: true, ..Notes::default() },
            Notes { unknown_environment: true, ..Notes::default() },
        ];
        for notes in notes {
            for (outcome, severity) in [
                (Outcome::Relayed, Severity::Warn),
                (Outcome::Failed(Failure::Panicked), Severity::Error),
            ] {
                let odd = Report { notes: notes.clone(), ..Report::new(outcome) };
                assert_eq!(odd.severity(), severity);
                assert_eq!(Report::new(outcome).severity(), outcome.row().severity);
                assert!(odd.message().starts_with(&(outcome.message() + "; ")));
                assert!(!notes.revenue_missing || odd.message().contains("REVENUE_CURRENCY"));
            }
        }
    }

    #[test]
    fn only_an_id_that_looks_like_one_is_logged() {
        assert_eq!(loggable_id("0d6f8f0e-6f0b"), Some("0d6f8f0e-6f0b"));
        for id in ["me@example.com", "", &"x".repeat(65)] {
            assert_eq!(loggable_id(id), None);
        }
    }
}
