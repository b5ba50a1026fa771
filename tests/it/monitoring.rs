//! What an operator sees: the metrics in the function's log lines, and the alarms, dashboard and saved queries of
//! `template.yaml` compared with them. It does not know CloudWatch: the tests read metrics out of the lines by the
//! rules of its embedded metric format.

use crate::template;
use purchasely_clevertap::telemetry::{CLASS, FUNCTION, METRICS, NAMESPACE};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use testkit::harness::{PASSCODE, SHARED_SECRET, World, body, now_seconds, secret_value, signed};
use testkit::messages::message;
use testkit::sockets::resources::Resources;
use testkit::webhook::Front;
use testkit::world::clevertap::Reply;
use testkit::world::secrets_manager::SecretsManager;

/// The first of [`METRICS`] count outcomes: every event counts in exactly one of them.
const OUTCOMES: usize = 10;

/// One value of one metric with its dimensions.
#[derive(Debug)]
struct Datapoint {
    metric: String,
    dimensions: BTreeMap<String, String>,
    value: u64,
}

fn log(world: &World) -> Vec<Value> {
    let parse = |line: String| serde_json::from_str(&line).expect("a line is JSON");
    world.function.log().into_iter().map(parse).collect()
}

/// The metrics that CloudWatch reads out of the log.
fn datapoints(world: &World) -> Vec<Datapoint> {
    let lines = log(world);
    let with_metrics = lines.iter().filter(|line| !line["_aws"].is_null());
    with_metrics.flat_map(datapoints_of).collect()
}

fn datapoints_of(line: &Value) -> Vec<Datapoint> {
    let mut found = Vec::new();
    for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
        assert_eq!(directive["Namespace"], NAMESPACE);
        for set in directive["Dimensions"].as_array().unwrap() {
            let dimension = |name: &Value| {
                let name = name.as_str().unwrap();
                let value = line[name].as_str().expect("a dimension is a text in its line");
                (name.to_owned(), value.to_owned())
            };
            let dimensions: BTreeMap<_, _> =
                set.as_array().unwrap().iter().map(dimension).collect();
            for metric in directive["Metrics"].as_array().unwrap() {
                let metric = metric["Name"].as_str().unwrap();
                found.push(Datapoint {
                    metric: metric.to_owned(),
                    dimensions: dimensions.clone(),
                    value: line[metric].as_u64().expect("a metric is a whole number in its line"),
                });
            }
        }
    }
    found
}

/// Checks what [`datapoints_of`] does not need: CloudWatch drops a line without a word if one of these rules is broken
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
fn check_format(line: &Value) {
    assert!(line["_aws"]["Timestamp"].is_u64(), "{line}");
    for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
        let sets = directive["Dimensions"].as_array().unwrap();
        assert!(
            !sets.is_empty() && sets.iter().all(|set| set.as_array().unwrap().len() <= 30),
            "{line}"
        );
        let metrics = directive["Metrics"].as_array().unwrap();
        assert!((1..=100).contains(&metrics.len()), "{line}");
        for metric in metrics {
            let unit = metric["Unit"].as_str().unwrap();
            assert!(["Count", "Milliseconds", "Seconds"].contains(&unit), "{metric}");
        }
    }
}

/// The sum of a metric over the whole function, without the second count by class.
fn sum(datapoints: &[Datapoint], metric: &str) -> u64 {
    datapoints
        .iter()
        .filter(|point| point.metric == metric && point.dimensions.len() == 1)
        .map(|point| point.value)
        .sum()
}

fn event(name: &str, id: &str) -> Value {
    json!({
        "event_name": name,
        "event_id": id,
        "event_created_at_ms": (now_seconds() - 90) * 1000,
        "user_id": "u-1842",
        "plan": "yearly",
    })
}

async fn post(world: &World, event: Value) {
    world.post(event.to_string().as_bytes()).await;
}

/// Posts a webhook whose signature was made with another secret.
async fn forge(world: &World) {
    let forged = signed(&body(), "another secret").envelope(Front::HttpApi);
    world.invoke(&forged).await;
}

