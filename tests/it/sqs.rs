//! The SQS consumer: which messages of a batch are relayed, and which come again.
//! It does not know SQS itself; the batches are written as Lambda delivers them.

use purchasely_clevertap::clock::unix_time;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::harness::{PASSCODE, SHARED_SECRET, World, event, refuse, signed, with_resources};
use testkit::messages::{failures, message};
use testkit::sockets::servers::aws_service;
use testkit::webhook::Front;
use testkit::world::clevertap::Reply;
use testkit::world::faulty::Fault;
use testkit::world::secrets_manager::SecretsManager;

/// The ids of the events in each upload so far.
fn sent(world: &World) -> Vec<Vec<String>> {
    let ids = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).unwrap();
        let events = body["d"].as_array().unwrap().iter();
        let events = events.filter(|record| record["type"] == "event");
        let id = |record: &Value| record["evtData"]["event_id"].as_str().unwrap().to_owned();
        events.map(id).collect()
    };
    let uploads = world.clevertap.uploads();
    uploads.iter().map(|upload| ids(&upload.body)).collect()
}

#[tokio::test]
async fn a_batch_is_one_upload_and_completes_each_claim() {
    let (world, resources) = with_resources(&[]).await;
    let ids: Vec<_> = (0..10).map(|n| format!("e-{n}")).collect();
    let messages: Vec<_> = ids.iter().map(|id| message(&event(id, id), &[])).collect();
    // The same batch again is all duplicates.
    for _ in 0..2 {
        assert_eq!(failures(&world, &messages).await, [""; 0]);
        assert_eq!(sent(&world), [&*ids]);
    }
    for id in ids {
        let claim = resources.claim(&format!("id:{id}"), "state");
        assert_eq!(claim.as_deref(), Some("done"), "{id}");
    }
}

#[tokio::test]
async fn an_event_in_progress_elsewhere_blocks_only_its_user() {
    let (world, resources) = with_resources(&[]).await;
    resources.put_claim("id:e-1", "in_progress", unix_time().as_millis() + 600_000);
    let users = [("e-1", "ann"), ("e-2", "bob"), ("e-3", "ann")];
    let messages = users.map(|(id, user)| message(&event(id, user), &[]));
    assert_eq!(failures(&world, &messages).await, ["e-1", "e-3"]);
    assert_eq!(sent(&world), [["e-2"]]);
}

#[tokio::test]
async fn an_event_that_can_never_be_relayed_waits_behind_a_failed_one_of_its_user() {
    let (world, resources) = with_resources(&[]).await;
    world.clevertap.script([Reply::Status(418)]);
    let mut poison = event("e-2", "ann");
    poison["event_name"] = json!("$$$");
    let messages = [message(&event("e-1", "ann"), &[]), message(&poison, &[])];
    assert_eq!(failures(&world, &messages).await, ["e-1", "e-2"]);
    assert_eq!(resources.letters().len(), 0);
}

#[tokio::test]
async fn the_second_of_two_copies_in_a_batch_has_the_firsts_outcome() {
    let mut copies = [(); 2].map(|()| message(&event("e-1", "u"), &[]));
    copies[1]["messageId"] = json!("copy");
    for (reply, again, letters) in [
        (Reply::Normal, &[][..], 0),
        (Reply::Status(418), &["copy", "e-1"], 0),
        (refuse(2, 513), &[], 1),
    ] {
        let (world, resources) = with_resources(&[]).await;
        world.clevertap.script([reply.clone()]);
        assert_eq!(failures(&world, &copies).await, again, "{reply:?}");
        assert_eq!(sent(&world), [["e-1"]], "{reply:?}");
        assert_eq!(resources.letters().len(), letters, "{reply:?}");
    }
}

#[tokio::test]
async fn a_redriven_or_replayed_event_writes_no_profile() {
    let (world, _resources) = with_resources(&[]).await;
    let messages = [
        message(&event("e-1", "u-1"), &[("reason", "refused")]),
        message(&event("e-2", "u-2"), &[("replayed", "true")]),
        message(&event("e-3", "u-3"), &[]),
    ];
    assert_eq!(failures(&world, &messages).await, [""; 0]);
    let replayed = event("e-4", "u-4").to_string();
    let mut replayed = signed(replayed.as_bytes(), SHARED_SECRET).envelope(Front::HttpApi);
    replayed["headers"]["x-replayed"] = json!("true");
    assert_eq!(world.invoke(&replayed).await.status, 200);
    let mut accepted = world.clevertap.accepted();
    accepted.retain(|record| record["type"] == "profile");
    let profiles: Vec<_> = accepted.iter().map(|record| &record["identity"]).collect();
    assert_eq!(profiles, ["u-3"]);
}

