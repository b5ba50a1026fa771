//! The metrics of a log line: what each counts, and CloudWatch's embedded metric format, which needs no call.
//!
//! It does not know the rest of the line. The format:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use super::{Invocation, milliseconds};
use crate::outcome::{Class, Outcome};
use crate::report::Report;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::time::Duration;

pub const NAMESPACE: &str = "PurchaselyClevertap";
/// The dimension that distinguishes the deployments of one account.
pub const FUNCTION: &str = "FunctionName";
/// The [`Class`] of a failure, on the metric `Failed` alone.
pub const CLASS: &str = "Class";

/// Every metric with its unit in CloudWatch.
pub const METRICS: &[(&str, &str)] = &[
    // Exactly one of these ten is 1 for each delivery. Relayed is 0 where an event was to be relayed and was not, so
    // that an alarm finds both numbers in one metric.
    ("Relayed", "Count"),
    ("Queued", "Count"),
    ("DryRun", "Count"),
    ("Duplicate", "Count"),
    ("DeadLettered", "Count"),
    ("Ignored", "Count"),
    ("Unauthorized", "Count"),
    ("Rejected", "Count"),
    ("Failed", "Count"),
    ("Waiting", "Count"),
    ("Stuck", "Count"),
    ("Held", "Count"),
    ("EventAge", "Seconds"),
    ("CleverTapLatency", "Milliseconds"),
    ("Forwarded", "Count"),
    ("ForwardLatency", "Milliseconds"),
    ("SecretAge", "Seconds"),
    ("ColdStart", "Count"),
    ("BatchSize", "Count"),
    ("AnonymousIgnored", "Count"),
    ("UnknownEvent", "Count"),
    ("RevenueMissing", "Count"),
    ("PlaceholderId", "Count"),
    ("UnknownEnvironment", "Count"),
    ("ProfileRefused", "Count"),
    ("DataProblem", "Count"),
    ("ClaimsUnavailable", "Count"),
];

/// The metrics of one line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Metrics<'m> {
    function: &'m str,
    /// Since 1970.
    now: Duration,
    class: Option<Class>,
    values: Vec<(&'static str, u64)>,
}

impl<'m> Metrics<'m> {
    /// The metrics of an event's line: first its outcome, that of a failure also by its class.
    pub fn of_event(report: &Report, invocation: Invocation<'m>, now: Duration) -> Self {
        let (row, notes, upload) = (report.outcome.row(), &report.notes, report.upload);
        let mut metrics = Self { class: row.class, ..Self::new(invocation, now) };
        metrics.value(row.metric, 1);
        if report.is_relayed() == Some(false) {
            metrics.value("Relayed", 0);
        }
        if let Some(is_stuck) = report.is_stuck() {
            metrics.value("Stuck", is_stuck.into());
        }
        metrics.count_if("Held", report.is_held());
        metrics.count_if("ColdStart", invocation.is_cold);
        if let Some(age) = report.event_age {
            metrics.value("EventAge", age.as_secs());
        }
        if upload.attempts > 0 {
            metrics.value("CleverTapLatency", milliseconds(upload.duration));
        }
        if let Some(duration) = report.forwarded {
            metrics.value("Forwarded", 1);
            metrics.value("ForwardLatency", milliseconds(duration));
        }
        if let Some(age) = invocation.secret_age {
            metrics.value("SecretAge", age.as_secs());
        }
        let lacks_user = matches!(report.outcome, Outcome::Ignored(why) if why.lacks_user());
        metrics.count_if("AnonymousIgnored", lacks_user);
        metrics.count_if("UnknownEvent", report.is_unknown);
        metrics.count_if("RevenueMissing", notes.revenue_missing);
        metrics.count_if("PlaceholderId", notes.has_placeholder);
        metrics.count_if("UnknownEnvironment", notes.unknown_environment);
        metrics.count_if("ProfileRefused", report.is_profile_refused());
        metrics.count_if("DataProblem", report.has_data_problem());
        metrics.count_if("ClaimsUnavailable", report.dedup_unavailable);
        metrics
    }