#[tokio::test]
async fn each_event_counts_one_outcome_in_a_line_of_the_embedded_metric_format() {
    let resources = Resources::make().await;
    let world = World::start(&resources.settings()).await;
    let renewed = |id| event("SUBSCRIPTION_RENEWED", id);
    let anonymous =
        json!({ "event_name": "TRIAL_STARTED", "event_id": "e-3", "anonymous_user_id": "a" });
    post(&world, renewed("e-1")).await;
    post(&world, renewed("e-1")).await;
    post(&world, event("BRAND_NEW_EVENT", "e-2")).await;
    post(&world, anonymous).await;
    post(&world, json!({ "no": "event" })).await;
    world.clevertap.script([Reply::Status(408)]);
    post(&world, renewed("e-4")).await;
    let mut odd = renewed("null");
    odd["environment"] = "Xcode".into();
    post(&world, odd).await;
    forge(&world).await;
    let mut get = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    get["requestContext"]["http"]["method"] = "GET".into();
    world.invoke(&get).await;
    world.post(&vec![b' '; 300 * 1024]).await;
    let batch = ["e-5", "e-6", "e-6"].map(|id| message(&renewed(id), &[]));
    let batch = json!({ "Records": batch });
    world.api.invoke(batch).await.expect("an answer");

    let lines = log(&world);
    lines.iter().filter(|line| !line["_aws"].is_null()).for_each(check_format);
    let datapoints = datapoints(&world);
    let counted = |metric| sum(&datapoints, metric);
    let outcomes = METRICS[..OUTCOMES].iter().map(|(name, _)| counted(name));
    assert_eq!(outcomes.sum::<u64>(), 10 + 3);
    let expected = [
        ("Relayed", 5),
        ("Duplicate", 2),
        ("Ignored", 1),
        ("DeadLettered", 2),
        ("Failed", 1),
        ("Waiting", 0),
        ("Unauthorized", 1),
        ("Rejected", 1),
        ("DryRun", 0),
        ("Queued", 0),
        ("AnonymousIgnored", 1),
        ("UnknownEvent", 1),
        ("RevenueMissing", 0),
        ("PlaceholderId", 1),
        ("UnknownEnvironment", 1),
        ("ColdStart", 1),
        ("BatchSize", 3),
        ("ProfileRefused", 0),
        ("ClaimsUnavailable", 0),
    ];
    assert_eq!(expected.map(|(metric, _)| (metric, counted(metric))), expected);

    let known: BTreeSet<_> = METRICS.iter().map(|(name, _)| *name).collect();
    for point in &datapoints {
        assert!(known.contains(point.metric.as_str()), "{point:?}");
        let age_is_right = point.metric != "EventAge" || (90..150).contains(&point.value);
        assert!(age_is_right, "{point:?}");
    }
    let by_class: Vec<_> = datapoints
        .iter()
        .filter_map(|point| Some((point.metric.as_str(), point.dimensions.get(CLASS)?.as_str())))
        .collect();
    assert_eq!(by_class, [("Failed", "transient")]);
}

#[tokio::test]
async fn a_replayed_event_has_no_age() {
    let world = World::start(&[]).await;
    let text = event("SUBSCRIPTION_RENEWED", "e-1").to_string();
    let mut replayed = signed(text.as_bytes(), SHARED_SECRET).envelope(Front::HttpApi);
    replayed["headers"]["x-replayed"] = "1".into();
    world.invoke(&replayed).await;
    let line = world.line(|line| line["outcome"] == "relayed").await;
    assert_eq!(line["Relayed"], 1);
    assert!(line["EventAge"].is_null());
}

#[tokio::test]
async fn a_refused_profile_is_counted() {
    let world = World::start(&[]).await;
    let mut renewed = event("SUBSCRIPTION_RENEWED", "e-1");
    renewed["subscription_status"] = "AUTO_RENEWING".into();
    renewed["purchase_type"] = "RENEWING_SUBSCRIPTION".into();
    world.clevertap.script([Reply::RefuseRecord { number: 1, code: 514 }]);
    post(&world, renewed).await;
    let line = world.line(|line| line["outcome"] == "relayed").await;
    assert_eq!(line["ProfileRefused"], 1);
    assert_eq!(line["profile_refused"], 514);
}

