//! The line: what the function says of each event, and how other crates are kept quiet.
//!
//! It does not decide what an outcome means. No secret, body or user's id may be put into a line.

use crate::outcome::{Outcome, Severity};
use serde::Serialize;
use std::io::Write;
use std::time::{Duration, SystemTime};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// An event's name longer than this is cut in the log.
const LONGEST_NAME: usize = 120;
/// More properties than this are counted in the log, not named.
const MOST_ADJUSTMENTS: usize = 20;

/// What is known of one event when it ends.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// How it ended.
    pub outcome: Outcome,
    /// Purchasely's id of the event, if it has the form of one.
    pub event_id: Option<String>,
    /// Purchasely's name of the event.
    pub event_name: Option<String>,
    /// The upload, if there was one.
    pub upload: Upload,
    /// Properties that were changed or lost to fit CleverTap, each as `name: what`.
    pub adjustments: Vec<String>,
}

/// What is known of the upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upload {
    /// The last HTTP status that CleverTap answered.
    pub status: Option<u16>,
    /// How often it was sent.
    pub attempts: u32,
    /// The code with which CleverTap refused the profile, which does not decide over the event.
    pub profile_refused: Option<u16>,
    /// How long it took, with every attempt and wait.
    pub took: Duration,
}

impl Report {
    /// A report of something that is no event, or not yet known to be one.
    #[must_use]
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            event_id: None,
            event_name: None,
            upload: Upload::default(),
            adjustments: Vec::new(),
        }
    }
}

/// An id as it may be shown: only what looks like an idempotency key, so that nothing else slips out.
#[must_use]
pub fn showable_id(id: &str) -> Option<&str> {
    let plain = id
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    (plain && !id.is_empty() && id.len() <= 64).then_some(id)
}

/// Sends the function's own lines at `level` and other crates' at WARN at most to standard output.
/// At TRACE the Lambda runtime would print whole webhooks.
pub fn start(level: LevelFilter) {
    let targets = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        .with_target(env!("CARGO_CRATE_NAME"), level);
    let lines = tracing_subscriber::fmt::layer().json().flatten_event(true);
    tracing_subscriber::registry()
        .with(lines)
        .with(targets)
        .init();
    std::panic::set_hook(Box::new(|panic| {
        // The message may quote what was being handled; the place is enough.
        let place = panic
            .location()
            .map(ToString::to_string)
            .unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
}

/// Writes an event's line.
pub fn write(report: &Report, request_id: &str, trace_id: Option<&str>, took: Duration) {
    let mut line = line(report, request_id, trace_id, took, SystemTime::now());
    line.push(b'\n');
    // With standard output gone there is nobody left to tell.
    let _ = std::io::stdout().lock().write_all(&line);
}

fn line(
    report: &Report,
    request_id: &str,
    trace_id: Option<&str>,
    took: Duration,
    now: SystemTime,
) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'r> {
        timestamp: String,
        level: &'static str,
        message: String,
        outcome: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
        request_id: &'r str,
        #[serde(skip_serializing_if = "Option::is_none")]
        trace_id: Option<&'r str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        event_id: Option<&'r str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        event_name: Option<&'r str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        clevertap_status: Option<u16>,
        attempts: u32,
        #[serde(skip_serializing_if = "Option::is_none")]
        profile_refused: Option<u16>,
        upload_ms: u128,
        duration_ms: u128,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        adjusted: &'r [String],
        #[serde(skip_serializing_if = "Option::is_none")]
        adjusted_count: Option<usize>,
    }
    let row = report.outcome.row();
    let adjusted = report.adjustments.len();
    let line = Line {
        timestamp: OffsetDateTime::from(now)
            .format(&Rfc3339)
            .unwrap_or_default(),
        level: match row.severity {
            Severity::Info => "INFO",
            Severity::Warn => "WARN",
            Severity::Error => "ERROR",
        },
        message: report.outcome.sentence(),
        outcome: row.word,
        reason: row.reason,
        request_id,
        trace_id,
        event_id: report.event_id.as_deref(),
        event_name: report.event_name.as_deref().map(cut),
        clevertap_status: report.upload.status,
        attempts: report.upload.attempts,
        profile_refused: report.upload.profile_refused,
        upload_ms: report.upload.took.as_millis(),
        duration_ms: took.as_millis(),
        adjusted: &report.adjustments[..adjusted.min(MOST_ADJUSTMENTS)],
        adjusted_count: (adjusted > MOST_ADJUSTMENTS).then_some(adjusted),
    };
    serde_json::to_vec(&line).unwrap_or_default()
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(LONGEST_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;

    #[test]
    fn an_event_is_one_json_line() {
        let report = Report {
            outcome: Outcome::Failed(Failure::Busy(429)),
            event_id: Some("e-1".into()),
            event_name: Some("ACTIVATE".into()),
            upload: Upload {
                status: Some(429),
                attempts: 3,
                profile_refused: None,
                took: Duration::from_millis(1200),
            },
            adjustments: vec!["presentation: fitted".into()],
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_772_439_330);
        let line = line(
            &report,
            "r-1",
            Some("1-2"),
            Duration::from_millis(1300),
            now,
        );
        assert_eq!(
            String::from_utf8(line).unwrap(),
            concat!(
                r#"{"timestamp":"2026-03-02T08:15:30Z","level":"WARN","#,
                r#""message":"not relayed: CleverTap is busy or faulty (429); the event is sent again","#,
                r#""outcome":"unavailable","reason":"busy","request_id":"r-1","trace_id":"1-2","event_id":"e-1","#,
                r#""event_name":"ACTIVATE","clevertap_status":429,"attempts":3,"upload_ms":1200,"duration_ms":1300,"#,
                r#""adjusted":["presentation: fitted"]}"#
            )
        );
    }

    #[test]
    fn many_adjustments_are_counted() {
        let mut report = Report::of(Outcome::Relayed);
        report.adjustments = vec!["a: over_limit".into(); 300];
        let line = line(&report, "r", None, Duration::ZERO, SystemTime::UNIX_EPOCH);
        let line: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(line["adjusted"].as_array().unwrap().len(), MOST_ADJUSTMENTS);
        assert_eq!(line["adjusted_count"], 300);
    }

    #[test]
    fn only_an_id_that_looks_like_one_is_shown() {
        assert_eq!(showable_id("0d6f8f0e-6f0b"), Some("0d6f8f0e-6f0b"));
        assert_eq!(showable_id("me@example.com"), None);
        assert_eq!(showable_id(""), None);
        assert_eq!(showable_id(&"x".repeat(65)), None);
    }
}
