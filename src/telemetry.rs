//! The line: what the function says of each event, with the metrics in it.
//!
//! It does not decide what an outcome means. No secret, body or user's id may be put into a line.

mod diagnostics;
mod metrics;

use crate::mapping::Ignored;
use crate::outcome::{Outcome, Severity};
pub use diagnostics::{during, start};
use metrics::Metrics;
pub use metrics::{CLASS, FUNCTION, METRICS, NAMESPACE};
use serde::Serialize;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

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
    /// How old the event was on arrival, if Purchasely sent it itself and says when it happened.
    pub event_age: Option<Duration>,
    /// Whether its name is outside the catalogue.
    pub is_unknown: bool,
    /// Whether the claims table did not protect it from being relayed twice.
    pub is_unprotected: bool,
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
            event_age: None,
            is_unknown: false,
            is_unprotected: false,
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

/// What the lines of one invocation have in common.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'i> {
    /// Lambda's id of it.
    pub request_id: &'i str,
    /// X-Ray's header, if it is traced.
    pub trace_id: Option<&'i str>,
    /// The function's name in Lambda.
    pub function: &'i str,
    /// Whether it is the first of its environment.
    pub is_first: bool,
    /// How long ago the secret was read.
    pub secret_age: Option<Duration>,
    /// How long it has taken.
    pub took: Duration,
}

/// Writes an event's line. Its level never keeps it back, because its metrics must be complete.
pub fn write(report: &Report, invocation: Invocation<'_>) {
    print(&line(report, invocation, SystemTime::now()));
}

/// Writes the line of a batch of messages, of which so many have failed.
pub fn write_batch(messages: usize, failed: usize, invocation: Invocation<'_>) {
    print(&batch_line(messages, failed, invocation, SystemTime::now()));
}

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
    upload_ms: u64,
    duration_ms: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    adjusted: &'r [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    adjusted_count: Option<usize>,
    #[serde(flatten)]
    metrics: Metrics<'r>,
}

fn line<'r>(report: &'r Report, invocation: Invocation<'r>, now: SystemTime) -> Line<'r> {
    let row = report.outcome.row();
    let adjusted = report.adjustments.len();
    let upload = report.upload;
    let mut metrics = Metrics::new(invocation.function, since_1970(now));
    metrics.outcome(row.metric, row.class);
    metrics.count_if("ColdStart", invocation.is_first);
    if let Some(age) = report.event_age {
        metrics.value("EventAge", age.as_secs());
    }
    if upload.attempts > 0 {
        metrics.value("CleverTapLatency", milliseconds(upload.took));
    }
    if let Some(age) = invocation.secret_age {
        metrics.value("SecretAge", age.as_secs());
    }
    let is_anonymous = report.outcome == Outcome::Ignored(Ignored::Anonymous);
    metrics.count_if("AnonymousIgnored", is_anonymous);
    metrics.count_if("UnknownEvent", report.is_unknown);
    metrics.count_if("ProfileRefused", upload.profile_refused.is_some());
    metrics.count_if("ClaimsUnavailable", report.is_unprotected);
    Line {
        timestamp: timestamp(now),
        level: match row.severity {
            Severity::Info => "INFO",
            Severity::Warn => "WARN",
            Severity::Error => "ERROR",
        },
        message: report.outcome.sentence(),
        outcome: row.word,
        reason: row.reason,
        request_id: invocation.request_id,
        trace_id: invocation.trace_id,
        event_id: report.event_id.as_deref(),
        event_name: report.event_name.as_deref().map(cut),
        clevertap_status: upload.status,
        attempts: upload.attempts,
        profile_refused: upload.profile_refused,
        upload_ms: milliseconds(upload.took),
        duration_ms: milliseconds(invocation.took),
        adjusted: &report.adjustments[..adjusted.min(MOST_ADJUSTMENTS)],
        adjusted_count: (adjusted > MOST_ADJUSTMENTS).then_some(adjusted),
        metrics,
    }
}

#[derive(Serialize)]
struct BatchLine<'r> {
    timestamp: String,
    level: &'static str,
    message: &'static str,
    request_id: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'r str>,
    messages: usize,
    failed: usize,
    duration_ms: u64,
    #[serde(flatten)]
    metrics: Metrics<'r>,
}

