//! What an operator sees: the metrics in the function's log lines, and the alarms, dashboard and saved queries of
//! `template.yaml` compared with them. It does not know CloudWatch: the tests read metrics out of the lines by the
//! rules of its embedded metric format.

use crate::{sqs, template};
use purchasely_clevertap::telemetry::{CLASS, FUNCTION, METRICS, NAMESPACE};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use testkit::clevertap::Reply;
use testkit::harness::{SHARED_SECRET, World, body, now_seconds, secret_value, signed};
use testkit::moto::{self, Resources};
use testkit::secrets_manager::SecretsManager;
use testkit::webhook::Front;

/// The first of [`METRICS`] count outcomes: every event counts in exactly one of them.
const OUTCOMES: usize = 8;

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
async fn each_event_counts_one_outcome_and_each_line_is_valid_embedded_metric_format() {
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
    forge(&world).await;
    let mut get = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    get["requestContext"]["http"]["method"] = "GET".into();
    world.invoke(&get).await;
    world.post(&vec![b' '; 300 * 1024]).await;
    let batch = ["e-5", "e-6", "e-6"].map(|id| sqs::message(&renewed(id), &[]));
    let batch = json!({ "Records": batch });
    world.api.invoke(batch).await.expect("an answer");

    let schema = serde_json::from_str(include_str!("emf.schema.json")).unwrap();
    let schema = jsonschema::draft7::new(&schema).expect("a schema");
    for line in log(&world).iter().filter(|line| !line["_aws"].is_null()) {
        if let Err(error) = schema.validate(line) {
            panic!("{error}: {line}");
        }
    }
    let datapoints = datapoints(&world);
    let counted = |metric| sum(&datapoints, metric);
    let outcomes = METRICS[..OUTCOMES].iter().map(|(name, _)| counted(name));
    assert_eq!(outcomes.sum::<u64>(), 9 + 3);
    let expected = [
        ("Relayed", 5),
        ("Duplicate", 1),
        ("Ignored", 1),
        ("DeadLettered", 1),
        ("Failed", 1),
        ("Unauthorized", 1),
        ("Rejected", 2),
        ("DryRun", 0),
        ("AnonymousIgnored", 1),
        ("UnknownEvent", 1),
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
    let attempt =
        world.line(|line| !line["request_id"].is_null() && line["outcome"].is_null()).await;
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

/// The template's alarms on the function's own metrics.
fn alarms() -> Vec<Alarm> {
    template::of_type("AWS::CloudWatch::Alarm")
        .into_iter()
        .filter(|(_, properties)| properties["Namespace"] == NAMESPACE)
        .map(|(name, properties)| Alarm { name, properties })
        .collect()
}

impl Alarm {
    /// Whether one period with these datapoints counts towards the alarm.
    fn is_breached_by(&self, datapoints: &[Datapoint]) -> bool {
        let dimensions = self.properties["Dimensions"].as_array().expect("dimensions");
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
                self.properties["MetricName"] == point.metric
                    && point.dimensions.len() == dimensions.len()
                    && dimensions.iter().all(|dimension| has(point, dimension))
            })
            .map(|point| point.value)
            .collect();
        if values.is_empty() {
            return self.properties["TreatMissingData"] == "breaching";
        }
        let value = match self.text("Statistic") {
            "Sum" => values.iter().sum(),
            "SampleCount" => values.len() as u64,
            other => panic!("{other} is not expected"),
        };
        let threshold = self.properties["Threshold"].as_u64().expect("a threshold");
        match self.text("ComparisonOperator") {
            "GreaterThanOrEqualToThreshold" => value >= threshold,
            "LessThanThreshold" => value < threshold,
            other => panic!("{other} is not expected"),
        }
    }

    fn text(&self, property: &str) -> &str {
        self.properties[property].as_str().expect(property)
    }
}

