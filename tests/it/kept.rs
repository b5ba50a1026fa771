//! Nothing lost, nothing twice: dead letters, claims, and the batches of the event queue.

use bytes::Bytes;
use purchasely_clevertap::aws::queues::{group_id, message_body};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use testkit::clevertap::Reply;
use testkit::connections::{Connections, Ending};
use testkit::harness::{
    Answer, PASSCODE, SHARED_SECRET, World, answered, body, relayed, signed, unavailable,
};
use testkit::hyper::Request;
use testkit::moto::Resources;
use testkit::secrets_manager::SecretsManager;
use testkit::webhook::Front;
use tokio::net::TcpListener;

const CLAIM: &str = "id:0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11";

async fn with_resources(settings: &[(&str, &str)]) -> (World, Resources) {
    let resources = Resources::make().await;
    let settings = [&resources.settings()[..], settings].concat();
    (World::start(&settings).await, resources)
}

fn event(id: &str, user: &str) -> Value {
    json!({ "event_name": "SUBSCRIPTION_RENEWED", "event_id": id, "user_id": user, "plan": "p" })
}

fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_millis()
}

fn duplicate() -> Answer {
    let body = json!({ "status": "duplicate", "event_id": "0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11" });
    answered(200, body)
}

/// Takes every request and answers none.
fn silent(listener: TcpListener) {
    let never = |_| std::future::pending();
    tokio::spawn(async move { Connections::new().serve_listener(listener, never).await });
}

/// An SQS that takes whatever comes; its address, and each request's operation and body.
async fn sqs_that_notes_its_requests() -> (String, Arc<Mutex<Vec<Value>>>) {
    let seen: Arc<Mutex<Vec<Value>>> = Arc::default();
    let (listener, url) = testkit::harness::listen().await;
    let noted = Arc::clone(&seen);
    let note = move |request: Request<Bytes>| {
        let target = request.headers().get("x-amz-target").cloned();
        let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        noted.lock().unwrap().push(json!({
            "target": target.and_then(|target| target.to_str().map(str::to_owned).ok()),
            "body": body,
        }));
        async { Ending::answer(200, "application/x-amz-json-1.0", "{}") }
    };
    tokio::spawn(async move { Connections::new().serve_listener(listener, note).await });
    (url, seen)
}

/// A message as Lambda hands it over: its id is that of the event.
fn message(webhook: &Value, attributes: &[(&str, &str)]) -> Value {
    let text = webhook.to_string();
    let (body, encoding) = message_body(text.as_bytes());
    let mut told: serde_json::Map<_, _> = attributes
        .iter()
        .map(|(name, value)| {
            let value = json!({ "stringValue": value, "dataType": "String" });
            ((*name).to_owned(), value)
        })
        .collect();
    if let Some(encoding) = encoding {
        told.insert(
            "encoding".into(),
            json!({ "stringValue": encoding, "dataType": "String" }),
        );
    }
    json!({
        "messageId": webhook["event_id"],
        "receiptHandle": format!("handle-of-{}", webhook["event_id"].as_str().unwrap_or("none")),
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": "1",
            "MessageGroupId": group_id(webhook["user_id"].as_str().unwrap_or("").as_bytes()),
        },
        "messageAttributes": told,
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:123456789012:events.fifo",
        "awsRegion": "eu-west-1",
    })
}

/// The ids of the messages that are to come again.
async fn failures(world: &World, messages: &[Value]) -> Vec<String> {
    let answer = world
        .api
        .invoke(json!({ "Records": messages }))
        .await
        .expect("an answer");
    let failures = answer["batchItemFailures"]
        .as_array()
        .expect("a list of failures");
    let id = |failure: &Value| failure["itemIdentifier"].as_str().unwrap().to_owned();
    failures.iter().map(id).collect()
}