#[tokio::test]
async fn every_line_of_an_invocation_carries_its_ids_a_time_and_a_level() {
    let world = World::start(&[("AWS_LAMBDA_LOG_LEVEL", "DEBUG")]).await;
    world.post(&body()).await;
    let outcome = world.line(|line| line["outcome"] == "relayed").await;
    let attempt = world
        .line(|line| !line["request_id"].is_null() && line["outcome"].is_null())
        .await;
    for name in ["request_id", "trace_id"] {
        assert!(outcome[name].is_string(), "{name}");
        assert_eq!(outcome[name], attempt[name], "{name}");
    }
    for line in log(&world) {
        // Lambda filters by these two; a line without them counts as INFO.
        let timestamp = line["timestamp"].as_str().expect("a timestamp");
        let rfc3339 = &time::format_description::well_known::Rfc3339;
        assert!(time::OffsetDateTime::parse(timestamp, rfc3339).is_ok(), "{line}");
        let level = line["level"].as_str().expect("a level");
        assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line}");
    }
}

struct Alarm {
    name: String,
    properties: Value,
}

/// The template's alarms on the function's own metrics, not those of API Gateway.
fn alarms() -> Vec<Alarm> {
    let is_own = |alarm: &Value| {
        let text = alarm.to_string();
        text.contains(&format!("\"{NAMESPACE}\"")) && text.contains(&format!("\"{FUNCTION}\""))
    };
    template::of_type("AWS::CloudWatch::Alarm")
        .into_iter()
        .filter(|(_, alarm)| is_own(alarm))
        .map(|(name, properties)| Alarm { name, properties })
        .collect()
}

impl Alarm {
    /// Whether one period with these datapoints counts towards the alarm.
    fn is_breached_by(&self, datapoints: &[Datapoint]) -> bool {
        let alarm = &self.properties;
        let value = match alarm["Metrics"].as_array() {
            None => statistic(alarm, &alarm["Statistic"], datapoints),
            Some(metrics) => result(metrics, datapoints),
        };
        let Some(value) = value else {
            return alarm["TreatMissingData"] == "breaching";
        };
        let threshold = alarm["Threshold"].as_u64().expect("a threshold");
        match alarm["ComparisonOperator"].as_str() {
            Some("GreaterThanOrEqualToThreshold") => value >= threshold,
            Some("LessThanThreshold") => value < threshold,
            other => panic!("{other:?} is not expected"),
        }
    }
}

/// The statistic of a metric's datapoints; `None` if it has none.
fn statistic(metric: &Value, statistic: &Value, datapoints: &[Datapoint]) -> Option<u64> {
    let dimensions = metric["Dimensions"].as_array().expect("dimensions");
    let has = |point: &Datapoint, dimension: &Value| {
        let name = dimension["Name"].as_str().expect("a text");
        match dimension["Value"].as_str() {
            Some(value) => point.dimensions.get(name).is_some_and(|own| own == value),
            None => name == FUNCTION && dimension["Value"] == json!({ "Ref": "Function" }),
        }
    };
    let values: Vec<_> = datapoints
        .iter()
        .filter(|point| {
            metric["MetricName"] == point.metric
                && point.dimensions.len() == dimensions.len()
                && dimensions.iter().all(|dimension| has(point, dimension))
        })
        .map(|point| point.value)
        .collect();
    let value = match statistic.as_str() {
        Some("Sum") => values.iter().sum(),
        Some("SampleCount") => values.len() as u64,
        other => panic!("{other:?} is not expected"),
    };
    (!values.is_empty()).then_some(value)
}

/// The value of the one expression among an alarm's metrics.
fn result(metrics: &[Value], datapoints: &[Datapoint]) -> Option<u64> {
    let metric = |id: &str| {
        let metric = metrics.iter().find(|metric| metric["Id"] == id);
        let metric = &metric.unwrap_or_else(|| panic!("no metric has the id {id}"))["MetricStat"];
        assert_eq!(metric["Metric"]["Namespace"], NAMESPACE, "{id}");
        statistic(&metric["Metric"], &metric["Stat"], datapoints)
    };
    let mut expression = metrics.iter().filter_map(|metric| metric["Expression"].as_str());
    MetricMath::new(expression.next().expect("an expression"), &metric).evaluate()
}

