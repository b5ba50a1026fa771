//! The HTTP endpoint: which requests are accepted, and what each is answered.
//! It does not know what is uploaded; `samples.rs` does.

use crate::envelopes::{Change, apply};
use crate::{post, start};
use serde_json::{Value, json};
use testkit::harness::{SHARED_SECRET, answered, body, event, now_seconds, relayed, signed};
use testkit::messages::message;
use testkit::webhook::{Front, Webhook};

#[tokio::test]
async fn refuses_a_request_that_purchasely_has_not_signed() {
    let world = start(&[]).await;
    let correct = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    let header = "/headers/x-purchasely-request-signature";
    let altered = correct["body"].as_str().unwrap().replace("yearly", "weekly");
    // The entry point depends on the kind of invocation, never on a path or a body.
    let batch = json!({ "Records": [{ "eventSource": "aws:sqs", "body": "{}" }] }).to_string();
    let with = |changes: &[Change]| apply(correct.clone(), changes.to_vec());
    let set = |pointer, value: &str| (pointer, Some(json!(value)));
    for (what, event) in [
        ("for another body", with(&[set("/body", &altered)])),
        ("with another secret", signed(&body(), "another").envelope(Front::HttpApi)),
        ("missing, like everything", with(&[("/headers", None), ("/body", None)])),
        (
            "missing in a batch",
            with(&[(header, None), set("/rawPath", "/events"), set("/body", &batch)]),
        ),
    ] {
        let unauthorized = answered(401, json!({ "error": "unauthorized" }));
        assert_eq!(world.invoke(&event).await, unauthorized, "{what}");
    }
    assert_eq!(world.clevertap.uploads().len(), 0);
}

#[tokio::test]
async fn an_old_signature_is_refused_beyond_the_tolerance() {
    let old = Webhook::new(body(), SHARED_SECRET, now_seconds() - 20 * 24 * 3600);
    let event = old.envelope(Front::HttpApi);
    assert_eq!(start(&[]).await.invoke(&event).await, relayed());
    let strict = start(&[("PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", "300")]).await;
    assert_eq!(strict.invoke(&event).await.status, 401);
    assert_eq!(strict.post(&body()).await, relayed());
}

#[tokio::test]
async fn an_unsigned_webhook_is_accepted_only_where_signatures_are_off() {
    let world = start(&[("PURCHASELY_SIGNATURE", "off")]).await;
    let mut event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    event["headers"] = json!({});
    assert_eq!(world.invoke(&event).await, relayed());
    let too_large = answered(413, json!({ "error": "payload_too_large" }));
    assert_eq!(world.post(&vec![b'x'; 256 * 1024 + 1]).await, too_large);
    let starts = |text: &str| text.starts_with("PURCHASELY_SIGNATURE is off");
    let line = world.line(|line| line["message"].as_str().is_some_and(starts)).await;
    assert_eq!(line["level"], "WARN");
}

