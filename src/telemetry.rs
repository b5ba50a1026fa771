//! The log line of each event, with its metrics in it.
//!
//! It formats a report and does not decide what an outcome means. No secret, body or user id may get into
//! a line.

mod diagnostics;
mod metrics;
mod unknown_events;

use crate::clock;
use crate::report::Report;
#[cfg(test)]
pub use diagnostics::note_panics;
pub use diagnostics::{catch_panic, start, unique_id, with_request_ids};
use metrics::Metrics;
pub use metrics::{CLASS, FUNCTION, METRICS, NAMESPACE};
use serde::Serialize;
use std::cell::Cell;
use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
pub use unknown_events::UnknownEvents;

/// A longer event name is truncated in the log.
const MAX_NAME_BYTES: usize = 120;

/// What takes a line, its line break included.
pub type Sink = fn(&[u8]);

thread_local! {
    static SINK: Cell<Option<Sink>> = const { Cell::new(None) };
}

/// Gives this thread's lines to `sink` instead of standard output, so that a simulation can read them.
pub fn capture(sink: Sink) {
    SINK.set(Some(sink));
}

/// What the lines of one invocation have in common.
#[derive(Debug, Clone, Copy)]
pub struct Invocation<'i> {
    pub request_id: &'i str,
    /// X-Ray's header, if the invocation is traced.
    pub trace_id: Option<&'i str>,
    /// The function's name in Lambda.
    pub function: &'i str,
    /// Whether it is the first of its environment.
    pub is_cold: bool,
    /// How long ago the secret was read.
    pub secret_age: Option<Duration>,
    pub duration: Duration,
}

/// Writes an event's line, whatever the log level, because its metrics must be complete.
pub fn write(report: &Report, invocation: Invocation<'_>) {
    print(&line(report, invocation, clock::now()));
}

/// Writes the line of a batch, then one for each event.
pub fn write_batch(reports: &[Report], failed: usize, mut invocation: Invocation<'_>) {
    print(&batch_line(reports.len(), failed, invocation, clock::now()));
    invocation.is_cold = false;
    for report in reports {
        write(report, invocation);
    }
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
    user: Option<&'r str>,
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
    let notes = &report.notes;
    let upload = report.upload;
    Line {
        timestamp: timestamp(now),
        level: report.severity().into_str(),
        message: report.message(),
        outcome: row.word,
        reason: row.reason,
        request_id: invocation.request_id,
        trace_id: invocation.trace_id,
        event_id: report.event_id.as_deref(),
        event_name: report.event_name.as_deref().map(truncate),
        user: report.user.as_deref(),
        clevertap_status: upload.status,
        attempts: upload.attempts,
        profile_refused: upload.profile_refused,
        upload_ms: milliseconds(upload.duration),
        duration_ms: milliseconds(invocation.duration),
        adjusted: &notes.adjusted,
        adjusted_count: (notes.adjusted_count > notes.adjusted.len())
            .then_some(notes.adjusted_count),
        metrics: Metrics::of_event(report, invocation, since_1970(now)),
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
    BatchLine {
        timestamp: timestamp(now),
        level: "INFO",
        message: "a batch of messages was relayed",
        request_id: invocation.request_id,
        trace_id: invocation.trace_id,
        messages,
        failed,
        duration_ms: milliseconds(invocation.duration),
        metrics: Metrics::of_batch(messages as u64, invocation, since_1970(now)),
    }
}

fn print(line: &impl Serialize) {
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    match SINK.get() {
        Some(sink) => sink(&text),
        // If standard output is closed, nobody reads the log.
        None => drop(std::io::stdout().lock().write_all(&text)),
    }
}

fn timestamp(now: SystemTime) -> String {
    OffsetDateTime::from(now).format(&Rfc3339).unwrap_or_default()
}

fn since_1970(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn truncate(name: &str) -> &str {
    &name[..name.floor_char_boundary(MAX_NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clevertap::{UploadFailure, UploadStats};
    use crate::mapping::Notes;
    use crate::outcome::{Failure, Outcome};

    pub(super) const INVOCATION: Invocation<'_> = Invocation {
        request_id: "r-1",
        trace_id: Some("1-2"),
        function: "relay",
        is_cold: false,
        secret_age: None,
        duration: Duration::from_millis(1300),
    };

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_772_439_330)
    }

    #[test]
    fn an_event_is_one_json_line() {
        let report = Report {
            outcome: Outcome::Failed(Failure::Upload(UploadFailure::Busy(429))),
            event_id: Some("e-1".into()),
            event_name: Some("ACTIVATE".into()),
            user: Some("0123456789abcdef".into()),
            event_age: Some(Duration::from_millis(2900)),
            is_unknown: false,
            dedup_unavailable: false,
            forwarded: None,
            upload: UploadStats {
                status: Some(429),
                attempts: 3,
                profile_refused: None,
                duration: Duration::from_millis(1200),
            },
            notes: Notes {
                adjusted: vec!["presentation: sanitized".into()],
                adjusted_count: 1,
                ..Notes::default()
            },
        };
        let line = serde_json::to_string(&line(&report, INVOCATION, now())).unwrap();
        // `metrics` tests the rest.
        let (line, _) = line.split_once(r#","FunctionName""#).unwrap();
        assert_eq!(
            line,
            concat!(
                r#"{"timestamp":"2026-03-02T08:15:30Z","level":"WARN","#,
                r#""message":"not relayed: CleverTap is busy or has an error (429); the event is sent again","#,
                r#""outcome":"unavailable","reason":"busy","request_id":"r-1","trace_id":"1-2","event_id":"e-1","#,
                r#""event_name":"ACTIVATE","user":"0123456789abcdef","clevertap_status":429,"attempts":3,"#,
                r#""upload_ms":1200,"duration_ms":1300,"#,
                r#""adjusted":["presentation: sanitized"]"#
            )
        );
    }

    #[test]
    fn a_batch_is_one_json_line() {
        assert_eq!(
            serde_json::to_string(&batch_line(10, 2, INVOCATION, now())).unwrap(),
            concat!(
                r#"{"timestamp":"2026-03-02T08:15:30Z","level":"INFO","message":"a batch of messages was relayed","#,
                r#""request_id":"r-1","trace_id":"1-2","messages":10,"failed":2,"duration_ms":1300,"#,
                r#""FunctionName":"relay","BatchSize":10,"_aws":{"Timestamp":1772439330000,"CloudWatchMetrics":["#,
                r#"{"Namespace":"PurchaselyClevertap","Dimensions":[["FunctionName"]],"Metrics":["#,
                r#"{"Name":"BatchSize","Unit":"Count"}]}]}}"#
            )
        );
    }

    #[test]
    fn many_adjustments_are_counted() {
        let mut report = Report::new(Outcome::Relayed);
        report.notes.adjusted = vec!["a: over_limit".into(); 20];
        report.notes.adjusted_count = 300;
        let line = serde_json::to_value(line(&report, INVOCATION, now())).unwrap();
        assert_eq!(line["adjusted"].as_array().unwrap().len(), 20);
        assert_eq!(line["adjusted_count"], 300);
    }
}