fn sent(world: &World) -> Vec<Vec<String>> {
    let ids = |body: &[u8]| {
        let body: Value = serde_json::from_slice(body).unwrap();
        let events = body["d"].as_array().unwrap().iter();
        let events = events.filter(|record| record["type"] == "event");
        events
            .map(|record| {
                record["evtData"]["event_id"]
                    .as_str()
                    .unwrap_or("?")
                    .to_owned()
            })
            .collect()
    };
    world
        .clevertap
        .uploads()
        .iter()
        .map(|upload| ids(&upload.body))
        .collect()
}

// Dead letters

#[tokio::test]
async fn an_event_that_can_never_be_relayed_is_kept_and_acknowledged() {
    let (world, resources) = with_resources(&[]).await;
    world.clevertap.script([Reply::RefuseRecord {
        number: 2,
        code: 513,
    }]);
    let refused = event("e-1", "u-1").to_string();
    for (body, reason, id) in [
        (&refused[..], "refused", Some("e-1")),
        ("no json", "not_json", None),
        ("[]", "not_an_object", None),
        (
            r#"{"name":"ACTIVATE","user":{}}"#,
            "payload_version_two",
            None,
        ),
        ("{}", "no_event_name", None),
        (
            r#"{"event_name":"ACTIVATE","event_id":"e-2"}"#,
            "no_identity",
            Some("e-2"),
        ),
    ] {
        let mut expected = json!({ "status": "dead_lettered", "reason": reason });
        if let Some(id) = id {
            expected["event_id"] = json!(id);
        }
        assert_eq!(
            world.post(body.as_bytes()).await,
            answered(200, expected),
            "{reason}"
        );
    }
    let letters = resources.letters().await;
    let find = |reason: &str| {
        let found = letters
            .iter()
            .find(|letter| letter["attributes"]["reason"] == reason);
        found
            .unwrap_or_else(|| panic!("{reason} in {letters:?}"))
            .clone()
    };
    assert_eq!(letters.len(), 6);
    let letter = find("refused");
    assert_eq!(letter["body"], refused);
    assert_eq!(letter["group"], group_id(b"u-1"));
    assert_eq!(letter["attributes"]["code"], "513");
    assert_eq!(letter["attributes"]["event_id"], "e-1");
    assert_eq!(letter["attributes"]["event_name"], "SUBSCRIPTION_RENEWED");
    assert!(
        letter["attributes"]["received_at"]
            .as_str()
            .unwrap()
            .ends_with('Z')
    );
    assert_eq!(
        letter["attributes"]["records"],
        Value::Null,
        "the profile is not asked for again"
    );
    let letter = find("not_json");
    assert_eq!(letter["group"], group_id(b"no json"));
    assert_eq!(
        letter["attributes"].as_object().unwrap().len(),
        2,
        "{letter}"
    );
}