/// An expression of CloudWatch's metric math, as far as the template uses it, in whole numbers.
struct MetricMath<'m> {
    tokens: Vec<String>,
    metric: &'m dyn Fn(&str) -> Option<u64>,
}

impl<'m> MetricMath<'m> {
    fn new(expression: &str, metric: &'m dyn Fn(&str) -> Option<u64>) -> Self {
        let apart = |c: char| {
            if "(),+*/".contains(c) {
                format!(" {c} ")
            } else {
                c.to_string()
            }
        };
        let apart: String = expression.chars().map(apart).collect();
        // The last is the next.
        let tokens = apart.split_whitespace().rev().map(str::to_owned).collect();
        Self { tokens, metric }
    }

    fn evaluate(mut self) -> Option<u64> {
        let value = self.comparison();
        assert!(self.tokens.is_empty(), "{:?} is left", self.tokens);
        value
    }

    fn comparison(&mut self) -> Option<u64> {
        self.operation(&[">=", "<"], Self::sum)
    }

    fn sum(&mut self) -> Option<u64> {
        self.operation(&["+"], |math| math.operation(&["*", "/"], Self::operand))
    }

    fn operation(
        &mut self,
        operators: &[&str],
        operand: fn(&mut Self) -> Option<u64>,
    ) -> Option<u64> {
        let mut left = operand(self);
        while self.tokens.last().is_some_and(|token| operators.contains(&token.as_str())) {
            let operator = self.tokens.pop().unwrap();
            let right = operand(self);
            left = left.zip(right).and_then(|(left, right)| match operator.as_str() {
                ">=" => Some((left >= right).into()),
                "<" => Some((left < right).into()),
                "+" => Some(left + right),
                "*" => Some(left * right),
                _ => left.checked_div(right),
            });
        }
        left
    }

    fn operand(&mut self) -> Option<u64> {
        let token = self.tokens.pop().expect("an operand");
        match token.as_str() {
            "(" => self.arguments().remove(0),
            "FILL" => {
                self.tokens.pop();
                let arguments = self.arguments();
                arguments[0].or(arguments[1])
            }
            "IF" => {
                self.tokens.pop();
                let arguments = self.arguments();
                if arguments[0]? > 0 { arguments[1] } else { arguments[2] }
            }
            id => id.parse().ok().or_else(|| (self.metric)(id)),
        }
    }

    /// The values up to the closing bracket.
    fn arguments(&mut self) -> Vec<Option<u64>> {
        let mut arguments = vec![self.comparison()];
        while self.tokens.pop().expect("a closing bracket") == "," {
            arguments.push(self.comparison());
        }
        arguments
    }
}

#[test]
fn metric_math_is_evaluated_as_cloudwatch_does() {
    let metric = |id: &str| (id == "seven").then_some(7);
    for (expression, value) in [
        ("1 + 2 * seven", Some(15)),
        ("100 * seven / (seven + FILL(none, 3))", Some(70)),
        ("IF(seven >= 7, 1, 2)", Some(1)),
        ("IF(FILL(none, 0) < 1, seven, 0)", Some(7)),
        ("IF(none >= 1, 1, 2)", None),
        ("seven / 0", None),
    ] {
        assert_eq!(MetricMath::new(expression, &metric).evaluate(), value, "{expression}");
    }
}

