//! `DELIVERY=queue`, end to end: the HTTP endpoint, the queue, and the function as its consumer.
//! It does not know the rules for single messages; `sqs.rs` does.

use crate::{post, start, with_resources};
use purchasely_clevertap::aws::queues::group_id;
use serde_json::json;
use std::collections::BTreeSet;
use testkit::harness::{SHARED_SECRET, body, event, relayed, signed};
use testkit::sockets::servers::aws_service;
use testkit::webhook::Front;

const QUEUE: (&str, &str) = ("DELIVERY", "queue");

#[tokio::test]
async fn a_webhook_is_answered_once_queued_and_relayed_with_its_profile_from_there() {
    let (world, resources) = with_resources(&[QUEUE]).await;
    let mut queued = relayed();
    queued.body["status"] = json!("queued");
    assert_eq!(world.post(&body()).await, queued);
    let line = world.line(|line| line["outcome"] == "queued").await;
    assert_eq!(line["Queued"], 1);
    assert!(line["EventAge"].is_u64(), "{line}");
    // A process that only puts webhooks into the queue needs no connection to CleverTap.
    assert_eq!(world.clevertap.connections(), 0);

    // SQS does not accept the character, so the body is base64, and it has the most bytes that are relayed.
    let mut large = event("e-1", "u-1");
    large["presentation"] = json!("a\u{fffe}b");
    let size = large.to_string().len();
    let large = large.to_string() + &" ".repeat(256 * 1024 - size);
    assert_eq!(world.post(large.as_bytes()).await.body["status"], "queued");

    resources.drain(async |batch| world.api.invoke(batch).await).await;
    let accepted = world.clevertap.accepted();
    let kinds: Vec<_> = accepted.iter().map(|record| &record["type"]).collect();
    assert_eq!(kinds, ["profile", "event", "profile", "event"]);
    assert!(accepted.iter().any(|record| record["evtData"]["presentation"] == "a\u{fffe}b"));
    let line = world.line(|line| line["outcome"] == "relayed").await;
    // The event arrived once.
    assert!(line["EventAge"].is_null(), "{line}");
    assert_eq!(resources.letters().len(), 0);
}

#[tokio::test]
async fn what_needs_no_upload_is_answered_as_in_direct_mode_and_not_queued() {
    let (world, resources) = with_resources(&[QUEUE]).await;
    for (body, status, reason) in [
        (r#"{"event_name":"ACTIVATE","anonymous_user_id":"a"}"#, "ignored", "anonymous"),
        (r#"{"event_name":"ACTIVATE"}"#, "dead_lettered", "no_identity"),
        ("no json", "dead_lettered", "not_json"),
    ] {
        let answer = world.post(body.as_bytes()).await;
        assert_eq!(answer.body, json!({ "status": status, "reason": reason }));
    }
    let forged = signed(&body(), "another").envelope(Front::HttpApi);
    assert_eq!(world.invoke(&forged).await.status, 401);
    assert_eq!((resources.letters().len(), resources.depth()), (2, 0));
}

#[tokio::test]
async fn a_copy_is_dropped_by_sqs_and_a_replay_is_not() {
    let (url, seen) = aws_service().await;
    let queue = format!("{url}/123456789012/events.fifo");
    let settings = [QUEUE, ("EVENT_QUEUE_URL", &queue), ("AWS_ENDPOINT_URL_SQS", &url)];
    let world = start(&settings).await;
    let webhook = signed(event("e-1", "u").to_string().as_bytes(), SHARED_SECRET);
    let webhook = webhook.envelope(Front::HttpApi);
    let mut replay = webhook.clone();
    replay["headers"]["x-replayed"] = json!("event");
    for envelope in [&webhook, &webhook, &replay, &replay] {
        assert_eq!(world.invoke(envelope).await.body["status"], "queued");
    }
    // Whoever has no user of Purchasely's is a group of one, whatever the identity in CleverTap.
    let without_user = json!({ "event_name": "ACTIVATE", "clevertap_id": "__g1" });
    post(&world, &without_user).await;
    let seen = seen.lock().unwrap();
    let (_, last) = &seen[4];
    assert_eq!(last["MessageGroupId"], group_id(without_user.to_string().as_bytes()));
    let ids: Vec<_> = seen.iter().map(|(_, message)| &message["MessageDeduplicationId"]).collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[1..].iter().map(|id| id.as_str()).collect::<BTreeSet<_>>().len(), 4);
    for ((operation, message), records) in
        seen.iter().zip([None, None, Some("event"), Some("event")])
    {
        assert_eq!(operation, "AmazonSQS.SendMessage");
        assert_eq!(message["MessageGroupId"], group_id(b"u"));
        let attribute = |name: &str| message["MessageAttributes"][name]["StringValue"].as_str();
        assert!(attribute("received_at").unwrap().ends_with('Z'));
        assert_eq!(["replayed", "records"].map(attribute), [records.map(|_| "true"), records]);
    }
}
