//! The metrics of a log line, in CloudWatch's embedded metric format, so that they need no call.
//!
//! It does not know what they measure. The format:
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>.

use crate::outcome::Class;
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
    pub fn new(function: &'m str, now: Duration) -> Self {
        Self {
            function,
            now,
            class: None,
            values: Vec::with_capacity(8),
        }
    }

    pub fn count(&mut self, metric: &'static str) {
        self.value(metric, 1);
    }

    pub fn count_if(&mut self, metric: &'static str, condition: bool) {
        if condition {
            self.count(metric);
        }
    }

    /// The value is in the metric's unit.
    pub fn value(&mut self, metric: &'static str, value: u64) {
        self.values.push((metric, value));
    }

    /// Counts an event's outcome, and that of a failure also by its class.
    pub fn outcome(&mut self, metric: &'static str, class: Option<Class>) {
        self.count(metric);
        self.class = class;
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
