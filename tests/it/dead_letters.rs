//! Events that can never be relayed: stored in the dead-letter queue, acknowledged, and relayed by a redrive.
//! It does not know the queue's alarms; `monitoring.rs` does.

use purchasely_clevertap::aws::queues::group_id;
use serde_json::{Value, json};
use std::future::pending;
use std::time::Duration;
use testkit::harness::with_resources;
use testkit::harness::{World, answered, event, refuse};
use testkit::messages::{failures, message};
use testkit::sockets::servers::{aws_service, server};
use testkit::world::Ending;

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
    let letters = resources.letters();
    assert_eq!(letters.len(), 6);
    let find = |reason: &str| {
        let mut letters = letters.iter();
        letters.find(|letter| letter["attributes"]["reason"] == reason)
    };
    let mut letter = find("refused").unwrap().clone();
    let received_at = letter["attributes"]["received_at"].take();
    assert!(received_at.as_str().unwrap().ends_with('Z'));
    // Without `records`: the redrive of a lone event needs no list, and repeats no profile.
    let attributes = json!({
        "reason": "refused", "code": "513", "received_at": null,
        "event_id": "e-1", "event_name": "SUBSCRIPTION_RENEWED",
    });
    let expected = json!({ "body": refused, "group": group_id(b"u-1"), "attributes": attributes });
    assert_eq!(letter, expected);
    let unreadable = find("not_json").unwrap();
    assert_eq!(unreadable["group"], group_id(b"no json"));
    assert_eq!(unreadable["attributes"].as_object().unwrap().len(), 2);
}

#[tokio::test]
async fn a_webhook_that_is_too_large_is_kept_unread_wherever_it_comes_from() {
    let (url, seen) = aws_service(|_| None).await;
    let queue = format!("{url}/123456789012/dead.fifo");
    let settings = [("DEAD_LETTER_QUEUE_URL", &*queue), ("AWS_ENDPOINT_URL_SQS", &url)];
    let world = World::start(&settings).await;
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
    let (world, _resources) =
        with_resources(&[("DEAD_LETTER_QUEUE_URL", "http://localhost/1/missing.fifo")]).await;
    assert_eq!(world.post(b"{}").await, answered(503, json!({ "error": "unavailable" })));
    world
        .function
        .wait_for_log(|line| line.contains("check DEAD_LETTER_QUEUE_URL"))
        .await;
}

#[tokio::test]
async fn a_silent_queue_after_a_slow_refusal_is_503_in_time() {
    let refusal = json!({ "code": 513, "error": "Skipped record number : 1" });
    let refusal = json!({ "status": "fail", "processed": 0, "unprocessed": [refusal] });
    let clevertap = server(move |_, request| {
        let is_upload = request.uri().path() == "/1/upload";
        let refusal = refusal.to_string();
        async move {
            tokio::time::sleep(Duration::from_secs(if is_upload { 5 } else { 0 })).await;
            Ending::answer(200, "application/json", refusal)
        }
    })
    .await;
    let settings = [
        ("CLEVERTAP_API_URL", &*clevertap),
        ("USER_PROPERTIES", "none"),
        ("DEAD_LETTER_QUEUE_URL", "http://localhost/123456789012/dead.fifo"),
        ("AWS_ENDPOINT_URL_SQS", &server(|_, _| pending()).await),
    ];
    let world = World::start(&settings).await;
    let answer = world.post(event("e-1", "u").to_string().as_bytes()).await;
    assert_eq!(answer.status, 503);
    let line = world.line(|line| line["outcome"] == "unavailable").await;
    assert_eq!(line["reason"], "dead_letter_failed", "{line}");
    assert_eq!(line["clevertap_status"], 200, "{line}");
}

/// The message that a redrive makes of a dead letter: it moves body, group and attributes.
fn redriven(letter: &Value) -> Value {
    let attributes = letter["attributes"].as_object().unwrap().iter();
    let attributes: Vec<_> =
        attributes.map(|(name, value)| (&**name, value.as_str().unwrap())).collect();
    let mut message = message(&event("redriven", "u"), &attributes);
    message["body"] = letter["body"].clone();
    message["attributes"]["MessageGroupId"] = letter["group"].clone();
    message
}

#[tokio::test]
async fn a_redrive_relays_a_dead_letter_once_its_cause_is_fixed() {
    let (world, resources) = with_resources(&[]).await;
    let poison = json!({ "event_name": "$$$", "event_id": "e-1", "user_id": "u" });
    let answer = world.post(poison.to_string().as_bytes()).await;
    assert_eq!(answer.body["status"], "dead_lettered");
    let letter = redriven(&resources.letters().remove(0));
    // Redriven too early it is a dead letter again, and does not vanish.
    assert_eq!(failures(&world, std::slice::from_ref(&letter)).await, [""; 0]);
    assert_eq!(resources.letters().len(), 1);

    let settings = [&resources.settings()[..], &[("EVENT_NAMES", "$$$=Fixed")]].concat();
    let fixed = World::start(&settings).await;
    assert_eq!(failures(&fixed, &[letter]).await, [""; 0]);
    assert_eq!(fixed.clevertap.accepted()[0]["evtName"], "Fixed");
    assert_eq!(resources.claim("id:e-1", "state").as_deref(), Some("done"));
}

#[tokio::test]
async fn a_message_that_cannot_be_decoded_is_a_dead_letter() {
    let (world, resources) = with_resources(&[]).await;
    let mut text = message(&event("e-1", "u"), &[]);
    text["body"] = json!("not json");
    let encoded = message(&event("e-2", "u"), &[("encoding", "rot13")]);
    assert_eq!(failures(&world, &[text, encoded]).await, [""; 0]);
    assert_eq!(resources.letters().len(), 2);
}