    pub fn of_batch(messages: u64, invocation: Invocation<'m>, now: Duration) -> Self {
        let mut metrics = Self::new(invocation, now);
        metrics.value("BatchSize", messages);
        metrics.count_if("ColdStart", invocation.is_cold);
        metrics
    }

    fn new(invocation: Invocation<'m>, now: Duration) -> Self {
        let (function, values) = (invocation.function, Vec::with_capacity(8));
        Self { function, now, class: None, values }
    }

    fn count_if(&mut self, metric: &'static str, condition: bool) {
        if condition {
            self.value(metric, 1);
        }
    }

    /// The value is in the metric's unit.
    fn value(&mut self, metric: &'static str, value: u64) {
        self.values.push((metric, value));
    }

    fn directives(&self) -> Directives {
        let directive = |names: &mut dyn Iterator<Item = &'static str>, dimensions| Directive {
            namespace: NAMESPACE,
            dimensions: [dimensions],
            metrics: names.map(|name| Definition { name, unit: unit(name) }).collect(),
        };
        let names = self.values.iter().map(|(name, _)| *name);
        let by_function: &[&str] = &[FUNCTION];
        let mut directives = vec![directive(&mut names.clone(), by_function)];
        if self.class.is_some() {
            // The outcome is the first.
            directives.push(directive(&mut names.take(1), &[FUNCTION, CLASS]));
        }
        Directives {
            timestamp: u64::try_from(self.now.as_millis()).unwrap_or_default(),
            directives,
        }
    }
}

/// The members of the line: dimensions, values, then what they mean.
impl Serialize for Metrics<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry(FUNCTION, self.function)?;
        if let Some(class) = self.class {
            members.serialize_entry(CLASS, <&str>::from(class))?;
        }
        for (name, value) in &self.values {
            members.serialize_entry(name, value)?;
        }
        members.serialize_entry("_aws", &self.directives())?;
        members.end()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directives {
    /// Unix milliseconds.
    timestamp: u64,
    #[serde(rename = "CloudWatchMetrics")]
    directives: Vec<Directive>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Directive {
    namespace: &'static str,
    dimensions: [&'static [&'static str]; 1],
    metrics: Vec<Definition>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Definition {
    name: &'static str,
    unit: &'static str,
}

fn unit(metric: &str) -> &'static str {
    let found = METRICS.iter().find(|(name, _)| *name == metric);
    found.map_or("None", |(_, unit)| unit)
}

#[cfg(test)]
mod tests {
    use super::super::tests::INVOCATION;
    use super::*;
    use crate::clevertap::UploadFailure;
    use crate::outcome::Failure;

    #[test]
    fn cloudwatch_reads_a_failure_with_and_without_its_class() {
        let failure = Failure::Upload(UploadFailure::Busy(429));
        let mut report = Report::new(Outcome::Failed(failure));
        report.event_age = Some(Duration::from_millis(2900));
        report.upload.attempts = 3;
        report.upload.duration = Duration::from_millis(1200);
        let now = Duration::from_secs(1_772_439_330);
        assert_eq!(
            serde_json::to_string(&Metrics::of_event(&report, INVOCATION, now)).unwrap(),
            concat!(
                r#"{"FunctionName":"relay","Class":"transient","Failed":1,"Relayed":0,"EventAge":2,"CleverTapLatency":1200,"#,
                r#""_aws":{"Timestamp":1772439330000,"CloudWatchMetrics":["#,
                r#"{"Namespace":"PurchaselyClevertap","Dimensions":[["FunctionName"]],"Metrics":["#,
                r#"{"Name":"Failed","Unit":"Count"},{"Name":"Relayed","Unit":"Count"},"#,
                r#"{"Name":"EventAge","Unit":"Seconds"},{"Name":"CleverTapLatency","Unit":"Milliseconds"}]},"#,
                r#"{"Namespace":"PurchaselyClevertap","Dimensions":[["FunctionName","Class"]],"Metrics":["#,
                r#"{"Name":"Failed","Unit":"Count"}]}]}}"#
            )
        );
    }
}
