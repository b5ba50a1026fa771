//! What a deployment costs and carries: the list prices of docs/costs.md times the project's own numbers. It does not
//! know AWS's bill, free tiers or discounts.

use super::{Rows, each, read};
use crate::template::{of_type, template};
use purchasely_clevertap::outcome::Class;
use purchasely_clevertap::telemetry::METRICS;
use serde_json::Value;
use std::collections::BTreeSet;
use testkit::simulation::delay_after;

/// Bytes of an event's log line, rounded up. A test compares it with a real line.
pub const LINE_BYTES: usize = 900;
/// Writes to the claims table for an event that is relayed. A test counts them.
pub const CLAIM_WRITES: usize = 2;

/// Estimated: two lines of Lambda about the invocation, one of API Gateway, and what CloudWatch adds to each line.
const OTHER_LOG_BYTES: usize = 1_000;
/// Assumed: how long an invocation takes, which is mostly CleverTap's answer.
const INVOCATION_SECONDS: f64 = 0.1;
const SECONDS_PER_MONTH: f64 = 30.0 * 86_400.0;
/// How often an environment in steady use reads the secret.
const SECONDS_BETWEEN_READS: f64 = 300.0;
/// Lambda's long polls of an empty queue: five at a time, of 20 seconds each.
const POLLS_PER_SECOND: f64 = 5.0 / 20.0;
/// Per event that is alone in its batch: one to send, one to receive, one to delete.
const QUEUE_REQUESTS: f64 = 3.0;
/// CleverTap's limit for each account.
const CONCURRENT_UPLOADS: f64 = 15.0;

const MILLION: f64 = 1e6;

/// One line of the bill.
struct Cost {
    what: &'static str,
    formula: String,
    usd: f64,
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Base,
    /// Absent with `Monitoring=false`.
    Monitoring,
    /// Absent without X-Ray.
    Tracing,
    /// Absent unless `DELIVERY=queue`.
    Queue,
}

pub fn fixed() -> Rows {
    let parts = [(Part::Base, "always"), (Part::Monitoring, "`Monitoring=true`")];
    rows(&fixed_costs(), &parts)
}

pub fn events() -> Rows {
    let parts = [
        (Part::Base, "always"),
        (Part::Tracing, "X-Ray, at most"),
        (Part::Queue, "`DELIVERY=queue`, at most"),
    ];
    rows(&event_costs(), &parts)
}

fn rows(costs: &[Cost], parts: &[(Part, &str)]) -> Rows {
    let name = |cost: &Cost| parts.iter().find(|(part, _)| *part == cost.part).unwrap().1;
    let row = |cost: &Cost| {
        format!("{} | {} | {} | {:.2}", cost.what, cost.formula, name(cost), cost.usd)
    };
    let sum = |(part, name): &(Part, &str)| {
        format!("**Sum** | – | {name} | **{:.2}**", sum(costs, &[*part]))
    };
    costs.iter().map(row).chain(parts.iter().map(sum)).collect()
}

/// Events a month, and what they cost in each way to run them.
pub fn examples() -> Rows {
    let row = |events: f64| {
        let total = |parts: &[Part]| {
            let usd = sum(&fixed_costs(), parts) + sum(&event_costs(), parts) * events / MILLION;
            format!("{usd:.2}")
        };
        let usual = total(&[Part::Base, Part::Monitoring]);
        let bare = total(&[Part::Base]);
        let traced = total(&[Part::Base, Part::Monitoring, Part::Tracing]);
        let queued = total(&[Part::Base, Part::Monitoring, Part::Queue]);
        format!("{} | {usual} | {bare} | {traced} | {queued}", thousands(events))
    };
    [1e3, 1e5, 1e6].map(row).to_vec()
}

pub fn limits() -> Rows {
    let reserved = match default("ReservedConcurrency") {
        0.0 => "none".to_owned(),
        number => number.to_string(),
    };
    vec![
        format!("Requests per second to the API (`ThrottlingRate`) | {}", default("ThrottlingRate")),
        format!("Requests at once (`ThrottlingBurst`) | {}", default("ThrottlingBurst")),
        format!("Concurrent invocations of the function (`ReservedConcurrency`) | {reserved}"),
        "Concurrent invocations of all functions in the account and region | 1,000, in a new account as few as 10"
            .to_owned(),
        format!("Concurrent uploads to a CleverTap account | {CONCURRENT_UPLOADS}"),
    ]
}

fn fixed_costs() -> Vec<Cost> {
    let alarms = metrics_of_alarms();
    let classes = each!(Class: Event, Queue, Credentials, Secret, Forward, Transient, Unexpected);
    let metrics = METRICS.len() + classes.len();
    let of_the_access_log = metrics_of_the_access_log();
    let reads = SECONDS_PER_MONTH / SECONDS_BETWEEN_READS;
    let polls = SECONDS_PER_MONTH * POLLS_PER_SECOND;
    let base = |what, formula, usd| Cost { what, formula, usd, part: Part::Base };
    let monitoring = |what, formula, usd| Cost { what, formula, usd, part: Part::Monitoring };
    vec![
        base("Secret", "1 secret".to_owned(), price("Secrets Manager, secrets")),
        base(
            "Reads of the secret",
            format!("{} for each environment in steady use; here 1", thousands(reads)),
            reads / 1e4 * price("Secrets Manager, reads"),
        ),
        base(
            "Lambda's polls of the event queue",
            format!("5 at a time of 20 s: {}", thousands(polls)),
            polls / MILLION * price("SQS, FIFO queues"),
        ),
        base(
            "Metrics",
            format!("{metrics}, if each has data every hour; a healthy function writes fewer"),
            count(metrics) * price("CloudWatch, metrics"),
        ),
        monitoring(
            "Alarms",
            format!("{alarms} metrics that the alarms read"),
            count(alarms) * price("CloudWatch, alarms"),
        ),
        monitoring(
            "Metrics from the access log",
            of_the_access_log.to_string(),
            count(of_the_access_log) * price("CloudWatch, metrics"),
        ),
        monitoring("Dashboard", "1".to_owned(), price("CloudWatch, dashboards")),
    ]
}