/// A function in the situation that the alarm is for.
async fn provoke(alarm: &str, resources: &Resources) -> World {
    let secret = |passcode, shared| SecretsManager::new("relay", &secret_value(passcode, shared));
    let endpoint = resources.url.as_str();
    let mut without_user = event("ACTIVATE", "e-1");
    without_user["user_id"].take();
    let world = match alarm {
        "CredentialsAlarm" => World::start_with(secret("revoked", SHARED_SECRET), &[]).await,
        "SecretAlarm" => World::start_with(secret("", ""), &[]).await,
        "ClaimsAlarm" => {
            let table = ("DEDUPLICATION_TABLE", "a-table-that-does-not-exist");
            World::start(&[table, ("AWS_ENDPOINT_URL_DYNAMODB", endpoint)]).await
        }
        "NewDeadLetterAlarm" => World::start(&resources.settings()).await,
        "QueueFailedAlarm" => {
            let url = format!("{endpoint}/123456789012/does-not-exist.fifo");
            let queue = ("DEAD_LETTER_QUEUE_URL", url.as_str());
            World::start(&[queue, ("AWS_ENDPOINT_URL_SQS", endpoint)]).await
        }
        "RevenueMissingAlarm" => World::start(&[("REVENUE_EVENT", "Charged")]).await,
        _ => World::start(&[]).await,
    };
    match alarm {
        "CredentialsAlarm" | "SecretAlarm" | "ClaimsAlarm" => {
            world.post(&body()).await;
        }
        "EventHeldAlarm" | "NewDeadLetterAlarm" | "QueueFailedAlarm" => {
            post(&world, without_user).await;
        }
        "RevenueMissingAlarm" => post(&world, event("TRANSACTION_PROCESSED", "e-1")).await,
        "FailingAlarm" => {
            world.post(&body()).await;
            fail(&world, 5).await;
        }
        "NothingRelayedAlarm" => fail(&world, 3).await,
        "UnexpectedAlarm" => {
            world.clevertap.script([Reply::Status(302)]);
            world.post(&body()).await;
        }
        "SignatureAlarm" => {
            world.post(&body()).await;
            for _ in 0..10 {
                forge(&world).await;
            }
        }
        "UnknownEnvironmentAlarm" => {
            let mut odd = event("ACTIVATE", "e-1");
            odd["environment"] = "Xcode".into();
            post(&world, odd).await;
        }
        "UnknownEventAlarm" => post(&world, event("BRAND_NEW_EVENT", "e-1")).await,
        // Requests that are no webhooks do not count as events.
        "SilenceAlarm" => {
            let mut get = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
            get["requestContext"]["http"]["method"] = "GET".into();
            world.invoke(&get).await;
        }
        other => panic!("no situation is written down for {other}: add one here"),
    }
    world
}

/// Posts events while CleverTap answers each with a transient failure.
async fn fail(world: &World, times: usize) {
    world.clevertap.script((0..times).map(|_| Reply::Status(408)));
    for _ in 0..times {
        world.post(&body()).await;
    }
}

#[tokio::test]
async fn every_alarm_on_the_functions_metrics_is_raised_by_its_own_situation_only() {
    // With what is normal on the internet: a foreign request, and failures that are few beside the rest.
    let healthy = World::start(&[]).await;
    for number in 0..16 {
        post(&healthy, event("TRIAL_STARTED", &format!("e-{number}"))).await;
    }
    fail(&healthy, 5).await;
    forge(&healthy).await;
    let healthy = datapoints(&healthy);
    let sums = ["Relayed", "Failed", "Unauthorized"].map(|metric| sum(&healthy, metric));
    assert_eq!(sums, [16, 5, 1]);

    let alarms = alarms();
    assert!(!alarms.is_empty());
    let resources = Resources::make().await;
    for provoked in &alarms {
        assert!(!provoked.is_breached_by(&healthy), "{}", provoked.name);
        let datapoints = datapoints(&provoke(&provoked.name, &resources).await);
        // In these no valid event arrives, so the silence is real as well.
        let silent = ["SecretAlarm"];
        for alarm in &alarms {
            let expected = alarm.name == provoked.name
                || alarm.name == "SilenceAlarm" && silent.contains(&provoked.name.as_str());
            assert_eq!(
                alarm.is_breached_by(&datapoints),
                expected,
                "{} in the situation of {}: {datapoints:?}",
                alarm.name,
                provoked.name
            );
        }
    }
}