#[tokio::test]
async fn a_replayed_webhook_may_name_the_only_records_to_send() {
    let world = World::start(&[("REVENUE_EVENT", "Charged")]).await;
    let mut paid = event("e-1", "u");
    paid["event_name"] = json!("TRANSACTION_PROCESSED");
    paid["amount_in_usd"] = json!(5);
    let names = ["TRANSACTION_PROCESSED", "Charged"];
    for (value, expected) in [("revenue", &names[1..]), ("event", &names[..1]), ("true", &names)] {
        let before = world.clevertap.accepted().len();
        let mut replayed =
            signed(paid.to_string().as_bytes(), SHARED_SECRET).envelope(Front::HttpApi);
        replayed["headers"]["x-replayed"] = json!(value);
        assert_eq!(world.invoke(&replayed).await.status, 200);
        let accepted = world.clevertap.accepted().split_off(before);
        let sent: Vec<_> = accepted.iter().map(|record| &record["evtName"]).collect();
        assert_eq!(sent, expected, "{value}");
    }
}

#[tokio::test]
async fn a_message_in_base64_or_that_names_no_known_record_is_relayed_whole() {
    let (world, _resources) = with_resources(&[]).await;
    let mut odd = event("e-1", "u-1");
    odd["presentation"] = json!("a\u{fffe}b");
    let message = message(&odd, &[("reason", "refused"), ("records", "everything")]);
    let encoding = &message["messageAttributes"]["encoding"]["stringValue"];
    assert_eq!(encoding, "base64");
    assert_eq!(failures(&world, &[message]).await, [""; 0]);
    let record = &world.clevertap.accepted()[0];
    assert_eq!(record["evtData"]["presentation"], "a\u{fffe}b");
}

#[tokio::test]
async fn without_a_secret_every_message_comes_again() {
    let world = World::start_with(SecretsManager::new("relay", "no json"), &[]).await;
    let messages = ["e-1", "e-2"].map(|id| message(&event(id, id), &[]));
    assert_eq!(failures(&world, &messages).await, ["e-1", "e-2"]);
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_is_an_error_and_never_a_success() {
    let world = World::start(&[]).await;
    let mut nameless = message(&event("e-1", "u"), &[]);
    nameless["messageId"] = Value::Null;
    for records in [json!([nameless]), json!("none"), json!([7])] {
        let answer = world.api.invoke(json!({ "Records": records })).await;
        assert!(answer.is_err(), "{records}: {answer:?}");
    }
}

#[tokio::test]
async fn sandbox_and_production_purchases_of_a_batch_are_one_upload_for_each_account() {
    let secret = json!({
        "clevertap_passcode": PASSCODE,
        "clevertap_sandbox_passcode": "sandbox",
        "purchasely_shared_secret": SHARED_SECRET,
    });
    let manager = SecretsManager::new("relay", &secret.to_string());
    let world = World::start_with(manager, &[("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-1-2")]).await;
    let mut sandbox = event("e-2", "u-2");
    sandbox["environment"] = json!("SANDBOX");
    let messages = [event("e-1", "u-1"), sandbox, event("e-3", "u-3")];
    let messages = messages.map(|event| message(&event, &[]));
    // The stand-in has only the main account, so it does not accept the sandbox event.
    assert_eq!(failures(&world, &messages).await, ["e-2"]);
    // Both go side by side.
    let sent = sent(&world);
    assert!(sent.contains(&vec!["e-1".to_owned(), "e-3".to_owned()]), "{sent:?}");
    let of_sandbox = sent.iter().position(|ids| ids == &["e-2"]).unwrap();
    let account = world.clevertap.uploads()[of_sandbox].account_id.clone();
    assert_eq!(account.as_deref(), Some("TEST-1-2"));
}

/// A function whose calls to SQS are only noted: each as its operation and body.
async fn with_noted_calls() -> (World, Arc<Mutex<Vec<(String, Value)>>>) {
    let (url, seen) = aws_service(|_| None).await;
    let queue = |name: &str| format!("{url}/123456789012/{name}.fifo");
    let (events, dead_letters) = (queue("events"), queue("dead"));
    let settings = [
        ("EVENT_QUEUE_URL", &*events),
        ("DEAD_LETTER_QUEUE_URL", &dead_letters),
        ("AWS_ENDPOINT_URL_SQS", &url),
    ];
    (World::start(&settings).await, seen)
}

/// The seconds by which each message was delayed, in one call.
fn delays(seen: &Mutex<Vec<(String, Value)>>) -> Vec<(String, u64)> {
    let calls = std::mem::take(&mut *seen.lock().unwrap());
    let [(operation, change)] = &calls[..] else {
        panic!("{calls:?}");
    };
    assert_eq!(operation, "AmazonSQS.ChangeMessageVisibilityBatch");
    let delay = |entry: &Value| {
        let id = entry["ReceiptHandle"].as_str().unwrap().trim_start_matches("handle-of-");
        (id.to_owned(), entry["VisibilityTimeout"].as_u64().unwrap())
    };
    change["Entries"].as_array().unwrap().iter().map(delay).collect()
}

#[tokio::test]
async fn a_failed_message_and_those_behind_it_are_delayed_together_and_other_users_go_on() {
    let (world, seen) = with_noted_calls().await;
    // After the 400 each event is sent alone, and the second fails.
    world.clevertap.script([Reply::Status(400), Reply::Normal, Reply::Status(401)]);
    let ids = [("e-1", "ann"), ("e-2", "bob"), ("e-3", "bob"), ("e-4", "bob"), ("e-5", "cem")];
    let mut messages = ids.map(|(id, user)| message(&event(id, user), &[]));
    messages[1]["attributes"]["ApproximateReceiveCount"] = json!("3");
    messages[3]["body"] = json!("no json");
    assert_eq!(failures(&world, &messages).await, ["e-2", "e-3", "e-4"]);
    let delays = delays(&seen);
    let ids: Vec<_> = delays.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["e-2", "e-3", "e-4"]);
    // A minute for the third time, give or take a tenth.
    assert!((54..=66).contains(&delays[0].1), "{delays:?}");
    assert!(delays.iter().all(|(_, delay)| *delay == delays[0].1), "{delays:?}");
}

