//! What an owner is told: the metrics of real lines, and the template's alarms, dashboard and queries
//! held against them.
//!
//! CloudWatch itself is not here: metrics are taken out of the lines by its published rules.

use testkit::moto::Resources;
use testkit::clevertap::Reply;
use testkit::secrets_manager::SecretsManager;
use crate::template::Template;
use testkit::webhook::Front;
use testkit::harness::{SHARED_SECRET, World, body, now_seconds, secret_value, signed};
use purchasely_clevertap::aws::queues::group_id;
use purchasely_clevertap::telemetry::{CLASS, FUNCTION, METRICS, NAMESPACE};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// The metrics that count outcomes; the first of [`METRICS`].
const OUTCOMES: usize = 8;

/// One value of one metric under one set of dimensions.
#[derive(Debug, Clone, PartialEq)]
struct Datapoint {
    metric: String,
    dimensions: BTreeMap<String, String>,
    value: u64,
}

/// The lines that carry metrics.
fn metric_lines(world: &World) -> Vec<Value> {
    let log = world.function.log();
    let lines = log
        .iter()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"));
    lines
        .filter(|line: &Value| !line["_aws"].is_null())
        .collect()
}

/// What CloudWatch makes of a line.
fn datapoints(line: &Value) -> Vec<Datapoint> {
    let mut found = Vec::new();
    for directive in line["_aws"]["CloudWatchMetrics"].as_array().unwrap() {
        assert_eq!(directive["Namespace"], NAMESPACE);
        for set in directive["Dimensions"].as_array().unwrap() {
            let names = set
                .as_array()
                .unwrap()
                .iter()
                .map(|name| name.as_str().unwrap());
            let dimensions: BTreeMap<_, _> = names
                .map(|name| {
                    let value = line[name]
                        .as_str()
                        .expect("a dimension is a text of the line");
                    (name.to_owned(), value.to_owned())
                })
                .collect();
            for metric in directive["Metrics"].as_array().unwrap() {
                let name = metric["Name"].as_str().unwrap();
                found.push(Datapoint {
                    metric: name.to_owned(),
                    dimensions: dimensions.clone(),
                    value: line[name]
                        .as_u64()
                        .expect("a metric is a whole number of the line"),
                });
            }
        }
    }
    found
}

