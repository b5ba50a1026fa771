//! The log: JSON lines that say how each event ended, without a secret, a body or a user in them.
//! It does not know the metrics in these lines; `monitoring.rs` does.

use serde_json::{Value, json};
use testkit::harness::{
    PASSCODE, SHARED_SECRET, World, answered, event, refuse, secret_value, signed, with_resources,
};
use testkit::messages::message;
use testkit::sockets::servers::refusing_port;
use testkit::webhook::Front;
use testkit::world::clevertap::Reply;
use testkit::world::faulty::{Fault, Faulty};
use testkit::world::secrets_manager::SecretsManager;

/// In the place of everything that identifies a user or is a property's value.
const PRIVATE: &str = "private-value";

/// Ends the function, so that its log is complete, and searches all of it.
async fn check_log(world: World) {
    world.function.kill();
    world.function.wait_for_exit().await;
    for line in world.function.log() {
        let parsed: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line}"));
        assert!(parsed["level"].is_string() && parsed["timestamp"].is_string(), "{line}");
        check(&line);
    }
}

#[track_caller]
fn check(text: &str) {
    for private in [PRIVATE, PASSCODE, SHARED_SECRET, "hunter2"] {
        assert!(!text.contains(private), "{private} in {text}");
    }
}

/// A webhook whose values must not be logged, whatever becomes of it.
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

#[tokio::test]
async fn no_outcome_logs_or_answers_a_secret_a_body_or_a_user() {
    let (world, _resources) = with_resources(&[("AWS_LAMBDA_LOG_LEVEL", "TRACE")]).await;
    let echo = |status| Reply::Answer { status, body: webhook("echo").to_string() };
    let location = format!("http://{PRIVATE}/");
    let redirect = Reply::Redirect { status: 302, location };
    // The whole way to CleverTap, and each way that it can end.
    for (number, replies) in [
        vec![],
        vec![refuse(2, 513)],
        vec![refuse(1, 516)],
        vec![refuse(2, 555)],
        vec![Reply::FailWithoutReasons],
        vec![Reply::Status(400); 2],
        vec![Reply::Status(401)],
        vec![Reply::Status(500)],
        vec![Reply::Status(408)],
        vec![echo(200)],
        vec![echo(418)],
        vec![redirect],
        vec![Reply::CloseBeforeAnswer; 2],
        vec![Reply::Silent],
    ]
    .into_iter()
    .enumerate()
    {
        world.clevertap.script(replies);
        let answer = world.invoke(&envelope(webhook(&format!("e-{number}")))).await;
        check(&answer.body.to_string());
    }
    let with = |field: &str, value: Value| {
        let mut webhook = webhook("e");
        webhook[field] = value;
        envelope(webhook)
    };
    let transport = |change: &dyn Fn(&mut Value)| {
        let mut event = envelope(webhook("e"));
        change(&mut event);
        event
    };
    for event in [
        // Refused, ignored, or never to be relayed.
        with("event_id", json!("e-0")),
        with("event_id", json!(format!("{PRIVATE} {PRIVATE}"))),
        with("environment", json!("SANDBOX")),
        with("user_id", json!(PRIVATE.repeat(200))),
        with("user_id", Value::Null),
        with("event_name", Value::Null),
        with("event_name", json!("$$$")),
        envelope(json!({ "name": "ACTIVATE", "user": { "vendor_id": PRIVATE } })),
        envelope(format!("{{ {PRIVATE}")),
        envelope(PRIVATE.repeat(20_000)),
        signed(webhook("e").to_string().as_bytes(), PRIVATE).envelope(Front::HttpApi),
        transport(&|event| event["headers"] = json!({ "x-user": PRIVATE })),
        transport(&|event| event["headers"]["host"] = json!(format!("{PRIVATE} host"))),
        transport(&|event| event["rawQueryString"] = json!(format!("<{PRIVATE}>"))),
        transport(&|event| event["isBase64Encoded"] = json!(true)),
        transport(&|event| event["requestContext"]["http"]["method"] = json!(PRIVATE)),
        transport(&|event| event["requestContext"] = json!(PRIVATE)),
        // Neither a request nor a readable batch.
        json!({ "user": PRIVATE }),
        json!(PRIVATE),
        json!({ "Records": PRIVATE }),
        json!({ "Records": [{ "body": PRIVATE }] }),
        json!({ "Records": [{ "messageId": "m", "eventSource": "aws:sqs", "body": PRIVATE }] }),
    ] {
        match world.api.invoke(&event).await {
            Ok(answer) | Err(answer) => check(&answer.to_string()),
        }
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
    let manager = |passcode| {
        Faulty::from(SecretsManager::new("relay", &secret_value(passcode, SHARED_SECRET)))
    };
    let invalid = manager("hunter2 with spaces");
    let failing = manager(PASSCODE);
    failing.script(vec![Fault::status(500); 9]);
    let working = manager(PASSCODE);
    for manager in [invalid, failing, working] {
        let world = World::start_with(manager, &settings).await;
        let message = message(&webhook("e-2"), &[]);
        for event in [envelope(webhook("e-1")), envelope(PRIVATE), json!({ "Records": [message] })]
        {
            match world.api.invoke(&event).await {
                Ok(answer) | Err(answer) => check(&answer.to_string()),
            }
        }
        check_log(world).await;
    }
}

#[tokio::test]
async fn the_line_of_an_event_says_what_was_done_and_how_long_it_took() {
    let world = World::start(&[]).await;
    let mut long = event("e-77", "u");
    long["presentation"] = json!("x".repeat(600));
    let answer = world.post(long.to_string().as_bytes()).await;
    let expected = json!({ "status": "relayed", "event_id": "e-77" });
    assert_eq!(answer, answered(200, expected));
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
    for field in ["timestamp", "request_id", "trace_id", "upload_ms", "duration_ms"] {
        assert!(!line[field].is_null(), "{field}");
    }
    let started = world.line(|line| line["message"] == "started").await;
    let upload_url = started["upload_url"].as_str().unwrap();
    assert!(upload_url.starts_with("http://127.0.0.1:"), "{started}");
    assert_eq!(started["region"], "in1 (India)");
}

#[tokio::test]
async fn an_answer_of_clevertap_that_contradicts_itself_is_logged() {
    let world = World::start(&[]).await;
    let body = json!({ "status": "success", "processed": 1, "unprocessed": [] }).to_string();
    world.clevertap.script([Reply::Answer { status: 200, body }]);
    assert_eq!(world.invoke(&envelope(webhook("e-1"))).await.status, 200);
    let line = world.line(|line| line["processed"].is_u64()).await;
    assert_eq!((&line["level"], &line["processed"]), (&json!("WARN"), &json!(1)));
    assert_eq!(line["accepted"], 2);
    check_log(world).await;
}