#[tokio::test]
async fn a_first_failure_costs_seconds_unless_clevertap_may_have_the_event() {
    for (reply, times, seconds) in [
        (Reply::Status(429), 4, 13..=17),
        (Reply::Status(503), 2, 60..=77),
        (Reply::CloseBeforeAnswer, 2, 60..=77),
        (Reply::Status(500), 1, 60..=77),
        (Reply::CutShort, 1, 60..=77),
    ] {
        let (world, seen) = with_noted_calls().await;
        world.clevertap.script(vec![reply.clone(); times]);
        assert_eq!(failures(&world, &[message(&event("e-1", "u"), &[])]).await, ["e-1"]);
        let delays = delays(&seen);
        assert!(seconds.contains(&delays[0].1), "{reply:?}: {delays:?}");
    }
}

#[tokio::test]
async fn a_message_that_fails_after_13_days_is_a_dead_letter_and_releases_its_user() {
    let (world, resources) = with_resources(&[]).await;
    let day = 24 * 60 * 60 * 1000;
    let of_age = |id: &str, days: u128| {
        let mut message = message(&event(id, "ann"), &[]);
        message["attributes"]["SentTimestamp"] =
            json!((unix_time().as_millis() - days * day).to_string());
        message
    };
    let batch = [of_age("e-1", 14), of_age("e-2", 12)];
    world.clevertap.script([Reply::Status(401), Reply::Status(401)]);
    assert_eq!(failures(&world, &batch).await, ["e-2"]);
    let letters = resources.letters();
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["attributes"]["reason"], "retries_exhausted");
    assert_eq!(letters[0]["attributes"]["event_id"], "e-1");
    resources.expire_claim("id:e-2");
    assert_eq!(failures(&world, &batch[1..]).await, [""; 0]);
    assert_eq!(sent(&world), [["e-1"], ["e-2"], ["e-2"]]);
}

#[tokio::test]
async fn the_events_of_a_user_are_uploaded_one_after_another_beside_those_of_others() {
    let world = World::start(&[]).await;
    let events = [("e-1", "ann"), ("e-2", "bob"), ("e-3", "ann"), ("e-4", "ann"), ("e-5", "bob")];
    let messages = events.map(|(id, user)| message(&event(id, user), &[]));
    assert_eq!(failures(&world, &messages).await, [""; 0]);
    assert_eq!(sent(&world), [&["e-1", "e-2"][..], &["e-3", "e-5"], &["e-4"]]);
}

#[tokio::test]
async fn a_profile_that_is_refused_for_now_goes_again_before_the_next_one_of_its_user() {
    let world = World::start(&[]).await;
    let messages = ["e-1", "e-2"].map(|id| message(&event(id, "ann"), &[]));
    world.clevertap.script([refuse(1, 555)]);
    assert_eq!(failures(&world, &messages).await, [""; 0]);
    let accepted = world.clevertap.accepted();
    let kinds: Vec<_> = accepted.iter().map(|record| &record["type"]).collect();
    assert_eq!(kinds, ["event", "profile", "profile", "event"]);
}

