//! The log: JSON lines that say how each event ended, without a secret, a body or a user in them.
//! It does not know the metrics in these lines; `monitoring.rs` does.

use crate::{UNDOCUMENTED, post, start, start_with, with_resources};
use serde_json::{Value, json};
use testkit::harness::{
    PASSCODE, SECRET_ID, SHARED_SECRET, World, answered, event, refuse, secret_value, signed,
};
use testkit::messages::message;
use testkit::sockets::servers::refusing_port;
use testkit::webhook::Front;
use testkit::world::clevertap::Reply;
use testkit::world::faulty::{Fault, Faulty};
use testkit::world::secrets_manager::SecretsManager;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// In the place of everything that identifies a user or is a property's value.
const PRIVATE: &str = "private-value";

/// Ends the function, so that its log is complete, and searches all of it.
async fn check_log(world: World) {
    world.function.kill();
    world.function.wait_for_exit().await;
    for line in world.function.log() {
        let parsed: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        // Lambda filters by these two; a line without them counts as INFO.
        let [timestamp, level] = ["timestamp", "level"].map(|name| parsed[name].as_str().unwrap());
        assert!(OffsetDateTime::parse(timestamp, &Rfc3339).is_ok(), "{line}");
        assert!(["TRACE", "DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line}");
        check(&line);
    }
}

#[track_caller]
fn check(text: &str) {
    for private in [PRIVATE, PASSCODE, SHARED_SECRET, "hunter2"] {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

/// A webhook whose values must not be logged, whatever happens to it.
fn webhook(id: &str) -> Value {
    let mut webhook = event(id, PRIVATE);
    for field in ["plan", "anonymous_user_id", "nickname", "event_created_at"] {
        webhook[field] = json!(PRIVATE);
    }
    webhook["attribution"] = json!({ "utm_source": PRIVATE });
    webhook["presentation"] = json!(PRIVATE.repeat(100));
    webhook
}

fn envelope(webhook: impl ToString) -> Value {
    signed(webhook.to_string().as_bytes(), SHARED_SECRET).envelope(Front::HttpApi)
}

/// Invokes the function, and returns how that ended: the reason or the word of the answer, or the failed messages, or
/// `error`.
async fn invoke(world: &World, event: &Value) -> String {
    let answer = match world.api.invoke(event).await {
        Ok(answer) => answer,
        Err(error) => {
            check(&error.to_string());
            return "error".to_owned();
        }
    };
    check(&answer.to_string());
    let Some(body) = answer["body"].as_str() else {
        return answer["batchItemFailures"].to_string();
    };
    let body: Value = serde_json::from_str(body).unwrap();
    let words = ["reason", "status", "error"].map(|name| body[name].as_str());
    words.into_iter().flatten().next().unwrap().to_owned()
}

#[tokio::test]
async fn no_outcome_logs_or_answers_a_secret_a_body_or_a_user() {
    let (world, _resources) = with_resources(&[("AWS_LAMBDA_LOG_LEVEL", "TRACE")]).await;
    let echo = |status| vec![Reply::Answer { status, body: webhook("echo").to_string() }];
    let location = format!("http://{PRIVATE}/");
    // The whole way to CleverTap, and each way that it can end.
    for (number, (replies, expected)) in [
        (vec![], "relayed"),
        (vec![refuse(2, 513)], "refused"),
        (vec![refuse(1, 516)], "relayed"),
        (vec![refuse(2, 555)], "relayed"),
        (vec![Reply::FailWithoutReasons], "relayed"),
        (vec![Reply::Status(400); 2], "refused"),
        (vec![Reply::Status(401)], "unavailable"),
        (vec![Reply::Status(500)], "unavailable"),
        (echo(200), "unavailable"),
        (echo(UNDOCUMENTED), "unavailable"),
        (vec![Reply::Redirect { status: 302, location }], "unavailable"),
        (vec![Reply::CloseBeforeAnswer; 2], "unavailable"),
        (vec![Reply::Silent], "unavailable"),
    ]
    .into_iter()
    .enumerate()
    {
        world.clevertap.script(replies);
        let outcome = invoke(&world, &envelope(webhook(&format!("e-{number}")))).await;
        assert_eq!(outcome, expected, "{number}");
    }
    let with = |field: &str, value: Value| {
        let mut webhook = webhook("e");
        webhook[field] = value;
        envelope(webhook)
    };
    let transport = |pointer: &str, value: Value| {
        let mut event = envelope(webhook("e-t"));
        *event.pointer_mut(pointer).unwrap() = value;
        event
    };
    let message = json!({ "messageId": "m", "eventSource": "aws:sqs", "body": PRIVATE });
    #[rustfmt::skip]
    let events = [
        // Refused, ignored, or never to be relayed.
        (with("event_id", json!("e-0")), "duplicate"),
        (with("event_id", json!(format!("{PRIVATE} {PRIVATE}"))), "relayed"),
        (with("environment", json!("SANDBOX")), "sandbox"),
        (with("user_id", json!(PRIVATE.repeat(200))), "identity_too_long"),
        (with("user_id", Value::Null), "anonymous"),
        (with("event_name", Value::Null), "no_event_name"),
        (with("event_name", json!("$$$")), "unusable_name"),
        (envelope(json!({ "name": "ACTIVATE", "user": { "vendor_id": PRIVATE } })), "payload_version_two"),
        (envelope(format!("{{ {PRIVATE}")), "not_json"),
        (envelope(PRIVATE.repeat(21_000)), "too_large"),
        (signed(webhook("e").to_string().as_bytes(), PRIVATE).envelope(Front::HttpApi), "unauthorized"),
        (transport("/headers", json!({ "x-user": PRIVATE })), "unauthorized"),
        (transport("/headers/host", json!(format!("{PRIVATE} host"))), "relayed"),
        (transport("/rawQueryString", json!(format!("<{PRIVATE}>"))), "duplicate"),
        (transport("/isBase64Encoded", json!(true)), "duplicate"),
        (transport("/requestContext/http/method", json!(PRIVATE)), "method_not_allowed"),
        (transport("/requestContext", json!(PRIVATE)), "unauthorized"),
        // Neither a request nor a readable batch.
        (json!({ "user": PRIVATE }), "error"),
        (json!(PRIVATE), "error"),
        (json!({ "Records": PRIVATE }), "error"),
        (json!({ "Records": [{ "body": PRIVATE }] }), "error"),
        (json!({ "Records": [message] }), "[]"),
    ];
    for (event, expected) in events {
        assert_eq!(invoke(&world, &event).await, expected, "{event}");
    }
    check_log(world).await;
}

#[tokio::test]
async fn no_failure_of_aws_logs_or_answers_a_secret_a_body_or_a_user() {
    let (_socket, refusing) = refusing_port();
    let settings = [
        ("AWS_LAMBDA_LOG_LEVEL", "DEBUG"),
        ("DEAD_LETTER_QUEUE_URL", "http://localhost/123456789012/dead.fifo"),
        ("EVENT_QUEUE_URL", "http://localhost/123456789012/events.fifo"),
        ("DEDUPLICATION_TABLE", "claims"),
        ("AWS_ENDPOINT_URL_SQS", &refusing),
        ("AWS_ENDPOINT_URL_DYNAMODB", &refusing),
    ];
    let again = r#"[{"itemIdentifier":"e-2"}]"#;
    for (passcode, faults, expected) in [
        ("hunter2 with spaces", 0, ["unavailable", "unavailable", again]),
        (PASSCODE, 99, ["unavailable", "unavailable", again]),
        (PASSCODE, 0, ["relayed", "unavailable", "[]"]),
    ] {
        let secret = secret_value(passcode, SHARED_SECRET);
        let manager = Faulty::from(SecretsManager::new(SECRET_ID, &secret));
        manager.script(vec![Fault::status(500); faults]);
        let world = start_with(manager, &settings).await;
        let batch = json!({ "Records": [message(&webhook("e-2"), &[])] });
        for (event, expected) in
            [envelope(webhook("e-1")), envelope(PRIVATE), batch].iter().zip(expected)
        {
            assert_eq!(invoke(&world, event).await, expected, "{passcode} {faults}: {event}");
        }
        check_log(world).await;
    }
}

#[tokio::test]
async fn the_line_of_an_event_says_what_was_done_and_how_long_it_took() {
    let world = start(&[("AWS_LAMBDA_LOG_LEVEL", "DEBUG")]).await;
    let mut long = event("e-77", "u");
    long["presentation"] = json!("x".repeat(600));
    let expected = json!({ "status": "relayed", "event_id": "e-77" });
    assert_eq!(post(&world, &long).await, answered(200, expected));
    let line = world.line(|line| line["outcome"] == "relayed").await;
    for (field, value) in [
        ("level", json!("INFO")),
        ("event_id", json!("e-77")),
        ("event_name", json!("SUBSCRIPTION_RENEWED")),
        ("clevertap_status", json!(200)),
        ("attempts", json!(1)),
        ("adjusted", json!(["presentation: sanitized"])),
    ] {
        assert_eq!(line[field], value, "{field}");
    }
    let is_attempt = |line: &Value| !line["request_id"].is_null() && line["outcome"].is_null();
    let attempt = world.line(is_attempt).await;
    for field in ["request_id", "trace_id"] {
        assert!(line[field].is_string() && line[field] == attempt[field], "{field}");
    }
    assert!(line["upload_ms"].is_u64() && line["duration_ms"].is_u64(), "{line}");
    let started = world.line(|line| line["message"] == "started").await;
    assert!(
        started["upload_url"].as_str().unwrap().starts_with("http://127.0.0.1:"),
        "{started}"
    );
    assert_eq!(started["region"], "in1 (India)");
}

#[tokio::test]
async fn an_answer_of_clevertap_that_contradicts_itself_is_logged() {
    let world = start(&[]).await;
    let body = json!({ "status": "success", "processed": 1, "unprocessed": [] }).to_string();
    world.clevertap.script([Reply::Answer { status: 200, body }]);
    assert_eq!(post(&world, &event("e-1", "u")).await.status, 200);
    let line = world.line(|line| line["processed"].is_u64()).await;
    assert_eq!((&line["level"], &line["processed"]), (&json!("WARN"), &json!(1)));
    assert_eq!(line["accepted"], 2);
}
