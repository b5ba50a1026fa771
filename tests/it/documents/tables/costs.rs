//! What a deployment costs and carries: AWS's list prices times the project's own numbers. It does not know AWS's bill,
//! free tiers or discounts.

use super::{Rows, each};
use crate::template::{resources, template};
use purchasely_clevertap::outcome::Class;
use purchasely_clevertap::telemetry::METRICS;
use serde_json::Value;
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

/// The list prices of us-east-1, each in USD, per what, when AWS's own page was read with this price in it, or how it is
/// known otherwise, and the page.
#[rustfmt::skip]
const PRICES: [(&str, f64, &str, &str, &str); 12] = [
    ("API Gateway, HTTP API", 1.0, "million requests", "2026-09-20", "api-gateway"),
    ("Lambda, requests", 0.2, "million requests", "2026-09-20", "lambda"),
    ("Lambda, duration on arm64", 0.000_013_333_4, "GB-second", "check", "lambda"),
    ("DynamoDB, on-demand writes", 0.625, "million writes of up to 1 KB", "check", "dynamodb"),
    ("CloudWatch, logs ingested", 0.5, "GB", "check", "cloudwatch"),
    ("CloudWatch, metrics", 0.3, "metric and month", "check", "cloudwatch"),
    ("CloudWatch, alarms", 0.1, "metric that an alarm reads, and month", "check", "cloudwatch"),
    ("CloudWatch, dashboards", 3.0, "dashboard and month", "check", "cloudwatch"),
    ("Secrets Manager, secrets", 0.4, "secret and month", "2026-09-20", "secrets-manager"),
    ("Secrets Manager, reads", 0.05, "10,000 reads", "2026-09-20", "secrets-manager"),
    ("SQS, FIFO queues", 0.5, "million requests of up to 64 KB", "check", "sqs"),
    ("X-Ray, traces", 5.0, "million traces recorded", "undated", "xray"),
];

/// When there is a cost.
const ALWAYS: &str = "always";
const MONITORING: &str = "`Monitoring=true`";
const TRACING: &str = "X-Ray, at most";
const QUEUE: &str = "`DELIVERY=queue`, at most";

/// One line of the bill: when, for what, the quantity, and USD.
type Cost = (&'static str, &'static str, String, f64);

fn usd(of: &str) -> f64 {
    PRICES.iter().find(|price| price.0 == of).expect(of).1
}

pub fn prices() -> Rows {
    let row = |(of, usd, per, read, page): &(_, _, _, _, _)| {
        format!("{of} | {usd} | {per} | {read} | [page](https://aws.amazon.com/{page}/pricing/)")
    };
    PRICES.iter().map(row).collect()
}

pub fn fixed() -> Rows {
    rows(&fixed_costs(), &[ALWAYS, MONITORING])
}

pub fn events() -> Rows {
    rows(&event_costs(), &[ALWAYS, TRACING, QUEUE])
}

fn rows(costs: &[Cost], parts: &[&str]) -> Rows {
    let row = |(part, what, formula, usd): &Cost| format!("{what} | {formula} | {part} | {usd:.2}");
    let sum = |part: &&str| format!("**Sum** | – | {part} | **{:.2}**", sum(costs, &[*part]));
    costs.iter().map(row).chain(parts.iter().map(sum)).collect()
}