#[tokio::test]
async fn after_a_profile_without_an_answer_the_rest_of_its_user_waits_a_minute() {
    let (world, seen) = with_noted_calls().await;
    let events = [("e-1", "ann"), ("e-2", "ann"), ("e-3", "bob"), ("e-4", "bob")];
    let messages = events.map(|(id, user)| message(&event(id, user), &[]));
    world.clevertap.script([refuse(1, 555), Reply::Silent]);
    assert_eq!(failures(&world, &messages).await, ["e-2"]);
    let delays = delays(&seen);
    assert!(delays.len() == 1 && (60..=77).contains(&delays[0].1), "{delays:?}");
    let line = world.line(|line| line["event_id"] == "e-1").await;
    assert_eq!((&line["profile_refused"], &line["ProfileRefused"]), (&json!(555), &json!(1)));
}

#[tokio::test]
async fn a_relayed_event_whose_profile_has_no_answer_comes_again_as_a_duplicate() {
    // What counts is that the claim is done, not that it could be taken.
    for unclaimed in [vec![], vec![Fault::Html]] {
        let (world, resources) = with_resources(&[]).await;
        resources.script_for(&["if_not_exists"], unclaimed);
        let messages = [message(&event("e-1", "ann"), &[])];
        world.clevertap.script([refuse(1, 555), Reply::Silent]);
        assert_eq!(failures(&world, &messages).await, ["e-1"]);
        assert_eq!(failures(&world, &messages).await, [""; 0]);
        world
            .line(|line| line["event_id"] == "e-1" && line["outcome"] == "duplicate")
            .await;
        assert_eq!(world.clevertap.uploads().len(), 2);
    }
}

#[tokio::test]
async fn what_has_no_turn_before_the_time_is_up_comes_again_at_once_and_has_not_failed() {
    let (world, seen) = with_noted_calls().await;
    let messages = ["e-1", "e-2", "e-3"].map(|id| message(&event(id, "ann"), &[]));
    let slow = Reply::Slow(Duration::from_millis(2200));
    world.clevertap.script([slow.clone(), slow]);
    assert_eq!(failures(&world, &messages).await, ["e-3"]);
    assert_eq!(sent(&world), [["e-1"], ["e-2"]]);
    assert_eq!(delays(&seen), [("e-3".to_owned(), 0)]);
    let line = world.line(|line| line["event_id"] == "e-3").await;
    assert_eq!((&line["outcome"], &line["level"]), (&json!("waiting"), &json!("INFO")));
    assert_eq!((&line["Waiting"], &line["Failed"]), (&json!(1), &Value::Null));
}

#[tokio::test]
async fn what_clevertap_refuses_without_saying_why_is_a_dead_letter_after_a_day() {
    let (world, seen) = with_noted_calls().await;
    for (id, hours, again) in [("e-1", 23, &["e-1"][..]), ("e-2", 25, &[])] {
        let mut message = message(&event(id, id), &[]);
        let sent_at = unix_time().as_millis() - hours * 60 * 60 * 1000;
        message["attributes"]["SentTimestamp"] = json!(sent_at.to_string());
        // As it is, again, and without its profile.
        world.clevertap.script(vec![Reply::FailWithoutReasons; 3]);
        assert_eq!(failures(&world, &[message]).await, again);
    }
    let line = world.line(|line| line["event_id"] == "e-1").await;
    assert_eq!((&line["reason"], &line["Class"]), (&json!("unexplained"), &json!("unexpected")));
    let (operation, letter) = seen.lock().unwrap().pop().unwrap();
    assert_eq!(operation, "AmazonSQS.SendMessage");
    let attribute = |name: &str| letter["MessageAttributes"][name]["StringValue"].clone();
    assert_eq!(["reason", "code"].map(attribute), ["refused", "200"]);
}

#[tokio::test]
async fn a_message_that_sqs_moved_writes_no_profile() {
    let world = World::start(&[]).await;
    let received_at = ("received_at", "2026-03-02T08:15:30.25Z");
    let received_ms = 1_772_439_330_250_u64;
    // A minute on the way to the queue is much; six minutes are another queue.
    let messages = [("first", 60_000), ("moved", 360_000)].map(|(id, later)| {
        let mut message = message(&event(id, id), &[received_at]);
        message["attributes"]["SentTimestamp"] = json!((received_ms + later).to_string());
        message
    });
    assert_eq!(failures(&world, &messages).await, [""; 0]);
    let mut accepted = world.clevertap.accepted();
    accepted.retain(|record| record["type"] == "profile");
    let profiles: Vec<_> = accepted.iter().map(|record| &record["identity"]).collect();
    assert_eq!(profiles, ["first"]);
}
