//! What an operator sees: the metrics in the function's log lines, and what `template.yaml` shows of them.
//! It does not know CloudWatch; `alarms` is a model of it. `scripts/check_template.py` reads in the same
//! `situations.json` what is counted in the access log.

mod alarms;
mod weeks;

use crate::{post, start, start_with, template, with_resources};
use purchasely_clevertap::telemetry::{CLASS, FUNCTION, METRICS, NAMESPACE};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use testkit::harness::{
    PASSCODE, SECRET_ID, SHARED_SECRET, World, body, now_seconds, secret_value, signed,
};
use testkit::messages::{failures, message};
use testkit::sockets::resources::Resources;
use testkit::webhook::Front;
use testkit::world::clevertap::Reply;
use testkit::world::secrets_manager::SecretsManager;

/// What a delivery counts, by what happens to it.
const SITUATIONS: &str = include_str!("situations.json");

/// The values of metrics that are counts; of the events' age the number of values.
type Counts = BTreeMap<String, u64>;

fn situations(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).expect("situations")
}

fn lines(world: &World) -> impl Iterator<Item = Value> {
    let log = world.function.log().into_iter();
    log.map(|line| serde_json::from_str(&line).expect("a line is JSON"))
}

/// The counts that CloudWatch reads out of the log by the rules of its embedded metric format, without those that each
/// start and batch has. CloudWatch drops a line without a word if it breaks one
/// (<https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>).
fn counts(world: &World) -> Counts {
    let mut counts = Counts::new();
    for line in lines(world).filter(|line| !line["_aws"].is_null()) {
        assert!(line["_aws"]["Timestamp"].is_u64() && line[FUNCTION].is_string(), "{line}");
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
            assert_eq!(directive["Namespace"], NAMESPACE);
            let class = match &directive["Dimensions"] {
                set if *set == json!([[FUNCTION]]) => String::new(),
                set if *set == json!([[FUNCTION, CLASS]]) => {
                    format!(" {}", line[CLASS].as_str().unwrap())
                }
                other => panic!("{other}"),
            };
            for metric in directive["Metrics"].as_array().unwrap() {
                let [name, unit] = ["Name", "Unit"].map(|field| metric[field].as_str().unwrap());
                assert!(METRICS.contains(&(name, unit)), "{metric}");
                let value = line[name].as_u64().expect("a metric is a whole number in its line");
                let count = match (name, unit) {
                    ("EventAge", _) => 1,
                    ("ColdStart" | "BatchSize", _) => continue,
                    (_, "Count") => value,
                    _ => continue,
                };
                *counts.entry(format!("{name}{class}")).or_default() += count;
            }
        }
    }
    counts
}

fn event(name: &str, id: &str) -> Value {
    let created_at = (now_seconds() - 90) * 1000;
    json!({ "event_name": name, "event_id": id, "event_created_at_ms": created_at, "user_id": "u-1842", "plan": "yearly" })
}

/// [`event`] with another value in a field.
fn with(id: &str, field: &str, value: &str) -> Value {
    let mut event = event("TRIAL_STARTED", id);
    event[field] = if value.is_empty() { Value::Null } else { value.into() };
    event
}

/// A webhook whose signature was made with another secret.
async fn forge(world: &World) {
    let forged = signed(&body(), "another secret").envelope(Front::HttpApi);
    world.invoke(&forged).await;
}

async fn get(world: &World) {
    let mut get = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    get["requestContext"]["http"]["method"] = "GET".into();
    world.invoke(&get).await;
}

/// What a function with the settings and the secret of a situation counts for one delivery, and whether the sender has
/// to send it again.
async fn delivery(row: &Value, resources: &Resources) -> (Counts, bool) {
    let secret = |index: usize, usual| row["secret"][index].as_str().unwrap_or(usual);
    let secret = secret_value(secret(0, PASSCODE), secret(1, SHARED_SECRET));
    let own = row["settings"].as_object().into_iter().flatten();
    let value = |value: &Value| value.as_str().unwrap().replace("<AWS>", &resources.url);
    let own: Vec<_> = own.map(|(name, setting)| (name, value(setting))).collect();
    let own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let with_resources = row["resources"] == true;
    let of_resources = resources.settings().into_iter().filter(|_| with_resources);
    let settings: Vec<_> = of_resources.chain(own).collect();
    let world = start_with(SecretsManager::new(SECRET_ID, &secret), &settings).await;
    if let Some(status) = row["reply"].as_u64() {
        world.clevertap.script([Reply::Status(u16::try_from(status).unwrap())]);
    }
    let mut event = event("TRIAL_STARTED", "e-1");
    if let Some(age) = row["age"].as_u64() {
        event["event_created_at_ms"] = ((now_seconds() - age) * 1000).into();
    }
    for (field, value) in row["with"].as_object().into_iter().flatten() {
        event[field] = value.clone();
    }
    let is_sent_again = match row["message"] {
        Value::Null => post(&world, &event).await.status != 200,
        _ => !failures(&world, &[message(&event, &[])]).await.is_empty(),
    };
    (counts(&world), is_sent_again)
}