fn sum(datapoints: &[Datapoint], metric: &str) -> u64 {
    let of_function = datapoints
        .iter()
        .filter(|point| point.dimensions.len() == 1);
    of_function
        .filter(|point| point.metric == metric)
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

fn message(id: &str) -> Value {
    json!({
        "messageId": id,
        "receiptHandle": "handle",
        "body": event("SUBSCRIPTION_RENEWED", id).to_string(),
        "attributes": { "ApproximateReceiveCount": "1", "MessageGroupId": group_id(b"u-1842") },
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:events.fifo",
        "awsRegion": "eu-west-1",
    })
}

#[tokio::test]
async fn each_event_counts_one_outcome_and_each_line_is_in_the_embedded_format() {
    let resources = Resources::make().await;
    let world = World::start(&resources.settings()).await;
    let post = async |event: Value| {
        world.post(event.to_string().as_bytes()).await;
    };
    post(event("SUBSCRIPTION_RENEWED", "e-1")).await;
    post(event("SUBSCRIPTION_RENEWED", "e-1")).await;
    post(event("BRAND_NEW_EVENT", "e-2")).await;
    post(json!({ "event_name": "TRIAL_STARTED", "event_id": "e-3", "anonymous_user_id": "a" }))
        .await;
    post(json!({ "no": "event" })).await;
    world.clevertap.script([Reply::Status(408)]);
    post(event("SUBSCRIPTION_RENEWED", "e-4")).await;
    world
        .invoke(&signed(&body(), "another secret").envelope(Front::HttpApi))
        .await;
    let mut get = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    get["requestContext"]["http"]["method"] = "GET".into();
    world.invoke(&get).await;
    let long = vec![b' '; 300 * 1024];
    world.post(&long).await;
    let batch = json!({ "Records": [message("e-5"), message("e-6"), message("e-6")] });
    world.api.invoke(batch).await.expect("an answer");
    let deliveries = 9 + 3;

    let lines = metric_lines(&world);
    let schema = serde_json::from_str(include_str!("emf.schema.json")).unwrap();
    let schema = jsonschema::draft7::new(&schema).expect("a schema");
    for line in &lines {
        if let Err(error) = schema.validate(line) {
            panic!("{error}: {line}");
        }
    }
    let datapoints: Vec<_> = lines.iter().flat_map(datapoints).collect();
    let counted = |metric| sum(&datapoints, metric);
    let outcomes = METRICS[..OUTCOMES].iter().map(|(name, _)| counted(name));
    assert_eq!(outcomes.sum::<u64>(), deliveries);
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
    for (metric, count) in expected {
        assert_eq!(counted(metric), count, "{metric}");
    }

    let known: BTreeSet<_> = METRICS.iter().map(|(name, _)| *name).collect();
    for point in &datapoints {
        assert!(known.contains(point.metric.as_str()), "{point:?}");
    }
    let ages: Vec<_> = datapoints
        .iter()
        .filter(|point| point.metric == "EventAge")
        .collect();
    assert!(
        ages.iter().all(|point| (90..150).contains(&point.value)),
        "{ages:?}"
    );
    let by_class: Vec<_> = datapoints
        .iter()
        .filter_map(|point| Some((point.metric.as_str(), point.dimensions.get(CLASS)?.as_str())))
        .collect();
    assert_eq!(by_class, [("Failed", "passing")]);
}

#[tokio::test]
async fn an_event_that_comes_again_by_hand_has_no_age() {
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
async fn a_profile_that_is_refused_is_counted() {
    let world = World::start(&[]).await;
    let mut renewed = event("SUBSCRIPTION_RENEWED", "e-1");
    renewed["subscription_status"] = "AUTO_RENEWING".into();
    renewed["purchase_type"] = "RENEWING_SUBSCRIPTION".into();
    world.clevertap.script([Reply::RefuseRecord {
        number: 1,
        code: 514,
    }]);
    world.post(renewed.to_string().as_bytes()).await;
    let line = world.line(|line| line["outcome"] == "relayed").await;
    assert_eq!(
        (&line["ProfileRefused"], &line["profile_refused"]),
        (&json!(1), &json!(514))
    );
}

#[tokio::test]
async fn every_line_of_an_invocation_names_it() {
    let world = World::start(&[("AWS_LAMBDA_LOG_LEVEL", "DEBUG")]).await;
    world.post(&body()).await;
    let told = world.line(|line| line["outcome"] == "relayed").await;
    let tried = world
        .line(|line| line["message"] == "tried to upload")
        .await;
    for name in ["request_id", "trace_id"] {
        assert!(told[name].is_string(), "{name}");
        assert_eq!(told[name], tried[name], "{name}");
    }
    let log = world.function.log();
    for line in log {
        let line: Value = serde_json::from_str(&line).expect("a line is JSON");
        // Lambda's filter reads these two; a line without them counts as INFO.
        let timestamp = line["timestamp"].as_str().expect("a timestamp");
        let rfc3339 = &time::format_description::well_known::Rfc3339;
        assert!(
            time::OffsetDateTime::parse(timestamp, rfc3339).is_ok(),
            "{timestamp}"
        );
        let level = line["level"].as_str().expect("a level");
        assert!(
            ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level),
            "{level}"
        );
    }
}

/// An alarm of the template, as far as it is held against lines.
struct Alarm {
    name: String,
    properties: Map<String, Value>,
}

fn alarms(template: &Template) -> Vec<Alarm> {
    template
        .resources()
        .into_iter()
        .filter(|(_, resource)| resource["Type"] == "AWS::CloudWatch::Alarm")
        .map(|(name, resource)| Alarm {
            name,
            properties: resource["Properties"]
                .as_object()
                .expect("properties")
                .clone(),
        })
        .collect()
}

impl Alarm {
    fn is_ours(&self) -> bool {
        self.properties["Namespace"] == NAMESPACE
    }

    fn number(&self, name: &str) -> u64 {
        let value = &self.properties[name];
        value
            .as_u64()
            .or_else(|| value.as_str()?.parse().ok())
            .expect(name)
    }

    fn dimensions(&self) -> BTreeMap<String, String> {
        let dimensions = self.properties["Dimensions"]
            .as_array()
            .expect("dimensions");
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        dimensions
            .iter()
            .map(|d| (text(&d["Name"]), text(&d["Value"])))
            .collect()
    }

    /// Whether a period in which these came is one that counts towards the alarm.
    fn is_breached_by(&self, datapoints: &[Datapoint]) -> bool {
        let wanted = self.dimensions();
        let values: Vec<_> = datapoints
            .iter()
            .filter(|point| {
                let same = |(name, value): (&String, &String)| {
                    // In the template it is the resource, in a line its name.
                    name == FUNCTION && value == "Function"
                        || point.dimensions.get(name) == Some(value)
                };
                point.metric == self.properties["MetricName"]
                    && point.dimensions.len() == wanted.len()
                    && wanted.iter().all(same)
            })
            .map(|point| point.value)
            .collect();
        if values.is_empty() {
            return self.properties["TreatMissingData"] == "breaching";
        }
        let value = match self.properties["Statistic"].as_str().expect("a statistic") {
            "Sum" => values.iter().sum(),
            "SampleCount" => values.len() as u64,
            other => panic!("{other} is not expected"),
        };
        let threshold = self.number("Threshold");
        match self.properties["ComparisonOperator"]
            .as_str()
            .expect("an operator")
        {
            "GreaterThanOrEqualToThreshold" => value >= threshold,
            "LessThanThreshold" => value < threshold,
            other => panic!("{other} is not expected"),
        }
    }
}

/// A world in which something has happened that the alarm is for.
async fn provoke(alarm: &str) -> World {
    match alarm {
        "EventHeldAlarm" => {
            let world = World::start(&[]).await;
            world
                .post(br#"{"event_name":"ACTIVATE","event_id":"e-1","event_created_at_ms":1772439330250}"#)
                .await;
            world
        }
        "CredentialsAlarm" => {
            let secret = SecretsManager::new("relay", &secret_value("revoked", SHARED_SECRET));
            let world = World::start_with(secret, &[]).await;
            world.post(&body()).await;
            world
        }
        "SecretAlarm" => {
            let secret = SecretsManager::new("relay", &secret_value("", ""));
            let world = World::start_with(secret, &[]).await;
            world.post(&body()).await;
            world
        }
        "FailingAlarm" => {
            let world = World::start(&[]).await;
            world.clevertap.script([Reply::Status(408)]);
            world.post(&body()).await;
            world
        }
        "UnexpectedAlarm" => {
            let world = World::start(&[]).await;
            world
                .invoke(&json!({ "neither": "a request nor a batch" }))
                .await;
            world
        }
        "SignatureAlarm" => {
            let world = World::start(&[]).await;
            let forged = signed(&body(), "another secret").envelope(Front::HttpApi);
            for _ in 0..10 {
                world.invoke(&forged).await;
            }
            world
        }
        "UnknownEventAlarm" => {
            let world = World::start(&[]).await;
            world
                .post(event("BRAND_NEW_EVENT", "e-1").to_string().as_bytes())
                .await;
            world
        }
        "ClaimsAlarm" => {
            let resources = Resources::make().await;
            let world = World::start(&resources.settings()).await;
            resources.delete_table().await;
            world.post(&body()).await;
            world
        }
        "SilenceAlarm" => {
            let world = World::start(&[]).await;
            // Whoever knows the address cannot break the silence.
            world
                .invoke(&signed(&body(), "another secret").envelope(Front::HttpApi))
                .await;
            world
        }
        other => panic!("nothing provokes {other}"),
    }
}

#[tokio::test]
async fn every_alarm_on_a_metric_of_ours_is_provoked_by_what_it_is_for_and_by_nothing_usual() {
    let healthy = World::start(&[]).await;
    healthy.post(&body()).await;
    healthy
        .post(event("TRIAL_STARTED", "e-2").to_string().as_bytes())
        .await;
    let usual: Vec<_> = metric_lines(&healthy).iter().flat_map(datapoints).collect();
    assert_eq!(sum(&usual, "Relayed"), 2);

    let alarms: Vec<_> = alarms(&Template::with(&[]))
        .into_iter()
        .filter(Alarm::is_ours)
        .collect();
    assert_eq!(alarms.len(), 9);
    for alarm in &alarms {
        assert!(!alarm.is_breached_by(&usual), "{}", alarm.name);
        let world = provoke(&alarm.name).await;
        let datapoints: Vec<_> = metric_lines(&world).iter().flat_map(datapoints).collect();
        assert!(
            alarm.is_breached_by(&datapoints),
            "{}: {datapoints:?}",
            alarm.name
        );
        for other in alarms.iter().filter(|other| other.name != alarm.name) {
            // Nothing that was verified came in these, so the silence is real.
            let unverified = ["SecretAlarm", "SignatureAlarm", "UnexpectedAlarm"];
            let expected =
                other.name == "SilenceAlarm" && unverified.contains(&alarm.name.as_str());
            let breached = other.is_breached_by(&datapoints);
            assert_eq!(
                breached, expected,
                "{} by what is for {}",
                other.name, alarm.name
            );
        }
    }
}

#[test]
fn alarms_on_aws_metrics_name_what_aws_publishes() {
    // From the lists of metrics in the documentation of each service.
    let published = [
        ("AWS/ApiGateway", "Latency", "ApiId"),
        ("AWS/Lambda", "Errors", "FunctionName"),
        ("AWS/Lambda", "Throttles", "FunctionName"),
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName"),
        ("AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName"),
    ];
    let known: BTreeMap<_, _> = METRICS.iter().copied().collect();
    for alarm in alarms(&Template::with(&[])) {
        let text = |name: &str| alarm.properties[name].as_str().unwrap_or_default();
        let dimensions = alarm.dimensions();
        if alarm.is_ours() {
            assert!(known.contains_key(text("MetricName")), "{}", alarm.name);
            assert_eq!(dimensions[FUNCTION], "Function", "{}", alarm.name);
        } else {
            let (dimension, resource) = dimensions.first_key_value().expect("one");
            let metric = (text("Namespace"), text("MetricName"), dimension.as_str());
            assert!(published.contains(&metric), "{}: {metric:?}", alarm.name);
            let expected: &[&str] = match dimension.as_str() {
                "ApiId" => &["Api"],
                "QueueName" => &["DeadLetterQueue.QueueName", "EventQueue.QueueName"],
                _ => &["Function"],
            };
            assert!(
                expected.contains(&resource.as_str()),
                "{}: {resource}",
                alarm.name
            );
            assert_eq!(dimensions.len(), 1, "{}", alarm.name);
        }
        // CloudWatch looks back a week at most.
        let window = alarm.number("Period") * alarm.number("EvaluationPeriods");
        assert!(window <= 7 * 86_400, "{}", alarm.name);
        if alarm.properties.contains_key("DatapointsToAlarm") {
            assert!(alarm.number("DatapointsToAlarm") <= alarm.number("EvaluationPeriods"));
        }
        let name = text("AlarmName")
            .strip_prefix("relay-")
            .expect("the stack's name first");
        assert_eq!(format!("{name}Alarm"), alarm.name);
        assert!(text("AlarmDescription").len() <= 1024, "{}", alarm.name);
    }
}

#[test]
fn an_alarm_is_sent_to_the_address_or_the_topic() {
    let receivers = |parameters: &[(&str, &str)]| {
        let template = Template::with(parameters);
        let actions: BTreeSet<_> = alarms(&template)
            .iter()
            .flat_map(|alarm| {
                ["AlarmActions", "OKActions"].map(|a| alarm.properties.get(a).cloned())
            })
            .map(|actions| actions.map(|actions| actions.to_string()))
            .collect();
        let topic = template.resources().contains_key("AlarmTopic");
        (actions.into_iter().collect::<Vec<_>>(), topic)
    };
    let arn = "arn:aws:sns:eu-west-1:123456789012:on-call";
    let told = |to: &str| vec![Some(format!(r#"["{to}"]"#))];
    assert_eq!(receivers(&[]), (vec![None], false));
    assert_eq!(
        receivers(&[("AlarmEmail", "a@example.com")]),
        (told("AlarmTopic"), true)
    );
    assert_eq!(receivers(&[("AlarmTopicArn", arn)]), (told(arn), false));
}

#[test]
fn without_queues_or_monitoring_there_is_nothing_that_watches_them() {
    let watching = |parameters: &[(&str, &str)]| {
        let resources = Template::with(parameters).resources().into_iter();
        let watching = resources.filter(|(_, resource)| {
            let kind = resource["Type"].as_str().unwrap();
            kind.starts_with("AWS::CloudWatch::") || kind == "AWS::Logs::QueryDefinition"
        });
        watching.map(|(name, _)| name).collect::<BTreeSet<_>>()
    };
    let all = watching(&[]);
    assert_eq!(watching(&[("Monitoring", "false")]), BTreeSet::new());
    let without = |gone: &[&str]| {
        let kept = all.iter().filter(|name| !gone.contains(&name.as_str()));
        kept.cloned().collect::<BTreeSet<_>>()
    };
    assert_eq!(
        watching(&[("SilenceHours", "0")]),
        without(&["SilenceAlarm"])
    );
    let of_queues = ["DeadLettersAlarm", "OldestMessageAlarm", "ClaimsAlarm"];
    assert_eq!(watching(&[("KeepEvents", "false")]), without(&of_queues));
}

#[test]
fn the_dashboard_shows_metrics_and_alarms_that_exist() {
    let known: BTreeSet<_> = METRICS.iter().map(|(name, _)| *name).collect();
    for keep in ["true", "false"] {
        let template = Template::with(&[("KeepEvents", keep)]);
        let resources = template.resources();
        let text = resources["Dashboard"]["Properties"]["DashboardBody"]
            .as_str()
            .unwrap();
        let body: Value = serde_json::from_str(text).expect("the dashboard is JSON");
        let widgets = body["widgets"].as_array().unwrap();
        let mut shown = BTreeSet::new();
        let mut watched = BTreeSet::new();
        for widget in widgets {
            let properties = &widget["properties"];
            for metric in properties["metrics"].as_array().into_iter().flatten() {
                let texts: Vec<_> = metric
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter_map(Value::as_str)
                    .collect();
                assert_eq!(texts.len() % 2, 0, "{texts:?}");
                if texts[0] == NAMESPACE {
                    assert!(known.contains(texts[1]), "{texts:?}");
                    assert_eq!(texts[2..4], [FUNCTION, "Function"], "{texts:?}");
                    shown.insert(texts[1].to_owned());
                }
            }
            for alarm in properties["alarms"].as_array().into_iter().flatten() {
                watched.insert(alarm.as_str().unwrap().trim_end_matches(".Arn").to_owned());
            }
        }
        let existing: BTreeSet<_> = alarms(&template)
            .into_iter()
            .map(|alarm| alarm.name)
            .collect();
        assert_eq!(watched, existing, "KeepEvents={keep}");
        if keep == "true" {
            let shown: BTreeSet<_> = shown.iter().map(String::as_str).collect();
            assert_eq!(shown, known);
        }
    }
}

#[tokio::test]
async fn the_saved_queries_ask_for_fields_that_lines_have() {
    let world = World::start(&[("AWS_LAMBDA_LOG_LEVEL", "DEBUG")]).await;
    world
        .post(event("BRAND_NEW_EVENT", "e-1").to_string().as_bytes())
        .await;
    world
        .post(br#"{"event_name":"ACTIVATE","event_id":"e-2"}"#)
        .await;
    world.line(|line| line["event_id"] == "e-2").await;
    let mut fields: BTreeSet<_> = ["@timestamp"].map(str::to_owned).into();
    for line in world.function.log() {
        let line: Map<String, Value> = serde_json::from_str(&line).unwrap();
        fields.extend(line.keys().cloned());
    }
    let words = [
        "fields",
        "filter",
        "sort",
        "limit",
        "stats",
        "by",
        "as",
        "in",
        "asc",
        "desc",
        "or",
        "count",
        "count_distinct",
        "min",
        "max",
        "latest",
    ];
    let resources = Template::with(&[]).resources();
    let queries: Vec<_> = resources
        .values()
        .filter(|resource| resource["Type"] == "AWS::Logs::QueryDefinition")
        .map(|query| query["Properties"]["QueryString"].as_str().unwrap())
        .collect();
    assert_eq!(queries.len(), 5);
    for query in queries {
        let unquoted: String = query.split('"').step_by(2).collect::<Vec<_>>().join(" ");
        let tokens: Vec<_> = unquoted
            .split(|c: char| !(c.is_alphanumeric() || "_@".contains(c)))
            .filter(|token| !token.is_empty() && token.parse::<u32>().is_err())
            .collect();
        let named: BTreeSet<_> = tokens
            .windows(2)
            .filter(|pair| pair[0] == "as")
            .map(|pair| pair[1])
            .collect();
        for token in tokens {
            let known = fields.contains(token) || words.contains(&token) || named.contains(token);
            assert!(known, "`{token}` in {query}");
        }
    }
}

/// Parameters, and the beginnings of what is said in refusing them.
type Case<'c> = (&'c [(&'c str, &'c str)], &'c [&'c str]);

#[test]
fn the_rules_refuse_what_contradicts_itself() {
    let arn = "arn:aws:sns:eu-west-1:123456789012:on-call";
    let sandbox = ("ClevertapSandboxAccountId", "TEST-DEF-GHIJ");
    let cases: &[Case<'_>] = &[
        (&[], &[]),
        (&[sandbox], &[]),
        (&[("AlarmTopicArn", arn)], &[]),
        (&[("PurchaselySignature", "off")], &[]),
        (
            &[sandbox, ("SandboxEvents", "drop")],
            &["SandboxEvents is drop"],
        ),
        (
            &[("ClevertapSandboxAccountId", "ABC-DEF-GHIJ")],
            &["ClevertapSandboxAccountId is the main account"],
        ),
        (
            &[
                ("PurchaselySignature", "off"),
                ("PurchaselySignatureToleranceSeconds", "300"),
            ],
            &["PurchaselySignature is off"],
        ),
        (
            &[
                ("UserProperties", "none"),
                ("UserPropertyNames", "plan=Plan"),
            ],
            &["UserProperties is none"],
        ),
        (
            &[("AlarmEmail", "a@example.com"), ("AlarmTopicArn", arn)],
            &["AlarmEmail and AlarmTopicArn are both set"],
        ),
        (
            &[("AlarmEmail", "a@example.com"), ("Monitoring", "false")],
            &["Monitoring is false"],
        ),
    ];
    for (parameters, expected) in cases {
        let refusals = Template::with(parameters).refusals();
        assert_eq!(
            refusals.len(),
            expected.len(),
            "{parameters:?}: {refusals:?}"
        );
        for (refusal, expected) in refusals.iter().zip(*expected) {
            assert!(refusal.starts_with(expected), "{refusal}");
        }
    }
}

#[test]
fn the_outputs_hold_what_the_owner_pastes() {
    let outputs = Template::with(&[]).outputs();
    let value = |name: &str| outputs[name]["Value"].as_str().unwrap().to_owned();
    assert_eq!(
        value("WebhookUrl"),
        "https://Api.execute-api.eu-west-1.amazonaws.com/webhooks/purchasely"
    );
    assert_eq!(
        value("TailCommand"),
        "aws logs tail 'FunctionLogGroup' --follow --region eu-west-1"
    );
    for name in [
        "DashboardUrl",
        "SecretArn",
        "PutSecretCommand",
        "DeadLetterQueueUrl",
        "EventQueueUrl",
    ] {
        assert!(outputs.contains_key(name), "{name}");
    }
    let without = Template::with(&[("Monitoring", "false"), ("KeepEvents", "false")]).outputs();
    for name in [
        "DashboardUrl",
        "DeadLetterQueueUrl",
        "EventQueueUrl",
        "RedriveCommand",
    ] {
        assert!(!without.contains_key(name), "{name}");
    }
}