#[tokio::test]
async fn a_body_that_sqs_does_not_take_is_kept_in_base64() {
    let (world, resources) = with_resources(&[]).await;
    for body in [&b"\xff\xfe"[..], b"", b"{\"event_name\":\"\\u0000\"}\x00"] {
        let event = signed(body, SHARED_SECRET).envelope(Front::HttpApiBase64);
        assert_eq!(world.invoke(&event).await.status, 200);
    }
    let encodings: Vec<_> = resources
        .letters()
        .await
        .iter()
        .map(|letter| {
            letter["attributes"]["encoding"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(encodings, ["base64", "empty", "base64"]);
}

#[tokio::test]
async fn a_letter_that_is_kept_twice_is_two_messages_within_the_rules_of_sqs() {
    let (url, seen) = sqs_that_notes_its_requests().await;
    let queue = format!("{url}/123456789012/dead.fifo");
    let settings = [
        ("DEAD_LETTER_QUEUE_URL", &*queue),
        ("AWS_ENDPOINT_URL_SQS", &url),
    ];
    let world = World::start(&settings).await;
    let poison = json!({ "event_name": "$$$", "event_id": "e \u{1}", "user_id": "é @ user" });
    for _ in 0..2 {
        assert_eq!(world.post(poison.to_string().as_bytes()).await.status, 200);
    }
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    let field = |request: &Value, name: &str| request["body"][name].as_str().unwrap().to_owned();
    let ids = seen
        .iter()
        .map(|request| field(request, "MessageDeduplicationId"));
    let ids: Vec<_> = ids.collect();
    assert_ne!(ids[0], ids[1]);
    for request in &seen {
        assert_eq!(request["target"], "AmazonSQS.SendMessage");
        for name in ["MessageDeduplicationId", "MessageGroupId"] {
            let id = field(request, name);
            assert!(
                id.len() <= 128 && id.bytes().all(|b| b.is_ascii_graphic()),
                "{name} {id}"
            );
        }
        let attributes = request["body"]["MessageAttributes"].as_object().unwrap();
        assert!(attributes.len() <= 10);
        for (name, attribute) in attributes {
            let value = attribute["StringValue"].as_str().unwrap();
            assert!(!value.is_empty() && !value.contains('\u{1}'), "{name}");
        }
        assert_eq!(attributes["event_id"]["StringValue"], "e ");
    }
}

#[tokio::test]
async fn what_is_not_kept_is_not_acknowledged() {
    let resources = Resources::make().await;
    let gone = resources.dead_letter_queue_url.replace("dead", "gone");
    let (listener, closed) = testkit::harness::listen().await;
    drop(listener);
    for (queue, endpoint) in [
        (&gone, &resources.endpoint),
        (&resources.dead_letter_queue_url, &closed),
    ] {
        let settings = [
            ("DEAD_LETTER_QUEUE_URL", queue.as_str()),
            ("AWS_ENDPOINT_URL_SQS", endpoint.as_str()),
        ];
        let world = World::start(&settings).await;
        let started = Instant::now();
        let answer = world.post(b"{}").await;
        assert_eq!(answer, answered(503, json!({ "error": "unavailable" })));
        assert!(started.elapsed() < Duration::from_millis(8500));
        world
            .function
            .wait_for_log(|line| line.contains("did not take the event"))
            .await;
    }
}

#[tokio::test]
async fn a_silent_dead_letter_queue_is_503_in_time() {
    let (listener, url) = testkit::harness::listen().await;
    silent(listener);
    let queue = "http://localhost/123456789012/dead.fifo";
    let settings = [
        ("DEAD_LETTER_QUEUE_URL", queue),
        ("AWS_ENDPOINT_URL_SQS", &url),
    ];
    let world = World::start(&settings).await;
    world
        .clevertap
        .script([Reply::Slow(Duration::from_secs(6)), Reply::Normal]);
    let started = Instant::now();
    assert_eq!(world.post(b"{}").await.status, 503);
    assert!(
        started.elapsed() < Duration::from_millis(2500),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_poison_event_does_not_hold_its_user() {
    let (world, _resources) = with_resources(&[]).await;
    world.clevertap.script([Reply::RefuseRecord {
        number: 2,
        code: 528,
    }]);
    assert_eq!(
        world
            .post(event("e-1", "u").to_string().as_bytes())
            .await
            .status,
        200
    );
    let next = world.post(event("e-2", "u").to_string().as_bytes()).await;
    assert_eq!(
        next,
        answered(200, json!({ "status": "relayed", "event_id": "e-2" }))
    );
}

// Claims

#[tokio::test]
async fn a_relayed_event_is_not_relayed_again() {
    let (world, resources) = with_resources(&[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(resources.claim(CLAIM).await.as_deref(), Some("done"));
    for _ in 0..2 {
        assert_eq!(world.post(&body()).await, duplicate());
    }
    assert_eq!(world.clevertap.uploads().len(), 1);
}

#[tokio::test]
async fn an_event_without_an_id_is_known_by_its_body() {
    let (world, _resources) = with_resources(&[]).await;
    let without = json!({ "event_name": "SUBSCRIPTION_RENEWED", "user_id": "u" }).to_string();
    let mut words = Vec::new();
    for _ in 0..2 {
        words.push(world.post(without.as_bytes()).await.body["status"].clone());
    }
    assert_eq!(words, ["relayed", "duplicate"]);
}

#[tokio::test]
async fn an_event_in_progress_elsewhere_waits_until_that_has_expired() {
    let (world, resources) = with_resources(&[]).await;
    resources.claim_in_progress(CLAIM, now_ms() + 10_000).await;
    assert_eq!(world.post(&body()).await, unavailable());
    assert_eq!(world.clevertap.uploads().len(), 0);
    let line = world.line(|line| line["reason"] == "in_progress").await;
    assert_eq!(line["level"], "WARN");
    resources.claim_in_progress(CLAIM, now_ms() - 1).await;
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn two_invocations_at_once_relay_an_event_once() {
    let resources = Resources::make().await;
    let first = World::start(&resources.settings()).await;
    let second = World::start(&resources.settings()).await;
    first
        .clevertap
        .script([Reply::Slow(Duration::from_secs(1))]);
    let meanwhile = async {
        first.clevertap.wait_for_uploads(1).await;
        second.post(&body()).await
    };
    let body = body();
    let (one, other) = tokio::join!(first.post(&body), meanwhile);
    assert_eq!((one, other), (relayed(), unavailable()));
    assert_eq!(second.clevertap.uploads().len(), 0);
}

#[tokio::test]
async fn only_acceptance_completes_a_claim() {
    let (world, resources) = with_resources(&[]).await;
    world.clevertap.script([Reply::Status(418)]);
    assert_eq!(world.post(&body()).await, unavailable());
    assert_eq!(resources.claim(CLAIM).await.as_deref(), Some("in_progress"));
    resources.claim_in_progress(CLAIM, now_ms() - 1).await;
    // A dead letter leaves none either, or its redrive would be called a duplicate.
    world.clevertap.script([Reply::RefuseRecord {
        number: 2,
        code: 513,
    }]);
    assert_eq!(world.post(&body()).await.body["status"], "dead_lettered");
    assert_eq!(resources.claim(CLAIM).await.as_deref(), Some("in_progress"));
    resources.claim_in_progress(CLAIM, now_ms() - 1).await;
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn what_is_ignored_or_dry_claims_nothing() {
    let (world, resources) = with_resources(&[("CLEVERTAP_DRY_RUN", "true")]).await;
    assert_eq!(world.post(&body()).await.body["status"], "dry_run");
    assert_eq!(resources.claim(CLAIM).await, None);
    // What cannot be tried must hold nobody either.
    assert_eq!(world.post(b"{}").await.body["status"], "dead_lettered");
    let settings = [
        ("EVENTS_DISABLED", "SUBSCRIPTION_RENEWED"),
        ("USER_PROPERTIES", "none"),
    ];
    let (world, resources) = with_resources(&settings).await;
    assert_eq!(world.post(&body()).await.body["status"], "ignored");
    assert_eq!(resources.claim(CLAIM).await, None);
}

#[tokio::test]
async fn a_table_that_cannot_be_asked_holds_nobody() {
    let (listener, closed) = testkit::harness::listen().await;
    drop(listener);
    let (listener, mute) = testkit::harness::listen().await;
    silent(listener);
    for endpoint in [closed, mute] {
        let settings = [
            ("DEDUPLICATION_TABLE", "claims"),
            ("AWS_ENDPOINT_URL_DYNAMODB", &*endpoint),
        ];
        let world = World::start(&settings).await;
        assert_eq!(world.post(&body()).await, relayed());
        world
            .function
            .wait_for_log(|line| line.contains("could not be asked"))
            .await;
        world
            .function
            .wait_for_log(|line| line.contains("could not be completed"))
            .await;
    }
}

#[tokio::test]
async fn acceptance_is_acknowledged_even_if_completing_fails() {
    let (world, resources) = with_resources(&[]).await;
    world
        .clevertap
        .script([Reply::Slow(Duration::from_secs(1))]);
    let meanwhile = async {
        world.clevertap.wait_for_uploads(1).await;
        resources.delete_table().await;
    };
    let body = body();
    let (answer, ()) = tokio::join!(world.post(&body), meanwhile);
    assert_eq!(answer, relayed());
    world
        .function
        .wait_for_log(|line| line.contains("could not be completed"))
        .await;
}

#[tokio::test]
async fn a_process_that_dies_over_an_event_leaves_it_to_the_next() {
    let resources = Resources::make().await;
    let dying = World::start(&resources.settings()).await;
    dying.clevertap.script([Reply::Silent]);
    let event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    let kill = async {
        dying.clevertap.wait_for_uploads(1).await;
        dying.function.kill();
    };
    let (answer, ()) = tokio::join!(dying.api.invoke(&event), kill);
    assert!(answer.is_err());
    assert_eq!(resources.claim(CLAIM).await.as_deref(), Some("in_progress"));
    resources.claim_in_progress(CLAIM, now_ms() - 1).await;
    let next = World::start(&resources.settings()).await;
    assert_eq!(next.post(&body()).await, relayed());
}

// Several records per event

#[tokio::test]
async fn only_the_refused_record_of_an_event_is_kept_and_redriven() {
    let (world, resources) = with_resources(&[("REVENUE_EVENT", "Charged")]).await;
    let paid = json!({
        "event_name": "TRANSACTION_PROCESSED",
        "event_id": "e-1",
        "user_id": "u",
        "amount_in_usd": 5.0,
    });
    world.clevertap.script([Reply::RefuseRecord {
        number: 2,
        code: 512,
    }]);
    let answer = world.post(paid.to_string().as_bytes()).await;
    assert_eq!(answer.body["status"], "dead_lettered");
    let letter = resources.letters().await.remove(0);
    assert_eq!(letter["attributes"]["records"], "revenue");

    resources.claim_in_progress("id:e-1", now_ms() - 1).await;
    let redriven = message(&paid, &[("reason", "refused"), ("records", "revenue")]);
    assert_eq!(failures(&world, &[redriven]).await, [""; 0]);
    let names: Vec<_> = world
        .clevertap
        .accepted()
        .iter()
        .map(|record| record["evtName"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["TRANSACTION_PROCESSED", "Charged"]);
}

#[tokio::test]
async fn a_dead_letter_is_relayed_by_its_redrive_once_its_cause_is_mended() {
    let (world, resources) = with_resources(&[]).await;
    let poison = json!({ "event_name": "$$$", "event_id": "e-1", "user_id": "u" });
    assert_eq!(
        world.post(poison.to_string().as_bytes()).await.body["status"],
        "dead_lettered"
    );
    let letter = resources.letters().await.remove(0);
    // A redrive moves body and attributes; the queue hands them to the function as a message.
    let mut redriven = message(&poison, &[]);
    redriven["body"] = letter["body"].clone();
    redriven["attributes"]["MessageGroupId"] = letter["group"].clone();
    for (name, value) in letter["attributes"].as_object().unwrap() {
        redriven["messageAttributes"][name] = json!({ "stringValue": value, "dataType": "String" });
    }
    // Redriven too early it is a dead letter again, and does not vanish.
    assert_eq!(
        failures(&world, std::slice::from_ref(&redriven)).await,
        [""; 0]
    );
    assert_eq!(resources.letters().await.len(), 1);

    let settings = [&resources.settings()[..], &[("EVENT_NAMES", "$$$=Mended")]].concat();
    let mended = World::start(&settings).await;
    assert_eq!(failures(&mended, &[redriven]).await, [""; 0]);
    assert_eq!(mended.clevertap.accepted()[0]["evtName"], "Mended");
    assert_eq!(resources.claim("id:e-1").await.as_deref(), Some("done"));
}

// The door of the event queue

#[tokio::test]
async fn a_batch_is_one_upload_and_each_event_is_settled() {
    let (world, resources) = with_resources(&[]).await;
    let messages: Vec<_> = (0..10)
        .map(|n| message(&event(&format!("e-{n}"), &format!("u-{n}")), &[]))
        .collect();
    assert_eq!(failures(&world, &messages).await, [""; 0]);
    assert_eq!(world.clevertap.uploads().len(), 1);
    assert_eq!(sent(&world)[0].len(), 10);
    assert_eq!(resources.claim("id:e-7").await.as_deref(), Some("done"));
    // The same batch once more is all duplicates.
    assert_eq!(failures(&world, &messages).await, [""; 0]);
    assert_eq!(world.clevertap.uploads().len(), 1);
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
    let mut replayed =
        signed(event("e-4", "u-4").to_string().as_bytes(), SHARED_SECRET).envelope(Front::HttpApi);
    replayed["headers"]["x-replayed"] = json!("true");
    assert_eq!(world.invoke(&replayed).await.status, 200);
    let profiles: Vec<_> = world
        .clevertap
        .accepted()
        .into_iter()
        .filter(|record| record["type"] == "profile")
        .map(|record| record["identity"].clone())
        .collect();
    assert_eq!(profiles, ["u-3"]);
}

#[tokio::test]
async fn a_letter_that_names_no_known_record_is_sent_whole() {
    let (world, _resources) = with_resources(&[]).await;
    let odd = [("reason", "refused"), ("records", "everything")];
    assert_eq!(
        failures(&world, &[message(&event("e-1", "u"), &odd)]).await,
        [""; 0]
    );
    assert_eq!(sent(&world), [["e-1"]]);
}

#[tokio::test]
async fn a_letter_in_base64_is_relayed_as_it_was() {
    let (world, _resources) = with_resources(&[]).await;
    let mut odd = event("e-1", "u-1");
    odd["presentation"] = json!("a\u{fffe}b");
    let message = message(&odd, &[("reason", "refused")]);
    assert_eq!(
        message["messageAttributes"]["encoding"]["stringValue"],
        "base64"
    );
    assert_eq!(failures(&world, &[message]).await, [""; 0]);
    assert_eq!(
        world.clevertap.accepted()[0]["evtData"]["presentation"],
        "a\u{fffe}b"
    );
}

#[tokio::test]
async fn a_failed_upload_names_every_message() {
    let (world, _resources) = with_resources(&[]).await;
    world.clevertap.script([Reply::Status(418)]);
    let messages = [
        message(&event("e-1", "u-1"), &[]),
        message(&event("e-2", "u-2"), &[]),
    ];
    assert_eq!(failures(&world, &messages).await, ["e-1", "e-2"]);
}

#[tokio::test]
async fn one_refused_event_of_a_batch_is_a_dead_letter_and_the_others_are_relayed() {
    let (world, resources) = with_resources(&[("USER_PROPERTIES", "none")]).await;
    world.clevertap.script([Reply::RefuseRecord {
        number: 2,
        code: 513,
    }]);
    let messages = ["e-1", "e-2", "e-3"].map(|id| message(&event(id, "u"), &[]));
    assert_eq!(failures(&world, &messages).await, [""; 0]);
    assert_eq!(
        resources.letters().await[0]["attributes"]["event_id"],
        "e-2"
    );
    assert_eq!(world.clevertap.uploads().len(), 1);
}

#[tokio::test]
async fn a_passing_refusal_is_repeated_for_that_record_alone() {
    let (world, _resources) = with_resources(&[("USER_PROPERTIES", "none")]).await;
    world.clevertap.script([Reply::RefuseRecord {
        number: 2,
        code: 555,
    }]);
    let messages = ["e-1", "e-2", "e-3"].map(|id| message(&event(id, id), &[]));
    assert_eq!(failures(&world, &messages).await, [""; 0]);
    assert_eq!(sent(&world), [vec!["e-1", "e-2", "e-3"], vec!["e-2"]]);
}

#[tokio::test]
async fn a_refusal_of_the_whole_upload_is_followed_by_one_upload_each_in_order() {
    let (world, resources) = with_resources(&[("USER_PROPERTIES", "none")]).await;
    world
        .clevertap
        .script([Reply::Status(400), Reply::Normal, Reply::Status(400)]);
    let messages = ["e-1", "e-2", "e-3"].map(|id| message(&event(id, id), &[]));
    assert_eq!(failures(&world, &messages).await, [""; 0]);
    assert_eq!(
        sent(&world),
        [
            vec!["e-1", "e-2", "e-3"],
            vec!["e-1"],
            vec!["e-2"],
            vec!["e-3"]
        ]
    );
    assert_eq!(
        resources.letters().await[0]["attributes"]["event_id"],
        "e-2"
    );
}

#[tokio::test]
async fn after_a_failure_no_later_event_of_its_group_is_sent() {
    let (world, resources) = with_resources(&[("USER_PROPERTIES", "none")]).await;
    // In progress elsewhere: the later event of that user waits, another user's does not.
    resources
        .claim_in_progress("id:e-1", now_ms() + 10_000)
        .await;
    let messages = [
        message(&event("e-1", "ann"), &[]),
        message(&event("e-2", "bob"), &[]),
        message(&event("e-3", "ann"), &[]),
    ];
    assert_eq!(failures(&world, &messages).await, ["e-1", "e-3"]);
    assert_eq!(sent(&world), [vec!["e-2"]]);

    // The same where a refused upload is followed by one each.
    let (world, _resources) = with_resources(&[("USER_PROPERTIES", "none")]).await;
    world
        .clevertap
        .script([Reply::Status(400), Reply::Status(418)]);
    assert_eq!(failures(&world, &messages).await, ["e-1", "e-3"]);
    assert_eq!(
        sent(&world),
        [vec!["e-1", "e-2", "e-3"], vec!["e-1"], vec!["e-2"]]
    );
}

#[tokio::test]
async fn after_a_failure_a_later_poison_event_of_its_group_is_not_kept_twice() {
    let (world, resources) = with_resources(&[]).await;
    world.clevertap.script([Reply::Status(418)]);
    let mut poison = event("e-2", "ann");
    poison["event_name"] = json!("$$$");
    let messages = [message(&event("e-1", "ann"), &[]), message(&poison, &[])];
    assert_eq!(failures(&world, &messages).await, ["e-1", "e-2"]);
    assert_eq!(resources.letters().await.len(), 0);
}

#[tokio::test]
async fn of_two_copies_in_one_batch_the_second_takes_the_firsts_outcome() {
    let (world, resources) = with_resources(&[]).await;
    let mut copies = [
        message(&event("e-1", "u"), &[]),
        message(&event("e-1", "u"), &[]),
    ];
    copies[1]["messageId"] = json!("copy");
    world.clevertap.script([Reply::Status(418)]);
    assert_eq!(failures(&world, &copies).await, ["e-1", "copy"]);
    resources.claim_in_progress("id:e-1", now_ms() - 1).await;
    assert_eq!(failures(&world, &copies).await, [""; 0]);
    assert_eq!(sent(&world)[1], ["e-1"]);

    let (world, resources) = with_resources(&[]).await;
    world.clevertap.script([Reply::RefuseRecord {
        number: 2,
        code: 513,
    }]);
    assert_eq!(failures(&world, &copies).await, [""; 0]);
    assert_eq!(resources.letters().await.len(), 1);
}

#[tokio::test]
async fn an_unreadable_message_is_a_dead_letter() {
    let (world, resources) = with_resources(&[]).await;
    let mut odd = message(&event("e-1", "u"), &[]);
    odd["body"] = json!("not json");
    let mut odder = message(&event("e-2", "u"), &[("encoding", "rot13")]);
    odder["messageId"] = json!("e-2");
    assert_eq!(failures(&world, &[odd, odder]).await, [""; 0]);
    assert_eq!(resources.letters().await.len(), 2);
}

#[tokio::test]
async fn without_a_secret_every_message_comes_again() {
    let manager = SecretsManager::new("relay", "no json");
    let world = World::start_with(manager, &[]).await;
    let messages = [
        message(&event("e-1", "u-1"), &[]),
        message(&event("e-2", "u-2"), &[]),
    ];
    assert_eq!(failures(&world, &messages).await, ["e-1", "e-2"]);
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_is_an_error_and_never_a_success() {
    let world = World::start(&[]).await;
    let mut nameless = message(&event("e-1", "u"), &[]);
    nameless.as_object_mut().unwrap().remove("messageId");
    for batch in [
        json!({ "Records": [nameless] }),
        json!({ "Records": "none" }),
        json!({ "Records": [7] }),
        json!({ "Records": null }),
    ] {
        let answer = world.api.invoke(&batch).await;
        assert!(answer.is_err(), "{batch}: {answer:?}");
    }
}

#[tokio::test]
async fn a_batch_that_runs_out_of_time_names_its_messages() {
    let (world, _resources) = with_resources(&[]).await;
    world.clevertap.script([Reply::Silent]);
    let started = Instant::now();
    assert_eq!(
        failures(&world, &[message(&event("e-1", "u"), &[])]).await,
        ["e-1"]
    );
    assert!(
        started.elapsed() < Duration::from_millis(8500),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn real_and_testers_purchases_of_a_batch_are_one_upload_for_each_account() {
    let secret = json!({
        "clevertap_passcode": PASSCODE,
        "clevertap_sandbox_passcode": "sandbox",
        "purchasely_shared_secret": SHARED_SECRET,
    });
    let manager = SecretsManager::new("relay", &secret.to_string());
    let world = World::start_with(manager, &[("CLEVERTAP_SANDBOX_ACCOUNT_ID", "TEST-1-2")]).await;
    let mut tester = event("e-2", "u-2");
    tester["environment"] = json!("SANDBOX");
    let messages = [
        message(&event("e-1", "u-1"), &[]),
        message(&tester, &[]),
        message(&event("e-3", "u-3"), &[]),
    ];
    // The stand-in knows the main account only, so the tester's event is not accepted.
    assert_eq!(failures(&world, &messages).await, ["e-2"]);
    assert_eq!(sent(&world)[..2], [vec!["e-1", "e-3"], vec!["e-2"]]);
    let accounts: Vec<_> = world
        .clevertap
        .uploads()
        .into_iter()
        .filter_map(|upload| upload.account_id)
        .collect();
    assert_eq!(accounts[1], "TEST-1-2");
}

#[tokio::test]
async fn a_message_that_fails_is_held_back_and_those_behind_it_follow_it() {
    let (url, seen) = sqs_that_notes_its_requests().await;
    let queue = format!("{url}/123456789012/events.fifo");
    let settings = [("EVENT_QUEUE_URL", &*queue), ("AWS_ENDPOINT_URL_SQS", &url)];
    let world = World::start(&settings).await;
    world
        .clevertap
        .script([Reply::Status(418), Reply::Status(418)]);
    let mut third_time = message(&event("e-1", "u"), &[]);
    third_time["attributes"]["ApproximateReceiveCount"] = json!("3");
    let mut behind = message(&event("e-2", "u"), &[]);
    // A poison event behind a failed one is only held.
    behind["body"] = json!("no json");
    assert_eq!(
        failures(&world, &[third_time, behind]).await,
        ["e-1", "e-2"]
    );
    let seen = seen.lock().unwrap().clone();
    assert_eq!(
        seen,
        [json!({
            "target": "AmazonSQS.ChangeMessageVisibility",
            "body": {
                "QueueUrl": queue,
                "ReceiptHandle": "handle-of-e-1",
                "VisibilityTimeout": 240,
            },
        })]
    );
}
