//! The SQS consumer: how long a failed message is delayed, which become dead letters, and what writes no profile.
//! It does not know which messages of a batch come again; the rows of `odd_answers` do.

use crate::{post, start, start_with, with_resources};
use purchasely_clevertap::clock::unix_time;
use serde_json::{Value, json};
use std::time::Duration;
use testkit::harness::{
    ACCOUNT_ID, PASSCODE, SHARED_SECRET, event, now_seconds, refuse, secret_value, signed,
};
use testkit::messages::{failures, message};
use testkit::sockets::Server;
use testkit::sockets::servers::aws_service;
use testkit::webhook::Front;
use testkit::world::clevertap::{CleverTap, Reply};
use testkit::world::faulty::Fault;
use testkit::world::secrets_manager::SecretsManager;

/// Messages of events with these ids of these users.
fn messages(events: &[(&str, &str)]) -> Vec<Value> {
    events.iter().map(|(id, user)| message(&event(id, user), &[])).collect()
}

#[tokio::test]
async fn a_failed_message_and_those_behind_it_are_delayed_together_in_one_call() {
    let slow = || Reply::Slow(Duration::from_millis(2200));
    let ann = [("e-1", "ann"), ("e-2", "ann"), ("e-3", "bob"), ("e-4", "bob")];
    let [three, unreadable] = [
        [("e-1", "ann"), ("e-2", "ann"), ("e-3", "ann")],
        [("e-1", "ann"), ("e-2", "bob"), ("e-3", "bob")],
    ];
    #[rustfmt::skip]
    let cases = [
        (vec![Reply::Status(429); 4], &ann[..1], "1", &["e-1"][..], 13..=17),
        // CleverTap may have the event.
        (vec![Reply::Status(503); 2], &ann[..1], "1", &["e-1"], 60..=77),
        (vec![Reply::CutShort], &ann[..1], "1", &["e-1"], 60..=77),
        // After the 400 each event is sent alone, and the second fails: a minute for the third time.
        (vec![Reply::Status(400), Reply::Normal, Reply::Status(401)], &unreadable, "3", &["e-2", "e-3"], 54..=66),
        // After a profile without an answer the rest of its user waits a minute.
        (vec![refuse(1, 555), Reply::Silent], &ann, "1", &["e-2"], 60..=77),
        // What has no turn before the time is up has not failed.
        (vec![slow(), slow()], &three, "1", &["e-3"], 0..=0),
    ];
    for (replies, events, received, again, seconds) in cases {
        let (url, seen) = aws_service().await;
        let queue = |name: &str| format!("{url}/123456789012/{name}.fifo");
        let settings = [
            ("EVENT_QUEUE_URL", &*queue("events")),
            ("DEAD_LETTER_QUEUE_URL", &queue("dead")),
            ("AWS_ENDPOINT_URL_SQS", &url),
        ];
        let world = start(&settings).await;
        world.clevertap.script(replies);
        let mut messages = messages(events);
        for message in &mut messages {
            message["attributes"]["ApproximateReceiveCount"] = json!(received);
        }
        if events == unreadable {
            messages[2]["body"] = json!("no json");
        }
        assert_eq!(failures(&world, &messages).await, again);
        let calls = seen.lock().unwrap().clone();
        let [(operation, change)] = &calls[..] else {
            panic!("{calls:?}");
        };
        assert_eq!(operation, "AmazonSQS.ChangeMessageVisibilityBatch");
        let entries = change["Entries"].as_array().unwrap();
        let handles = entries.iter().map(|entry| entry["ReceiptHandle"].as_str().unwrap());
        assert!(handles.eq(again.iter().map(|id| format!("handle-of-{id}"))), "{entries:?}");
        for entry in entries {
            let delay = &entry["VisibilityTimeout"];
            assert_eq!(delay, &entries[0]["VisibilityTimeout"]);
            assert!(seconds.contains(&delay.as_u64().unwrap()), "{seconds:?}: {entries:?}");
        }
    }
}

#[tokio::test]
async fn a_relayed_event_whose_profile_has_no_answer_comes_again_as_a_duplicate() {
    // What counts is that the claim is done, not that it could be taken.
    for unclaimed in [vec![], vec![Fault::Html]] {
        let (world, resources) = with_resources(&[]).await;
        resources.script_for(&["if_not_exists"], unclaimed);
        world.clevertap.script([refuse(1, 555), Reply::Silent]);
        let messages = messages(&[("e-1", "ann")]);
        assert_eq!(failures(&world, &messages).await, ["e-1"]);
        assert_eq!(failures(&world, &messages).await, [""; 0]);
        world.line(|line| line["outcome"] == "duplicate").await;
        assert_eq!(world.clevertap.uploads().len(), 2);
    }
}

#[tokio::test]
async fn a_message_that_still_fails_after_13_days_or_unexplained_after_one_is_a_dead_letter() {
    let (world, resources) = with_resources(&[]).await;
    for (id, hours, reply, letter) in [
        ("e-1", 12 * 24, Reply::Status(401), None),
        ("e-2", 14 * 24, Reply::Status(401), Some("retries_exhausted")),
        ("e-3", 23, Reply::FailWithoutReasons, None),
        ("e-4", 25, Reply::FailWithoutReasons, Some("refused")),
    ] {
        let mut message = message(&event(id, "ann"), &[]);
        let sent_at = unix_time().as_millis() - hours * 60 * 60 * 1000;
        message["attributes"]["SentTimestamp"] = json!(sent_at.to_string());
        // What is unexplained is sent as it is, again, and without its profile.
        world.clevertap.set_script(vec![reply; 3], Reply::Normal);
        let again = if letter.is_none() { &[id][..] } else { &[] };
        assert_eq!(failures(&world, &[message]).await, again);
        let letters = resources.letters();
        let reasons: Vec<_> =
            letters.iter().map(|letter| &letter["attributes"]["reason"]).collect();
        assert_eq!(reasons, letter.into_iter().collect::<Vec<_>>(), "{id}");
    }
}