/// A function in the situation that the alarm is for.
async fn provoke(alarm: &str) -> World {
    let secret = |passcode, shared| SecretsManager::new("relay", &secret_value(passcode, shared));
    let world = match alarm {
        "CredentialsAlarm" => World::start_with(secret("revoked", SHARED_SECRET), &[]).await,
        "SecretAlarm" => World::start_with(secret("", ""), &[]).await,
        "ClaimsAlarm" => {
            let endpoint = moto::endpoint().await;
            let table = ("DEDUPLICATION_TABLE", "a-table-that-does-not-exist");
            World::start(&[table, ("AWS_ENDPOINT_URL_DYNAMODB", &endpoint)]).await
        }
        _ => World::start(&[]).await,
    };
    match alarm {
        "CredentialsAlarm" | "SecretAlarm" | "ClaimsAlarm" => {
            world.post(&body()).await;
        }
        "EventHeldAlarm" => {
            let mut without_user = event("ACTIVATE", "e-1");
            without_user["user_id"].take();
            post(&world, without_user).await;
        }
        "FailingAlarm" => {
            world.clevertap.script([Reply::Status(408)]);
            world.post(&body()).await;
        }
        "UnexpectedAlarm" => {
            world.invoke(&json!({ "is": "no request or batch" })).await;
        }
        "SignatureAlarm" => {
            for _ in 0..10 {
                forge(&world).await;
            }
        }
        "UnknownEventAlarm" => post(&world, event("BRAND_NEW_EVENT", "e-1")).await,
        // Requests without a valid signature do not count as events.
        "SilenceAlarm" => forge(&world).await,
        other => panic!("no situation is written down for {other}: add one here"),
    }
    world
}

#[tokio::test]
async fn every_alarm_on_the_functions_metrics_is_raised_by_its_own_situation_only() {
    let healthy = World::start(&[]).await;
    healthy.post(&body()).await;
    post(&healthy, event("TRIAL_STARTED", "e-2")).await;
    let healthy = datapoints(&healthy);
    assert_eq!(sum(&healthy, "Relayed"), 2);

    let alarms = alarms();
    assert!(!alarms.is_empty());
    for provoked in &alarms {
        assert!(!provoked.is_breached_by(&healthy), "{}", provoked.name);
        let datapoints = datapoints(&provoke(&provoked.name).await);
        // In these no valid event arrives, so the silence is real as well.
        let silent = ["SecretAlarm", "SignatureAlarm", "UnexpectedAlarm"];
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

#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard = template::resources()["Dashboard"]["Properties"]["DashboardBody"].to_string();
    let before = format!(r#"[\"{NAMESPACE}\", \""#);
    let shown: BTreeSet<_> =
        dashboard.split(&before).skip(1).map(|rest| rest.split('\\').next().unwrap()).collect();
    assert_eq!(shown, METRICS.iter().map(|(name, _)| *name).collect());
}

#[tokio::test]
async fn the_saved_queries_name_fields_that_lines_have() {
    let world = World::start(&[("AWS_LAMBDA_LOG_LEVEL", "DEBUG")]).await;
    post(&world, event("BRAND_NEW_EVENT", "e-1")).await;
    post(&world, json!({ "event_name": "ACTIVATE", "event_id": "e-2" })).await;
    world.line(|line| line["event_id"] == "e-2").await;
    let lines: Vec<Map<String, Value>> =
        log(&world).into_iter().map(|line| serde_json::from_value(line).unwrap()).collect();
    let fields: BTreeSet<_> = lines.iter().flat_map(Map::keys).map(String::as_str).collect();
    let words = "@timestamp fields filter sort limit stats by as in asc desc or count count_distinct min max latest";
    let words: BTreeSet<_> = words.split(' ').collect();
    for (name, resource) in template::resources() {
        let Some(query) = resource["Properties"]["QueryString"].as_str() else {
            continue;
        };
        let unquoted = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let tokens: Vec<_> = unquoted
            .split(|c: char| !(c.is_alphanumeric() || "_@".contains(c)))
            .filter(|token| !token.is_empty() && token.parse::<u32>().is_err())
            .collect();
        let aliases: Vec<_> =
            tokens.windows(2).filter(|pair| pair[0] == "as").map(|pair| pair[1]).collect();
        for token in &tokens {
            let known = fields.contains(token) || words.contains(token) || aliases.contains(token);
            assert!(known, "{name}: no line has the field `{token}`");
        }
    }
}