/// Events a month, and what they cost in each way to run them.
pub fn examples() -> Rows {
    let row = |events: f64| {
        let total = |parts: &[&str]| {
            let usd = sum(&fixed_costs(), parts) + sum(&event_costs(), parts) * events / MILLION;
            format!("{usd:.2}")
        };
        let ways = [
            &[ALWAYS, MONITORING][..],
            &[ALWAYS],
            &[ALWAYS, MONITORING, TRACING],
            &[ALWAYS, MONITORING, QUEUE],
        ];
        format!("{} | {}", thousands(events), ways.map(total).join(" | "))
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

#[rustfmt::skip]
fn fixed_costs() -> Vec<Cost> {
    let alarms = metrics_of_alarms();
    let classes = each!(Class: Event, Queue, Credentials, Secret, Transient, Unexpected);
    let metrics = METRICS.len() + classes.len();
    let reads = SECONDS_PER_MONTH / SECONDS_BETWEEN_READS;
    let polls = SECONDS_PER_MONTH * POLLS_PER_SECOND;
    let read = format!("{} for each environment in steady use; here 1", thousands(reads));
    let poll = format!("5 at a time of 20 s: {}", thousands(polls));
    let metric = format!("{metrics}, if each has data every hour; a healthy function writes fewer");
    let alarm = format!("{alarms} metrics that the alarms read");
    vec![
        (ALWAYS, "Secret", "1 secret".to_owned(), usd("Secrets Manager, secrets")),
        (ALWAYS, "Reads of the secret", read, reads / 1e4 * usd("Secrets Manager, reads")),
        (ALWAYS, "Lambda's polls of the event queue", poll, polls / MILLION * usd("SQS, FIFO queues")),
        (ALWAYS, "Metrics", metric, count(metrics) * usd("CloudWatch, metrics")),
        (MONITORING, "Alarms", alarm, count(alarms) * usd("CloudWatch, alarms")),
        (MONITORING, "Dashboard", "1".to_owned(), usd("CloudWatch, dashboards")),
    ]
}

/// For a million events, each delivered once.
#[rustfmt::skip]
fn event_costs() -> Vec<Cost> {
    let memory = default("MemorySize");
    let compute = memory / 1024.0 * INVOCATION_SECONDS * MILLION * usd("Lambda, duration on arm64");
    let duration = format!("{memory} MiB for {INVOCATION_SECONDS} s");
    let bytes = count(LINE_BYTES + OTHER_LOG_BYTES);
    let log = format!("{} bytes: the event's line, two of Lambda, one of API Gateway", thousands(bytes));
    let queue = "3 requests (send, receive, delete), if each event is alone in its batch; 1.2 in full batches".to_owned();
    let one_request = || "1 request".to_owned();
    vec![
        (ALWAYS, "API Gateway", one_request(), usd("API Gateway, HTTP API")),
        (ALWAYS, "Lambda, request", one_request(), usd("Lambda, requests")),
        (ALWAYS, "Lambda, duration", duration.clone(), compute),
        (ALWAYS, "Claims table", format!("{CLAIM_WRITES} writes"), count(CLAIM_WRITES) * usd("DynamoDB, on-demand writes")),
        (ALWAYS, "Logs", log, bytes * MILLION / 1e9 * usd("CloudWatch, logs ingested")),
        (TRACING, "X-Ray", "1 trace".to_owned(), usd("X-Ray, traces")),
        (QUEUE, "Event queue", queue, QUEUE_REQUESTS * usd("SQS, FIFO queues")),
        (QUEUE, "Lambda, second request", one_request() + " for a batch", usd("Lambda, requests")),
        (QUEUE, "Lambda, second duration", duration, compute),
    ]
}

/// An alarm is billed by the metrics that it reads. The default settings create all alarms but the one for a stack
/// without queues.
fn metrics_of_alarms() -> usize {
    let alarms = resources().into_iter().map(|(_, resource)| resource);
    let alarms = alarms.filter(|resource| {
        resource["Type"] == "AWS::CloudWatch::Alarm"
            && resource["Condition"] != "CreateEventHeldAlarm"
    });
    let metrics = |alarm: Value| match alarm["Properties"]["Metrics"].as_array() {
        None => 1,
        Some(queries) => queries.iter().filter(|query| query.get("MetricStat").is_some()).count(),
    };
    alarms.map(metrics).sum()
}

fn sum(costs: &[Cost], parts: &[&str]) -> f64 {
    costs.iter().filter(|cost| parts.contains(&cost.0)).map(|cost| cost.3).sum()
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