#[tokio::test]
async fn a_delivery_counts_what_the_weeks_expect() {
    let resources = Resources::make().await;
    let (mut actual, mut expected) = (Map::new(), Map::new());
    for (name, row) in situations(SITUATIONS).iter().filter(|(_, row)| row["statuses"].is_null()) {
        actual.insert(name.clone(), json!(delivery(row, &resources).await));
        expected.insert(name.clone(), json!([row["metrics"], row["sent_again"] == true]));
    }
    assert_eq!(json!(actual), json!(expected));
}

#[tokio::test]
async fn each_event_counts_one_outcome() {
    let (world, _resources) = with_resources(&[]).await;
    let renewed = |id| event("SUBSCRIPTION_RENEWED", id);
    let mut anonymous = with("e-3", "user_id", "");
    anonymous["anonymous_user_id"] = "a".into();
    for event in [
        renewed("e-1"),
        renewed("e-1"),
        anonymous,
        json!({ "no": "event" }),
        renewed("null"),
    ] {
        post(&world, &event).await;
    }
    world.clevertap.script([Reply::Status(408)]);
    post(&world, &event("TRIAL_STARTED", "fails")).await;
    forge(&world).await;
    get(&world).await;
    world.post(&vec![b' '; 300 * 1024]).await;
    let batch = ["e-5", "e-6", "e-6"].map(|id| message(&renewed(id), &[]));
    failures(&world, &batch).await;
    // Without other facts about an event, which the situations count.
    let mut outcomes = counts(&world);
    outcomes.retain(|name, _| METRICS[..10].iter().any(|(outcome, _)| outcome == name));
    let expected = json!({
        "Relayed": 4, "Duplicate": 2, "Ignored": 1, "DeadLettered": 2, "Failed": 1, "Unauthorized": 1, "Rejected": 1,
    });
    assert_eq!(json!(outcomes), expected);
    for line in lines(&world).filter(|line| !line["EventAge"].is_null()) {
        assert!((90..150).contains(&line["EventAge"].as_u64().unwrap()), "{line}");
    }
    assert_eq!(lines(&world).filter(|line| line["ColdStart"] == 1).count(), 1);
    assert_eq!(lines(&world).filter(|line| line["BatchSize"] == 3).count(), 1);
}

/// Below its first metric of this namespace, a widget abbreviates it.
#[test]
fn the_dashboard_shows_every_metric_and_no_other() {
    let dashboard = template::resources()["Dashboard"]["Properties"]["DashboardBody"].take();
    let text = dashboard["Fn::Sub"][0].as_str().expect("a text");
    let metrics = text.lines().filter_map(|line| line.trim().strip_prefix("[\""));
    let parts = metrics.map(|metric| metric.split('"').step_by(2).collect::<Vec<_>>());
    let shown = parts.filter(|parts| [NAMESPACE, "."].contains(&parts[0]));
    let shown: BTreeSet<_> = shown.map(|parts| parts[1].to_owned()).collect();
    let filters = template::of_type("AWS::Logs::MetricFilter");
    let counted = filters.iter().map(|(_, filter)| &filter["MetricTransformations"][0]);
    let counted = counted.map(|metric| metric["MetricName"].as_str().expect("a text"));
    let metrics = METRICS.iter().map(|(name, _)| *name).chain(counted);
    assert_eq!(shown, metrics.map(str::to_owned).collect());
}

#[tokio::test]
async fn the_saved_queries_name_fields_that_lines_have() {
    let settings = [("AWS_LAMBDA_LOG_LEVEL", "DEBUG"), ("REVENUE_EVENT", "Charged")];
    let world = start(&settings).await;
    world.clevertap.script([Reply::RefuseRecord { number: 1, code: 514 }]);
    for event in [
        event("TRIAL_STARTED", "e-4"),
        event("BRAND_NEW", "e-1"),
        event("TRANSACTION_PROCESSED", "e-3"),
        with("null", "environment", "Xcode"),
        with("e-2", "user_id", ""),
    ] {
        post(&world, &event).await;
    }
    world.line(|line| line["event_id"] == "e-2").await;
    let lines: Vec<_> = lines(&world).collect();
    let fields = lines.iter().flat_map(|line| line.as_object().unwrap().keys());
    let fields: BTreeSet<_> = fields.map(String::as_str).collect();
    let format =
        template::resources()["ApiStage"]["Properties"]["AccessLogSettings"]["Format"]["Fn::Sub"]
            .take();
    let request: Map<String, Value> = serde_json::from_str(format.as_str().unwrap()).unwrap();
    let words = "@timestamp fields filter sort limit stats by as in asc desc or count count_distinct min max latest";
    let words: BTreeSet<_> = words.split(' ').collect();
    for (name, resource) in template::resources() {
        let properties = &resource["Properties"];
        let Some(query) = properties["QueryString"].as_str() else {
            continue;
        };
        let is_on_requests = properties["LogGroupNames"] == json!([{ "Ref": "ApiLogGroup" }]);
        let unquoted = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let tokens = unquoted.split(|c: char| !(c.is_alphanumeric() || "_@".contains(c)));
        let mut known = words.clone();
        let mut before = "";
        for token in tokens.filter(|token| !token.is_empty() && token.parse::<u32>().is_err()) {
            if before == "as" {
                known.insert(token);
            }
            before = token;
            let is_field = if is_on_requests {
                request.contains_key(token)
            } else {
                fields.contains(token)
            };
            assert!(is_field || known.contains(token), "{name}: no line has the field `{token}`");
        }
    }
}
