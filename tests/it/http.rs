//! The HTTP endpoint: which requests are accepted, and what each is answered.
//! It does not know what is uploaded in detail; `samples.rs` and `records.rs` do.

use crate::envelopes::{Change, apply};
use serde_json::{Value, json};
use testkit::harness::{SHARED_SECRET, World, answered, body, now_seconds, relayed, signed};
use testkit::webhook::{Front, Webhook};

const SIGNATURE: &str = "x-purchasely-request-signature";

#[tokio::test]
async fn relays_a_signed_webhook_from_every_kind_of_front() {
    let world = World::start(&[]).await;
    for front in [Front::HttpApi, Front::HttpApiBase64, Front::RestApi] {
        let event = signed(&body(), SHARED_SECRET).envelope(front);
        assert_eq!(world.invoke(&event).await, relayed(), "{front:?}");
    }
    let accepted = world.clevertap.accepted();
    assert_eq!(accepted.len(), 6);
    assert!(accepted.chunks(2).all(|records| records == &accepted[..2]));
}

#[tokio::test]
async fn refuses_a_request_that_purchasely_has_not_signed() {
    let world = World::start(&[]).await;
    let correct = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    let signature = correct["headers"][SIGNATURE].as_str().unwrap();
    let header = "/headers/x-purchasely-request-signature";
    let altered = correct["body"].as_str().unwrap().replace("yearly", "weekly");
    // The entry point depends on the kind of invocation, never on a path or a body.
    let batch = json!({ "Records": [{ "eventSource": "aws:sqs", "body": "{}" }] }).to_string();
    // A REST API repeats the last value of a header where the function could overlook the first.
    let mut repeated = signed(&body(), SHARED_SECRET).envelope(Front::RestApi);
    repeated["multiValueHeaders"][SIGNATURE] = json!(["0".repeat(64), signature]);
    let stranger = signed(&body(), "another secret").envelope(Front::HttpApi);
    let with = |changes: &[Change]| apply(correct.clone(), changes.to_vec());
    let set = |pointer, value: &str| (pointer, Some(json!(value)));
    #[rustfmt::skip]
    let cases = [
        ("missing", with(&[(header, None)])),
        ("deprecated", with(&[(header, None), set("/headers/x-purchasely-signature", signature)])),
        ("repeated in one line", with(&[set(header, &format!("{signature},{signature}"))])),
        ("repeated in two lines", repeated),
        ("for another body", with(&[set("/body", &altered)])),
        ("with another secret", stranger),
        ("missing, like everything", with(&[("/headers", None), ("/body", None)])),
        ("missing in a batch", with(&[(header, None), set("/rawPath", "/events"), set("/body", &batch)])),
    ];
    for (what, event) in cases {
        let unauthorized = answered(401, json!({ "error": "unauthorized" }));
        assert_eq!(world.invoke(&event).await, unauthorized, "{what}");
    }
    assert_eq!(world.clevertap.uploads().len(), 0);
}