#[tokio::test]
async fn what_was_redriven_moved_or_replayed_writes_no_profile() {
    let world = start(&[]).await;
    let received_at = ("received_at", "2026-03-02T08:15:30.25Z");
    let received_ms = 1_772_439_330_250_u64;
    let with = |id, attribute| message(&event(id, id), &[attribute]);
    // A minute on the way to the queue is much; six minutes are another queue.
    let [late, moved] = [("late", 60_000), ("moved", 360_000)].map(|(id, later)| {
        let mut message = with(id, received_at);
        message["attributes"]["SentTimestamp"] = json!((received_ms + later).to_string());
        message
    });
    let marked = [with("redriven", ("reason", "refused")), with("replayed", ("replayed", "true"))];
    let batch = [&marked[..], &[late, moved], &messages(&[("first", "first")])].concat();
    assert_eq!(failures(&world, &batch).await, [""; 0]);
    let webhook = signed(event("e", "u").to_string().as_bytes(), SHARED_SECRET);
    let mut webhook = webhook.envelope(Front::HttpApi);
    webhook["headers"]["x-replayed"] = json!("true");
    assert_eq!(world.invoke(&webhook).await.status, 200);
    let mut accepted = world.clevertap.accepted();
    accepted.retain(|record| record["type"] == "profile");
    let profiles: Vec<_> = accepted.iter().map(|record| &record["identity"]).collect();
    assert_eq!(profiles, ["late", "first"]);
}

#[tokio::test]
async fn a_replayed_webhook_may_name_the_only_records_to_send_and_has_no_age() {
    let world = start(&[("REVENUE_EVENT", "Charged")]).await;
    let mut paid = event("e-1", "u");
    paid["event_name"] = json!("TRANSACTION_PROCESSED");
    paid["amount_in_usd"] = json!(5);
    paid["event_created_at_ms"] = json!(now_seconds() * 1000);
    let names = ["TRANSACTION_PROCESSED", "Charged"];
    for (value, expected) in [("revenue", &names[1..]), ("event", &names[..1]), ("true", &names)] {
        let webhook = signed(paid.to_string().as_bytes(), SHARED_SECRET);
        let mut webhook = webhook.envelope(Front::HttpApi);
        webhook["headers"]["x-replayed"] = json!(value);
        assert_eq!(world.invoke(&webhook).await.status, 200);
        let upload: Value =
            serde_json::from_slice(&world.clevertap.take_uploads()[0].body).unwrap();
        let sent = upload["d"].as_array().unwrap().iter().map(|record| &record["evtName"]);
        assert_eq!(sent.collect::<Vec<_>>(), expected, "{value}");
    }
    assert!(world.line(|line| line["outcome"] == "relayed").await["EventAge"].is_null());
    post(&world, &paid).await;
    world.line(|line| line["EventAge"].is_u64()).await;
}

#[tokio::test]
async fn sandbox_and_production_purchases_of_a_batch_are_one_upload_for_each_account() {
    let mut secret: Value = serde_json::from_str(&secret_value(PASSCODE, SHARED_SECRET)).unwrap();
    secret["clevertap_sandbox_passcode"] = json!("sandbox");
    let manager = SecretsManager::new("relay", &secret.to_string());
    // Both accounts share one address here, which accepts the sandbox's records alone.
    let clevertap = Server::start(CleverTap::new("TEST-1-2", "sandbox")).await;
    let settings = [
        ("SANDBOX_EVENTS", ""),
        ("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-1-2"),
        ("CLEVERTAP_API_URL", &*clevertap.url),
    ];
    let world = start_with(manager, &settings).await;
    let mut batch = messages(&[("e-1", "u-1"), ("e-3", "u-3")]);
    let mut sandbox = event("e-2", "u-2");
    sandbox["environment"] = json!("SANDBOX");
    batch.insert(1, message(&sandbox, &[]));
    assert_eq!(failures(&world, &batch).await, ["e-1", "e-3"]);
    let accepted = clevertap.accepted();
    let whole: Vec<_> = accepted.iter().map(|record| &record["type"]).collect();
    assert_eq!(whole, ["profile", "event"]);
    let uploads = clevertap.uploads();
    let main = uploads.iter().find(|upload| upload.account_id.as_deref() == Some(ACCOUNT_ID));
    assert_eq!(main.unwrap().passcode.as_deref(), Some(PASSCODE));
    assert_eq!(uploads.len(), 2);
}

#[tokio::test]
async fn a_missing_sandbox_passcode_blocks_no_production_purchase() {
    let settings = [("SANDBOX_EVENTS", ""), ("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-1-2")];
    let world = start(&settings).await;
    let mut sandbox = event("e-1", "u");
    sandbox["environment"] = json!("SANDBOX");
    assert_eq!(post(&world, &sandbox).await.status, 503);
    let line = world.line(|line| line["reason"] == "no_sandbox_passcode").await;
    assert!(
        line["message"].as_str().unwrap().contains("clevertap_sandbox_passcode"),
        "{line}"
    );
    assert_eq!(post(&world, &event("e-2", "u")).await.status, 200);
}