/// How Purchasely's retries come back after an outage, if events are spread evenly: each retry brings back at the usual
/// rate the users who wait for it, for as long as its wait is.
pub fn after_an_outage() -> Rows {
    let row = |(outage, hours): (&str, f64)| {
        let outage_seconds = hours * 3600.0;
        let wait = |failures| delay_after(failures).as_secs_f64();
        let mut retries = vec![0.0];
        while *retries.last().unwrap() < outage_seconds {
            retries.push(retries.last().unwrap() + wait(retries.len() as u64));
        }
        let failures = retries.len() as u64 - 1;
        let times_usual = |minute: f64| {
            let waits = retries.windows(2).map(|retry| {
                let first = (retry[1] - outage_seconds).max(60.0 * (minute - 1.0));
                let last = (retry[1] - retry[0]).min(60.0 * minute);
                (last - first).max(0.0) / 60.0
            });
            1.0 + waits.sum::<f64>()
        };
        format!(
            "{outage} | {:.0} | {:.0} | {:.0} min",
            times_usual(1.0),
            times_usual(10.0),
            wait(failures + 1) / 60.0
        )
    };
    [("10 minutes", 1.0 / 6.0), ("1 hour", 1.0), ("6 hours", 6.0), ("1 day", 24.0)]
        .map(row)
        .into()
}

/// For a million events, each delivered once.
fn event_costs() -> Vec<Cost> {
    let memory = default("MemorySize");
    let compute =
        memory / 1024.0 * INVOCATION_SECONDS * MILLION * price("Lambda, duration on arm64");
    let duration = format!("{memory} MiB for {INVOCATION_SECONDS} s");
    let log = LINE_BYTES + OTHER_LOG_BYTES;
    let cost =
        |part, what, formula: &str, usd| Cost { what, formula: formula.to_owned(), usd, part };
    let writes = format!("{CLAIM_WRITES} writes");
    let log_formula = format!(
        "{} bytes: the event's line, two of Lambda, one of API Gateway",
        thousands(count(log))
    );
    vec![
        cost(Part::Base, "API Gateway", "1 request", price("API Gateway, HTTP API")),
        cost(Part::Base, "Lambda, request", "1 request", price("Lambda, requests")),
        cost(Part::Base, "Lambda, duration", &duration, compute),
        cost(
            Part::Base,
            "Claims table",
            &writes,
            count(CLAIM_WRITES) * price("DynamoDB, on-demand writes"),
        ),
        cost(
            Part::Base,
            "Logs",
            &log_formula,
            count(log) * MILLION / 1e9 * price("CloudWatch, logs ingested"),
        ),
        cost(Part::Tracing, "X-Ray", "1 trace", price("X-Ray, traces")),
        cost(
            Part::Queue,
            "Event queue",
            "3 requests (send, receive, delete), if each event is alone in its batch; 1.2 in full batches",
            QUEUE_REQUESTS * price("SQS, FIFO queues"),
        ),
        cost(
            Part::Queue,
            "Lambda, second request",
            "1 request for a batch",
            price("Lambda, requests"),
        ),
        cost(Part::Queue, "Lambda, second duration", &duration, compute),
    ]
}

/// An alarm is billed by the metrics that it reads. The default settings create all of them.
fn metrics_of_alarms() -> usize {
    let metrics = |(_, alarm): (String, Value)| match alarm["Metrics"].as_array() {
        None => 1,
        // One of them depends on a condition.
        Some(queries) => {
            queries.iter().filter(|query| query.to_string().contains("MetricStat")).count()
        }
    };
    of_type("AWS::CloudWatch::Alarm").into_iter().map(metrics).sum()
}

/// The others are the function's as well.
fn metrics_of_the_access_log() -> usize {
    let filters = of_type("AWS::Logs::MetricFilter").into_iter();
    let name = |filter: &Value| filter["MetricTransformations"][0]["MetricName"].to_string();
    let names: BTreeSet<_> = filters.map(|(_, filter)| name(&filter)).collect();
    names
        .iter()
        .filter(|name| METRICS.iter().all(|(own, _)| **name != format!("{own:?}")))
        .count()
}

/// The list price that the page has under this name.
#[track_caller]
fn price(of: &str) -> f64 {
    let page = read("docs/costs.md");
    let row = page.lines().find_map(|line| line.strip_prefix(&format!("| {of} | ")));
    let usd = row.and_then(|cells| cells.split(" | ").next()?.parse().ok());
    usd.unwrap_or_else(|| panic!("docs/costs.md has no price of {of}"))
}

fn sum(costs: &[Cost], parts: &[Part]) -> f64 {
    costs
        .iter()
        .filter(|cost| parts.contains(&cost.part))
        .map(|cost| cost.usd)
        .sum()
}

/// The default of a number among the template's parameters.
fn default(parameter: &str) -> f64 {
    template()["Parameters"][parameter]["Default"].as_f64().expect(parameter)
}

fn count(number: usize) -> f64 {
    f64::from(u32::try_from(number).unwrap())
}

/// A whole number with commas.
fn thousands(number: f64) -> String {
    let digits = format!("{number:.0}");
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}
