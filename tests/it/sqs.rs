//! The SQS consumer: which messages of a batch are relayed, and which come again.
//! It does not know SQS itself; the batches are written as Lambda delivers them.

use crate::{aws_service, event, now_ms, refuse, with_resources};
use purchasely_clevertap::aws::queues::{group_id, message_body};
use serde_json::{Map, Value, json};
use testkit::clevertap::Reply;
use testkit::harness::{PASSCODE, SHARED_SECRET, World, signed};
use testkit::secrets_manager::SecretsManager;
use testkit::webhook::Front;

/// A message as Lambda delivers it, with the event's id as its own.
pub fn message(webhook: &Value, attributes: &[(&str, &str)]) -> Value {
    let (body, encoding) = message_body(webhook.to_string().as_bytes());
    let encoding = encoding.map(|encoding| ("encoding", encoding));
    let id = webhook["event_id"].as_str().unwrap();
    let user = webhook["user_id"].as_str().unwrap();
    json!({
        "messageId": id,
        "receiptHandle": format!("handle-of-{id}"),
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "MessageGroupId": group_id(user.as_bytes()),
        },
        "messageAttributes": message_attributes(attributes.iter().copied().chain(encoding)),
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:events.fifo",
        "awsRegion": "eu-west-1",
    })
}

/// The message that a redrive makes of a dead letter: it moves body, group and attributes.
pub fn redriven(letter: &Value) -> Value {
    let mut message = message(&event("redriven", "u"), &[]);
    message["body"] = letter["body"].clone();
    message["attributes"]["MessageGroupId"] = letter["group"].clone();
    let attributes = letter["attributes"].as_object().unwrap().iter();
    let attributes = attributes.map(|(name, value)| (&**name, value.as_str().unwrap()));
    message["messageAttributes"] = message_attributes(attributes);
    message
}

/// The ids of the messages that are to come again, in alphabetical order.
pub async fn failures(world: &World, messages: &[Value]) -> Vec<String> {
    let batch = json!({ "Records": messages });
    let answer = world.api.invoke(batch).await.expect("an answer");
    let failures = answer["batchItemFailures"].as_array().expect("a list");
    let id = |failure: &Value| failure["itemIdentifier"].as_str().unwrap().to_owned();
    let mut failures: Vec<_> = failures.iter().map(id).collect();
    failures.sort();
    failures
}

fn message_attributes<'a>(attributes: impl Iterator<Item = (&'a str, &'a str)>) -> Value {
    let attribute = |value| json!({ "stringValue": value, "dataType": "String" });
    let attributes = attributes.map(|(name, value)| (name.to_owned(), attribute(value)));
    Value::Object(attributes.collect::<Map<_, _>>())
}

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
        let claim = resources.claim(&format!("id:{id}")).await;
        assert_eq!(claim.as_deref(), Some("done"), "{id}");
    }
}

#[tokio::test]
async fn an_event_in_progress_elsewhere_blocks_only_its_user() {
    let (world, resources) = with_resources(&[]).await;
    resources.claim_in_progress("id:e-1", now_ms() + 600_000).await;
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
    assert_eq!(resources.letters().await.len(), 0);
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
        assert_eq!(resources.letters().await.len(), letters, "{reply:?}");
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
    assert_eq!(sent(&world)[..2], [vec!["e-1", "e-3"], vec!["e-2"]]);
    let account = world.clevertap.uploads()[1].account_id.clone();
    assert_eq!(account.as_deref(), Some("TEST-1-2"));
}

#[tokio::test]
async fn a_failed_message_is_delayed_and_those_behind_it_are_left_to_follow() {
    let (url, seen) = aws_service(|_| None).await;
    let queue = format!("{url}/123456789012/events.fifo");
    let settings = [("EVENT_QUEUE_URL", &*queue), ("AWS_ENDPOINT_URL_SQS", &url)];
    let world = World::start(&settings).await;
    world.clevertap.script([Reply::Status(418)]);
    let mut third_time = message(&event("e-1", "u"), &[]);
    third_time["attributes"]["ApproximateReceiveCount"] = json!("3");
    let mut behind = message(&event("e-2", "u"), &[]);
    behind["body"] = json!("no json");
    assert_eq!(failures(&world, &[third_time, behind]).await, ["e-1", "e-2"]);
    let change = json!({
        "QueueUrl": queue, "ReceiptHandle": "handle-of-e-1", "VisibilityTimeout": 240,
    });
    let operation = "AmazonSQS.ChangeMessageVisibility".to_owned();
    assert_eq!(*seen.lock().unwrap(), [(operation, change)]);
}