fn batch_line(
    messages: usize,
    failed: usize,
    invocation: Invocation<'_>,
    now: SystemTime,
) -> BatchLine<'_> {
    let mut metrics = Metrics::new(invocation.function, since_1970(now));
    metrics.value("BatchSize", messages as u64);
    metrics.count_if("ColdStart", invocation.is_first);
    BatchLine {
        timestamp: timestamp(now),
        level: "INFO",
        message: "a batch of messages has ended",
        request_id: invocation.request_id,
        trace_id: invocation.trace_id,
        messages,
        failed,
        duration_ms: milliseconds(invocation.took),
        metrics,
    }
}

fn print(line: &impl Serialize) {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    // With standard output gone there is nobody left to tell.
    let _ = std::io::stdout().lock().write_all(&text);
}

fn timestamp(now: SystemTime) -> String {
    OffsetDateTime::from(now)
        .format(&Rfc3339)
        .unwrap_or_default()
}

fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn cut(name: &str) -> &str {
    &name[..name.floor_char_boundary(LONGEST_NAME)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Failure;

    const INVOCATION: Invocation<'_> = Invocation {
        request_id: "r-1",
        trace_id: Some("1-2"),
        function: "relay",
        is_first: false,
        secret_age: None,
        took: Duration::from_millis(1300),
    };

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_772_439_330)
    }

    #[test]
    fn an_event_is_one_json_line() {
        let report = Report {
            outcome: Outcome::Failed(Failure::Busy(429)),
            event_id: Some("e-1".into()),
            event_name: Some("ACTIVATE".into()),
            event_age: Some(Duration::from_millis(2900)),
            is_unknown: false,
            is_unprotected: false,
            upload: Upload {
                status: Some(429),
                attempts: 3,
                profile_refused: None,
                took: Duration::from_millis(1200),
            },
            adjustments: vec!["presentation: fitted".into()],
        };
        assert_eq!(
            serde_json::to_string(&line(&report, INVOCATION, now())).unwrap(),
            concat!(
                r#"{"timestamp":"2026-03-02T08:15:30Z","level":"WARN","#,
                r#""message":"not relayed: CleverTap is busy or faulty (429); the event is sent again","#,
                r#""outcome":"unavailable","reason":"busy","request_id":"r-1","trace_id":"1-2","event_id":"e-1","#,
                r#""event_name":"ACTIVATE","clevertap_status":429,"attempts":3,"upload_ms":1200,"duration_ms":1300,"#,
                r#""adjusted":["presentation: fitted"],"#,
                r#""FunctionName":"relay","Class":"passing","Failed":1,"EventAge":2,"CleverTapLatency":1200,"#,
                r#""_aws":{"Timestamp":1772439330000,"CloudWatchMetrics":["#,
                r#"{"Namespace":"PurchaselyClevertap","Dimensions":[["FunctionName"]],"Metrics":["#,
                r#"{"Name":"Failed","Unit":"Count"},{"Name":"EventAge","Unit":"Seconds"},"#,
                r#"{"Name":"CleverTapLatency","Unit":"Milliseconds"}]},"#,
                r#"{"Namespace":"PurchaselyClevertap","Dimensions":[["FunctionName","Class"]],"Metrics":["#,
                r#"{"Name":"Failed","Unit":"Count"}]}]}}"#
            )
        );
    }

    #[test]
    fn a_batch_is_one_json_line() {
        assert_eq!(
            serde_json::to_string(&batch_line(10, 2, INVOCATION, now())).unwrap(),
            concat!(
                r#"{"timestamp":"2026-03-02T08:15:30Z","level":"INFO","message":"a batch of messages has ended","#,
                r#""request_id":"r-1","trace_id":"1-2","messages":10,"failed":2,"duration_ms":1300,"#,
                r#""FunctionName":"relay","BatchSize":10,"_aws":{"Timestamp":1772439330000,"CloudWatchMetrics":["#,
                r#"{"Namespace":"PurchaselyClevertap","Dimensions":[["FunctionName"]],"Metrics":["#,
                r#"{"Name":"BatchSize","Unit":"Count"}]}]}}"#
            )
        );
    }

    #[test]
    fn many_adjustments_are_counted() {
        let mut report = Report::of(Outcome::Relayed);
        report.adjustments = vec!["a: over_limit".into(); 300];
        let line = serde_json::to_value(line(&report, INVOCATION, now())).unwrap();
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
