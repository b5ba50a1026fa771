//! `DELIVERY=queue`, end to end: the HTTP endpoint, the queue, and the function as its consumer.
//! It does not know the rules for single messages; `sqs.rs` does.

use purchasely_clevertap::aws::queues::group_id;
use serde_json::json;
use std::collections::BTreeSet;
use testkit::harness::{
    SHARED_SECRET, World, body, event, relayed, signed, unavailable, with_resources,
};
use testkit::sockets::resources::Resources;
use testkit::sockets::servers::{aws_service, refusing_port};
use testkit::webhook::Front as Gateway;

const QUEUE: (&str, &str) = ("DELIVERY", "queue");

/// A function in queue mode.
async fn with_queue() -> (World, Resources) {
    with_resources(&[QUEUE]).await
}

#[tokio::test]
async fn a_webhook_is_answered_once_queued_and_relayed_with_its_profile_from_there() {
    let (world, resources) = with_queue().await;
    let mut queued = relayed();
    queued.body["status"] = json!("queued");
    assert_eq!(world.post(&body()).await, queued);
    let line = world.line(|line| line["outcome"] == "queued").await;
    assert_eq!(line["Queued"], 1);
    assert!(line["EventAge"].is_u64(), "{line}");
    // A process that only puts webhooks into the queue needs no connection to CleverTap.
    assert_eq!(world.clevertap.connections(), 0);

    resources.drain(async |batch| world.api.invoke(batch).await).await;
    let accepted = world.clevertap.accepted();
    let kinds: Vec<_> = accepted.iter().map(|record| &record["type"]).collect();
    assert_eq!(kinds, ["profile", "event"]);
    let line = world.line(|line| line["outcome"] == "relayed").await;
    // The event arrived once.
    assert!(line["EventAge"].is_null(), "{line}");
    assert_eq!(resources.letters().len(), 0);
}

#[tokio::test]
async fn what_needs_no_upload_is_answered_as_in_direct_mode_and_not_queued() {
    let (world, resources) = with_queue().await;
    let anonymous = json!({ "event_name": "ACTIVATE", "event_id": "e", "anonymous_user_id": "a" });
    let nobody = json!({ "event_name": "ACTIVATE", "event_id": "e" });
    for (body, status, reason) in [
        (anonymous.to_string(), "ignored", "anonymous"),
        (nobody.to_string(), "dead_lettered", "no_identity"),
        ("no json".to_owned(), "dead_lettered", "not_json"),
    ] {
        let answer = world.post(body.as_bytes()).await;
        let words = ["status", "reason"].map(|name| answer.body[name].as_str());
        assert_eq!(words, [Some(status), Some(reason)]);
    }
    let forged = signed(&body(), "another").envelope(Gateway::HttpApi);
    assert_eq!(world.invoke(&forged).await.status, 401);
    assert_eq!(resources.letters().len(), 2);
    assert_eq!(resources.depth(), 0);
}

#[tokio::test]
async fn a_webhook_that_sqs_does_not_take_is_503() {
    let (_socket, refusing) = refusing_port();
    let (world, resources) = with_queue().await;
    drop(world);
    let missing = format!("{}/123456789012/missing.fifo", resources.url);
    for settings in [
        [QUEUE, ("EVENT_QUEUE_URL", &missing), ("AWS_ENDPOINT_URL_SQS", &resources.url)],
        [QUEUE, ("EVENT_QUEUE_URL", &missing), ("AWS_ENDPOINT_URL_SQS", &refusing)],
    ] {
        let world = World::start(&settings).await;
        assert_eq!(world.post(&body()).await, unavailable());
        let line = world.line(|line| line["reason"] == "queue_failed").await;
        assert_eq!((&line["level"], &line["Class"]), (&json!("ERROR"), &json!("queue")));
    }
}

#[tokio::test]
async fn a_copy_is_dropped_by_sqs_and_a_replay_is_not() {
    let (url, seen) = aws_service(|_| None).await;
    let queue = format!("{url}/123456789012/events.fifo");
    let settings = [QUEUE, ("EVENT_QUEUE_URL", &queue), ("AWS_ENDPOINT_URL_SQS", &url)];
    let world = World::start(&settings).await;
    let webhook = signed(event("e-1", "u").to_string().as_bytes(), SHARED_SECRET);
    let webhook = webhook.envelope(Gateway::HttpApi);
    let mut replay = webhook.clone();
    replay["headers"]["x-replayed"] = json!("event");
    for envelope in [&webhook, &webhook, &replay, &replay] {
        assert_eq!(world.invoke(envelope).await.body["status"], "queued");
    }
    let seen = seen.lock().unwrap();
    let ids: Vec<_> = seen.iter().map(|(_, message)| &message["MessageDeduplicationId"]).collect();
    assert_eq!(ids[0], ids[1]);
    let different: BTreeSet<_> = ids.iter().map(ToString::to_string).collect();
    assert_eq!(different.len(), 3);
    for (number, (operation, message)) in seen.iter().enumerate() {
        assert_eq!(operation, "AmazonSQS.SendMessage");
        assert_eq!(message["MessageGroupId"], group_id(b"u"));
        let attribute = |name: &str| message["MessageAttributes"][name]["StringValue"].as_str();
        assert!(attribute("received_at").unwrap().ends_with('Z'));
        let marks = [attribute("replayed"), attribute("records")];
        let expected = if number < 2 {
            [None, None]
        } else {
            [Some("true"), Some("event")]
        };
        assert_eq!(marks, expected);
    }
}

#[tokio::test]
async fn a_message_belongs_to_purchaselys_own_user_whoever_that_is_in_clevertap() {
    let (url, seen) = aws_service(|_| None).await;
    let queue = format!("{url}/123456789012/events.fifo");
    let settings = [
        QUEUE,
        ("EVENT_QUEUE_URL", &queue),
        ("AWS_ENDPOINT_URL_SQS", &url),
        ("ANONYMOUS_USER_ID_AS", "identity"),
    ];
    let world = World::start(&settings).await;
    let ids = [
        json!({ "user_id": "u" }),
        json!({ "user_id": "u", "clevertap_id": "__g1" }),
        json!({ "user_id": "u", "anonymous_user_id": "a" }),
        json!({ "anonymous_user_id": "a" }),
        json!({ "clevertap_id": "__g1" }),
    ];
    let bodies = ids.map(|mut webhook| {
        webhook["event_name"] = json!("ACTIVATE");
        webhook.to_string()
    });
    for body in &bodies {
        assert_eq!(world.post(body.as_bytes()).await.body["status"], "queued");
    }
    let seen = seen.lock().unwrap();
    let groups: Vec<_> = seen.iter().map(|(_, message)| &message["MessageGroupId"]).collect();
    let expected = [b"u", b"u", b"u", b"a", bodies[4].as_bytes()].map(group_id);
    assert_eq!(groups, expected.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn the_queue_takes_the_largest_body_and_gives_it_back_byte_for_byte() {
    let (world, resources) = with_queue().await;
    // SQS does not accept the character, so the body is base64 and longer still.
    let mut large = event("e-1", "u");
    large["presentation"] = json!("\u{fffe}");
    let size = large.to_string().len();
    let body = large.to_string() + &" ".repeat(256 * 1024 - size);
    assert_eq!(world.post(body.as_bytes()).await.body["status"], "queued");
    resources.drain(async |batch| world.api.invoke(batch).await).await;
    let record = world.clevertap.accepted().pop().unwrap();
    assert_eq!(record["evtData"]["presentation"], "\u{fffe}");
}