#[tokio::test]
async fn an_old_signature_is_refused_beyond_the_tolerance() {
    let old = Webhook::new(body(), SHARED_SECRET, now_seconds() - 20 * 24 * 3600);
    let event = old.envelope(Front::HttpApi);
    let world = World::start(&[]).await;
    assert_eq!(world.invoke(&event).await, relayed());
    let strict = World::start(&[("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "300")]).await;
    assert_eq!(strict.invoke(&event).await.status, 401);
    assert_eq!(strict.post(&body()).await, relayed());
}

#[tokio::test]
async fn an_unsigned_webhook_is_accepted_only_where_signatures_are_off() {
    let world = World::start(&[("PURCHASELY_SIGNATURE", "off")]).await;
    let mut event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    event["headers"] = json!({});
    assert_eq!(world.invoke(&event).await, relayed());
    let is_warning = |line: &Value| {
        let message = line["message"].as_str().unwrap_or_default();
        line["level"] == "WARN" && message.starts_with("PURCHASELY_SIGNATURE is off")
    };
    world.line(is_warning).await;
}

#[tokio::test]
async fn serves_only_post() {
    let world = World::start(&[]).await;
    for method in ["GET", "PUT", "DELETE", "HEAD"] {
        let mut event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
        event["requestContext"]["http"]["method"] = json!(method);
        let answer = world.api.invoke(&event).await.unwrap();
        assert_eq!(answer["statusCode"], 405);
        assert_eq!(answer["headers"]["allow"], "POST");
        assert_eq!(answer["body"], r#"{"error":"method_not_allowed"}"#);
    }
}

#[tokio::test]
async fn a_body_over_256_kib_is_not_relayed_and_one_that_no_letter_holds_is_413() {
    let world = World::start(&[]).await;
    let too_large = answered(413, json!({ "error": "payload_too_large" }));
    let huge = vec![b'x'; 2 * 1024 * 1024];
    assert_eq!(world.post(&huge).await, too_large);
    // It could be kept, but there is no dead-letter queue.
    assert_eq!(world.post(&vec![b'x'; 256 * 1024 + 1]).await.status, 503);
    world.line(|line| line["reason"] == "too_large").await;
    let mut largest = body();
    largest.resize(256 * 1024, b' ');
    assert_eq!(world.post(&largest).await, relayed());
    let forged = signed(&huge, "another secret").envelope(Front::HttpApi);
    assert_eq!(world.invoke(&forged).await.status, 401);

    let unsigned = World::start(&[("PURCHASELY_SIGNATURE", "off")]).await;
    assert_eq!(unsigned.post(&vec![b'x'; 256 * 1024 + 1]).await, too_large);
}

#[tokio::test]
async fn a_request_that_cannot_be_read_is_401_with_its_own_reason() {
    for settings in [&[][..], &[("PURCHASELY_SIGNATURE", "off")]] {
        let world = World::start(settings).await;
        let load_balancer = json!({
            "requestContext": { "elb": { "targetGroupArn": "arn" } },
            "httpMethod": "POST", "path": "/", "headers": {}, "body": "x",
        });
        let answer = world.invoke(&load_balancer).await;
        assert_eq!(answer, answered(401, json!({ "error": "unauthorized" })));
        world.line(|line| line["reason"] == "unreadable_request").await;
    }
}

#[tokio::test]
async fn what_is_neither_a_request_nor_a_batch_is_an_error_of_the_invocation() {
    let world = World::start(&[]).await;
    for event in [json!({ "is": "no request or batch" }), json!([]), json!("x")] {
        assert!(world.api.invoke(&event).await.is_err(), "{event}");
    }
    let is_line = |line: &Value| {
        let message = line["message"].as_str().unwrap_or_default();
        line["level"] == "ERROR" && message.contains("proxy integration")
    };
    world.line(is_line).await;
}

#[tokio::test]
async fn one_bad_value_does_not_cost_the_payment() {
    let world = World::start(&[("REVENUE_EVENT", "Charged")]).await;
    for (id, bad) in [("m2", r#""placement":"Spring sale \ud83c""#), ("m3", r#""x":1e400"#)] {
        let body = format!(
            r#"{{"event_name":"TRANSACTION_PROCESSED","event_id":"{id}","user_id":"u-9","store_transaction_id":"{id}","amount_in_eur":59.99,{bad}}}"#
        );
        let expected = answered(200, json!({ "status": "relayed", "event_id": id }));
        assert_eq!(world.post(body.as_bytes()).await, expected);
        let line = world.line(|line| line["event_id"] == id).await;
        assert_eq!(line["adjusted"].as_array().map(Vec::len), Some(1), "{line}");
    }
    let accepted = world.clevertap.accepted();
    let charged = accepted.iter().filter(|record| record["evtName"] == "Charged");
    assert_eq!(charged.count(), 2);
}

#[tokio::test]
async fn without_a_dead_letter_queue_a_signed_body_that_is_no_event_is_503() {
    let world = World::start(&[]).await;
    let nested = |open: &str, close: &str| open.repeat(10_000) + "1" + &close.repeat(10_000);
    for (what, body) in [
        ("nothing", &b""[..]),
        ("invalid UTF-8", b"\xff\xfe{"),
        ("no object", b"[]"),
        ("no name", b"{}"),
        ("version 2", br#"{"name":"ACTIVATE","user":{"vendor_id":"u"}}"#),
        ("no identity", br#"{"event_name":"ACTIVATE"}"#),
        ("ten thousand objects", nested("{\"a\":", "}").as_bytes()),
        ("ten thousand lists", nested("[", "]").as_bytes()),
    ] {
        let event = signed(body, SHARED_SECRET).envelope(Front::HttpApiBase64);
        let answer = world.invoke(&event).await;
        assert_eq!(answer, answered(503, json!({ "error": "unavailable" })), "{what}");
    }
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn an_event_that_is_deliberately_not_sent_is_acknowledged() {
    let settings = [("EVENTS_DISABLED", "ACTIVATE"), ("USER_PROPERTIES", "none")];
    let world = World::start(&settings).await;
    for (fields, reason) in [
        (json!({ "event_name": "ACTIVATE", "user_id": "u" }), "event_disabled"),
        (
            json!({ "event_name": "TRIAL_STARTED", "user_id": "u", "environment": "SANDBOX" }),
            "sandbox",
        ),
        (json!({ "event_name": "TRIAL_STARTED", "anonymous_user_id": "a" }), "anonymous"),
    ] {
        let answer = world.post(fields.to_string().as_bytes()).await;
        let expected = json!({ "status": "ignored", "reason": reason });
        assert_eq!(answer, answered(200, expected), "{reason}");
    }
    assert_eq!(world.clevertap.uploads().len(), 0);
}