#[tokio::test]
async fn serves_only_post() {
    let world = start(&[]).await;
    for method in ["GET", "PUT", "DELETE", "HEAD"] {
        let mut event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
        event["requestContext"]["http"]["method"] = json!(method);
        let answer = world.api.invoke(&event).await.unwrap();
        assert_eq!(
            (&answer["statusCode"], &answer["headers"]["allow"]),
            (&json!(405), &json!("POST"))
        );
        assert_eq!(answer["body"], r#"{"error":"method_not_allowed"}"#);
    }
}

#[tokio::test]
async fn a_body_over_256_kib_is_not_relayed_and_one_that_no_letter_holds_is_413() {
    let world = start(&[]).await;
    let huge = vec![b'x'; 2 * 1024 * 1024];
    let too_large = answered(413, json!({ "error": "payload_too_large" }));
    assert_eq!(world.post(&huge).await, too_large);
    // It could be kept, but there is no dead-letter queue.
    assert_eq!(world.post(&vec![b'x'; 256 * 1024 + 1]).await.status, 503);
    world.line(|line| line["reason"] == "too_large").await;
    let mut largest = body();
    largest.resize(256 * 1024, b' ');
    assert_eq!(world.post(&largest).await, relayed());
    let forged = signed(&huge, "another secret").envelope(Front::HttpApi);
    assert_eq!(world.invoke(&forged).await.status, 401);
}

#[tokio::test]
async fn what_cannot_be_read_is_401_or_an_error_of_the_invocation() {
    let load_balancer = json!({
        "requestContext": { "elb": { "targetGroupArn": "arn" } },
        "httpMethod": "POST", "path": "/", "headers": {}, "body": "x",
    });
    let mut nameless = message(&event("e-1", "u"), &[]);
    nameless["messageId"] = Value::Null;
    for signature in ["required", "off"] {
        let world = start(&[("PURCHASELY_SIGNATURE", signature)]).await;
        let answer = world.invoke(&load_balancer).await;
        assert_eq!(answer, answered(401, json!({ "error": "unauthorized" })));
        world.line(|line| line["reason"] == "unreadable_request").await;
        for event in [
            json!({ "is": "no request or batch" }),
            json!([]),
            json!("x"),
            json!({ "Records": "none" }),
            json!({ "Records": [7] }),
            json!({ "Records": [nameless] }),
        ] {
            assert!(world.api.invoke(&event).await.is_err(), "{event}");
        }
        let is_line = |line: &Value| line.to_string().contains("proxy integration");
        assert_eq!(world.line(is_line).await["level"], "ERROR");
    }
}

#[tokio::test]
async fn an_event_that_is_deliberately_not_sent_is_acknowledged_with_its_reason() {
    let settings = [
        ("EVENTS_DISABLED", "ACTIVATE"),
        ("USER_PROPERTIES", "none"),
        ("ANONYMOUS_USER_ID_AS", "clevertap_id"),
    ];
    let [world, other] = [start(&settings[..2]).await, start(&settings[2..]).await];
    let anonymous = |store| json!({ "event_name": "TRIAL_STARTED", "anonymous_user_id": "B3CD-1", "store": store });
    let sandbox =
        json!({ "event_name": "TRIAL_STARTED", "user_id": "u", "environment": "SANDBOX" });
    for (world, event, reason) in [
        (&world, json!({ "event_name": "ACTIVATE", "user_id": "u" }), "event_disabled"),
        (&world, sandbox, "sandbox"),
        (&world, anonymous("APPLE_APP_STORE"), "anonymous"),
        (&other, anonymous("STRIPE"), "anonymous_store"),
    ] {
        let expected = json!({ "status": "ignored", "reason": reason });
        assert_eq!(post(world, &event).await, answered(200, expected), "{reason}");
        let line = world.line(|line| line["reason"] == reason).await;
        assert_eq!(line["AnonymousIgnored"] == 1, reason.starts_with("anonymous"), "{line}");
    }
    assert_eq!(post(&other, &anonymous("APPLE_APP_STORE")).await.body["status"], "relayed");
    assert_eq!(other.clevertap.accepted()[0]["objectId"], "-hB3CD-1");
    let started = other.line(|line| line["message"] == "started").await;
    assert!(started["anonymous_buyers"].as_str().unwrap().contains("custom CleverTap ID"));
    assert_eq!(world.clevertap.uploads().len(), 0);
}

#[tokio::test]
async fn settings_decide_names_and_properties() {
    let world = start(&[
        ("EVENT_NAMES", "TRIAL_STARTED=Trial Started"),
        ("PROPERTIES_OMITTED", "device_id"),
        ("UNKNOWN_FIELDS", "drop"),
        ("ANONYMOUS_USER_ID_AS", "identity"),
        ("SANDBOX_EVENTS", "relay"),
    ])
    .await;
    let event = json!({ "event_name": "TRIAL_STARTED", "environment": "SANDBOX", "anonymous_user_id": "a-1",
        "device_id": "d", "brand_new": 1 });
    assert_eq!(post(&world, &event).await.status, 200);
    let mut record = world.clevertap.accepted().remove(0);
    record["ts"].take();
    let expected = json!({ "type": "event", "identity": "a-1", "ts": null, "evtName": "Trial Started",
        "evtData": { "anonymous_user_id": "a-1", "environment": "SANDBOX", "event_name": "TRIAL_STARTED" } });
    assert_eq!(record, expected);
    assert_eq!(world.clevertap.accepted().len(), 1);
}