#[tokio::test]
async fn nothing_relayed_or_silence_is_raised_whatever_the_cause() {
    let alarms = alarms();
    let raised = |datapoints: &[Datapoint]| -> BTreeSet<_> {
        let breached = alarms.iter().filter(|alarm| alarm.is_breached_by(datapoints));
        breached.map(|alarm| alarm.name.as_str()).collect()
    };
    assert_eq!(raised(&[]), ["SilenceAlarm"].into(), "Purchasely sends nothing");

    let secret = |passcode, shared| SecretsManager::new("relay", &secret_value(passcode, shared));
    let down = World::start(&[]).await;
    down.clevertap.script((0..3).map(|_| Reply::Status(500)));
    let situations = [
        ("CleverTap is down", down),
        (
            "the passcode is revoked",
            World::start_with(secret("revoked", SHARED_SECRET), &[]).await,
        ),
        (
            "the shared secret is wrong",
            World::start_with(secret(PASSCODE, "another"), &[]).await,
        ),
        ("the secret is empty", World::start_with(secret("", ""), &[]).await),
    ];
    for (situation, world) in situations {
        for _ in 0..3 {
            world.post(&body()).await;
        }
        let raised = raised(&datapoints(&world));
        assert!(raised.contains("NothingRelayedAlarm"), "{situation}: {raised:?}");
    }
}

#[tokio::test]
async fn an_unknown_event_counts_once_a_day_and_never_if_it_is_disabled() {
    let world = World::start(&[("EVENTS_DISABLED", "OLD_NEWS")]).await;
    for (name, id) in [("BRAND_NEW", "e-1"), ("BRAND_NEW", "e-2"), ("OLD_NEWS", "e-3")] {
        post(&world, event(name, id)).await;
    }
    assert_eq!(sum(&datapoints(&world), "UnknownEvent"), 1);
    let line = world.line(|line| line["UnknownEvent"] == 1).await;
    assert_eq!(line["event_id"], "e-1");
}

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard = template::resources()["Dashboard"]["Properties"]["DashboardBody"].to_string();
    let before = format!(r#"[\"{NAMESPACE}\", \""#);
    let shown: BTreeSet<_> = dashboard
        .split(&before)
        .skip(1)
        .map(|rest| rest.split('\\').next().unwrap())
        .collect();
    let filters = template::of_type("AWS::Logs::MetricFilter");
    let counted = filters.iter().map(|(_, filter)| &filter["MetricTransformations"][0]);
    let counted = counted.map(|metric| metric["MetricName"].as_str().expect("a text"));
    assert_eq!(shown, METRICS.iter().map(|(name, _)| *name).chain(counted).collect());
}

#[tokio::test]
async fn the_saved_queries_name_fields_that_lines_have() {
    let settings = [("AWS_LAMBDA_LOG_LEVEL", "DEBUG"), ("REVENUE_EVENT", "Charged")];
    let world = World::start(&settings).await;
    post(&world, event("BRAND_NEW_EVENT", "e-1")).await;
    post(&world, event("TRANSACTION_PROCESSED", "e-3")).await;
    post(&world, json!({ "event_name": "ACTIVATE", "event_id": "e-2" })).await;
    world.line(|line| line["event_id"] == "e-2").await;
    let lines: Vec<Map<String, Value>> = log(&world)
        .into_iter()
        .map(|line| serde_json::from_value(line).unwrap())
        .collect();
    let fields: BTreeSet<_> = lines.iter().flat_map(Map::keys).map(String::as_str).collect();
    let format = template::resources()["Api"]["Properties"]["AccessLogSettings"]["Format"].take();
    let request: Map<String, Value> = serde_json::from_str(format.as_str().unwrap()).unwrap();
    let words = "@timestamp fields filter sort limit stats by as in asc desc or count count_distinct min max latest";
    let words: BTreeSet<_> = words.split(' ').collect();
    for (name, resource) in template::resources() {
        let Some(query) = resource["Properties"]["QueryString"].as_str() else {
            continue;
        };
        let is_on_requests =
            resource["Properties"]["LogGroupNames"] == json!([{ "Ref": "ApiLogGroup" }]);
        let unquoted = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let tokens: Vec<_> = unquoted
            .split(|c: char| !(c.is_alphanumeric() || "_@".contains(c)))
            .filter(|token| !token.is_empty() && token.parse::<u32>().is_err())
            .collect();
        let aliases: Vec<_> =
            tokens.windows(2).filter(|pair| pair[0] == "as").map(|pair| pair[1]).collect();
        for token in &tokens {
            let is_field = if is_on_requests {
                request.contains_key(*token)
            } else {
                fields.contains(token)
            };
            let known = is_field || words.contains(token) || aliases.contains(token);
            assert!(known, "{name}: no line has the field `{token}`");
        }
    }
}
