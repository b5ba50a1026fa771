//! Events that can never be relayed: what is stored in the dead-letter queue.
//! It does not know when an event is one, nor the redrive; the rows of `odd_answers` do.

use crate::{start, with_resources};
use purchasely_clevertap::aws::queues::group_id;
use serde_json::{Value, json};
use testkit::harness::{answered, event, refuse};
use testkit::messages::{failures, message};
use testkit::sockets::servers::aws_service;

#[tokio::test]
async fn an_event_that_can_never_be_relayed_is_stored_and_acknowledged() {
    let (world, resources) = with_resources(&[]).await;
    world.clevertap.script([refuse(2, 513)]);
    let refused = event("e-1", "u-1").to_string();
    let anonymous = r#"{"event_name":"ACTIVATE","event_id":"e-2"}"#;
    let version_two = r#"{"name":"ACTIVATE","user":{}}"#;
    for (body, reason, id) in [
        (&refused[..], "refused", Some("e-1")),
        ("no json", "not_json", None),
        ("[]", "not_an_object", None),
        (version_two, "payload_version_two", None),
        ("{}", "no_event_name", None),
        (anonymous, "no_identity", Some("e-2")),
    ] {
        let mut expected = json!({ "status": "dead_lettered", "reason": reason });
        if let Some(id) = id {
            expected["event_id"] = json!(id);
        }
        let answer = world.post(body.as_bytes()).await;
        assert_eq!(answer, answered(200, expected), "{reason}");
    }
    let mut text = message(&event("e-3", "u"), &[]);
    text["body"] = json!("no json either");
    let encoded = message(&event("e-4", "u"), &[("encoding", "rot13")]);
    assert_eq!(failures(&world, &[text, encoded]).await, [""; 0]);
    let letters = resources.letters();
    assert_eq!(letters.len(), 8);
    let of_group = |group: &[u8]| letters.iter().find(|letter| letter["group"] == group_id(group));
    let mut letter = of_group(b"u-1").unwrap().clone();
    let received_at = letter["attributes"]["received_at"].take();
    assert!(received_at.as_str().unwrap().ends_with('Z'));
    // Without `records`: the redrive of a lone event needs no list, and repeats no profile.
    let attributes = json!({ "reason": "refused", "code": "513", "received_at": null, "event_id": "e-1", "event_name": "SUBSCRIPTION_RENEWED" });
    let expected = json!({ "body": refused, "group": group_id(b"u-1"), "attributes": attributes });
    assert_eq!(letter, expected);
    let unreadable = &of_group(b"no json").unwrap()["attributes"];
    assert_eq!(unreadable["reason"], "not_json");
    assert_eq!(unreadable.as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_webhook_that_is_too_large_is_kept_unread_wherever_it_comes_from() {
    let (url, seen) = aws_service().await;
    let queue = format!("{url}/123456789012/dead.fifo");
    let settings = [("DEAD_LETTER_QUEUE_URL", &*queue), ("AWS_ENDPOINT_URL_SQS", &url)];
    let world = start(&settings).await;
    let mut large = event("e-1", "u");
    large["x"] = json!("x".repeat(256 * 1024));
    let body = large.to_string();
    let expected = json!({ "status": "dead_lettered", "reason": "too_large" });
    assert_eq!(world.post(body.as_bytes()).await, answered(200, expected));
    assert_eq!(failures(&world, &[message(&large, &[])]).await, [""; 0]);
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 2);
    for (_, letter) in seen.iter() {
        assert_eq!(letter["MessageGroupId"], group_id(body.as_bytes()));
        assert_eq!(letter["MessageBody"], body);
        let attributes = letter["MessageAttributes"].as_object().unwrap();
        let names: Vec<_> = attributes.keys().map(String::as_str).collect();
        assert_eq!(names, ["reason", "received_at"]);
    }
    assert_eq!(world.clevertap.uploads().len(), 0);
}

#[tokio::test]
async fn a_queue_that_does_not_exist_is_named_by_its_setting() {
    let missing = ("DEAD_LETTER_QUEUE_URL", "http://localhost/1/missing.fifo");
    let (world, _resources) = with_resources(&[missing]).await;
    assert_eq!(world.post(b"{}").await, answered(503, json!({ "error": "unavailable" })));
    let is_it = |line: &Value| line.to_string().contains("check DEAD_LETTER_QUEUE_URL");
    world.line(is_it).await;
}
