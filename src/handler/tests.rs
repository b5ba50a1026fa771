//! Tests of invocations against services that accept almost everything: panics, and refusals without a reason.

use super::*;
use crate::app;
use crate::config::Config;
use crate::http::{Exchange, Http, SharedHttp};
use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::Mutex;

const FIRST_AT: u64 = 1_772_439_330;

/// CleverTap, Secrets Manager, DynamoDB and SQS, which accept almost everything, and what they received.
#[derive(Debug, Clone, Default)]
struct World {
    uploads: Arc<Mutex<Vec<Value>>>,
    letters: Arc<Mutex<Vec<Value>>>,
}

impl Http for World {
    fn exchange(&self, request: ::http::Request<Bytes>, _: usize) -> Exchange {
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        assert!(!body.to_string().contains("PANICS_IN_UPLOADING"));
        let answer = match request.headers().get("x-amz-target") {
            None => {
                let is_refused = body.to_string().contains("UNEXPLAINED");
                self.uploads.lock().unwrap().push(body);
                json!({ "status": if is_refused { "fail" } else { "success" } })
            }
            Some(operation) if operation == "AmazonSQS.SendMessage" => {
                self.letters.lock().unwrap().push(body);
                json!({})
            }
            Some(operation) if operation == "DynamoDB_20120810.UpdateItem" => {
                json!({ "Attributes": { "first_at": { "N": FIRST_AT.to_string() } } })
            }
            Some(_) => json!({ "SecretString": r#"{"clevertap_passcode":"p"}"# }),
        };
        let answer = ::http::Response::new(Some(answer.to_string().into()));
        Box::pin(std::future::ready(Ok(answer)))
    }
}

impl World {
    fn handler(&self) -> Arc<Handler> {
        // Through the test harness, which shows the log of a test that fails only.
        telemetry::capture(|line| print!("{}", String::from_utf8_lossy(line)));
        telemetry::note_panics();
        let config = Config::from_env(|name| {
            let value = match name {
                "CLEVERTAP_REGION" => "in1",
                "CLEVERTAP_ACCOUNT_ID" => "ABC-123-4567",
                "SECRET_ID" => "relay",
                "PURCHASELY_SIGNATURE" => "off",
                "DEDUPLICATION_TABLE" => "claims",
                "DEAD_LETTER_QUEUE_URL" => "https://sqs.eu-west-1.amazonaws.com/1/dead.fifo",
                _ => return None,
            };
            Some(value.to_owned())
        });
        let http = SharedHttp(Arc::new(self.clone()));
        let aws = aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::v2026_01_12())
            .region(aws_config::Region::new("eu-west-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
            .http_client(http.clone())
            .build();
        Arc::new(app::handler(config.unwrap(), http, &aws).unwrap())
    }

    /// Where the function panicked over each dead letter.
    fn panicked_at(&self) -> Vec<String> {
        let letters = self.letters.lock().unwrap();
        let place = |letter: &Value| {
            let attributes = &letter["MessageAttributes"];
            assert_eq!(attributes["reason"]["StringValue"], "panicked");
            attributes["panicked_at"]["StringValue"].as_str().unwrap().to_owned()
        };
        letters.iter().map(place).collect()
    }
}

fn webhook(name: &str) -> String {
    json!({ "event_name": name, "event_id": name, "user_id": name }).to_string()
}

async fn invoke(handler: &Arc<Handler>, event: Value) -> Result<Value, InvocationFailed> {
    let payload = RawValue::from_string(event.to_string()).unwrap();
    let event = LambdaEvent::new(payload, lambda_runtime::Context::default());
    let response = Arc::clone(handler).handle(event).await?;
    Ok(serde_json::to_value(response).unwrap())
}

async fn post(handler: &Arc<Handler>, name: &str) -> (Value, Value) {
    let context = json!({ "http": { "method": "POST" } });
    let event = json!({ "requestContext": context, "headers": {}, "body": webhook(name) });
    let response = invoke(handler, event).await.unwrap();
    let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
    (response["statusCode"].clone(), body["reason"].clone())
}

async fn batch(handler: &Arc<Handler>, names: &[&str]) -> Result<Value, InvocationFailed> {
    batch_of(handler, names, |name| name).await
}

async fn batch_of<'n>(
    handler: &Arc<Handler>,
    names: &[&'n str],
    group: impl Fn(&'n str) -> &'n str,
) -> Result<Value, InvocationFailed> {
    let messages = names.iter().map(|name| {
        let attributes = json!({ "MessageGroupId": group(name) });
        json!({ "messageId": name, "body": webhook(name), "attributes": attributes })
    });
    invoke(handler, json!({ "Records": messages.collect::<Vec<_>>() })).await
}

#[tokio::test]
async fn a_panic_while_parsing_or_mapping_is_a_dead_letter_with_its_place() {
    let world = World::default();
    let handler = world.handler();
    for name in ["PANICS_IN_PARSING", "PANICS_IN_MAPPING"] {
        assert_eq!(post(&handler, name).await, (json!(200), json!("panicked")), "{name}");
    }
    let places = world.panicked_at();
    assert!(places[0].starts_with("src/purchasely/event.rs:"), "{places:?}");
    assert!(places[1].starts_with("src/mapping/identity.rs:"), "{places:?}");
    assert_eq!(world.uploads.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_panic_over_one_event_of_a_batch_is_a_dead_letter_of_that_event_only() {
    let world = World::default();
    let names = ["FIRST", "PANICS_IN_PARSING", "PANICS_IN_MAPPING", "LAST"];
    let response = batch(&world.handler(), &names).await;
    assert_eq!(response, Ok(json!({ "batchItemFailures": [] })));
    assert_eq!(world.panicked_at().len(), 2);
    let uploads = world.uploads.lock().unwrap();
    let names = uploads[0]["d"].as_array().unwrap().iter().map(|record| &record["evtName"]);
    assert_eq!(names.collect::<Vec<_>>(), ["FIRST", "LAST"]);
    assert_eq!(uploads.len(), 1);
}

#[tokio::test]
async fn a_panic_anywhere_else_is_503_or_an_error_for_the_batch() {
    let world = World::default();
    let handler = world.handler();
    assert_eq!(post(&handler, "PANICS_IN_UPLOADING").await, (json!(503), Value::Null));
    let response = batch(&handler, &["FIRST", "PANICS_IN_UPLOADING"]).await;
    assert_eq!(response, Err(InvocationFailed::Panicked));
    assert_eq!(world.panicked_at(), [""; 0]);
}

#[tokio::test]
async fn a_panic_ends_the_rounds_and_what_was_settled_before_stays_settled() {
    let names = ["FIRST", "PANICS_IN_UPLOADING", "LAST"];
    let response = batch_of(&World::default().handler(), &names, |_| "one user").await;
    let again = names[1..].iter().map(|name| json!({ "itemIdentifier": name }));
    assert_eq!(response, Ok(json!({ "batchItemFailures": again.collect::<Vec<_>>() })));
}

#[tokio::test]
async fn what_is_refused_without_a_reason_is_a_dead_letter_a_day_after_its_first_claim() {
    let world = World::default();
    let handler = world.handler();
    for (hours, expected) in [(23, (json!(503), Value::Null)), (25, (json!(200), json!("refused")))]
    {
        let now = Duration::from_secs(FIRST_AT) + Duration::from_hours(hours);
        clock::simulate(std::time::UNIX_EPOCH + now);
        assert_eq!(post(&handler, "UNEXPLAINED").await, expected);
    }
}
