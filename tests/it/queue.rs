//! `DELIVERY=queue`, end to end: the HTTP endpoint, moto's queue, and the function as its consumer.
//! It does not know the rules for single messages; `sqs.rs` does.

use crate::{aws_service, event, refusing_port, with_resources};
use futures_util::future::{join, join_all};
use purchasely_clevertap::aws::queues::group_id;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use testkit::aws_front::{Fault, Front};
use testkit::clevertap::{CleverTap, Reply};
use testkit::event_source::EventSource;
use testkit::harness::{
    ACCOUNT_ID, PASSCODE, SHARED_SECRET, World, body, listen, relayed, signed, unavailable,
};
use testkit::moto::Resources;
use testkit::webhook::Front as Gateway;

const QUEUE: (&str, &str) = ("DELIVERY", "queue");

/// A function in queue mode, and what delivers the queue's messages to it.
async fn with_queue(settings: &[(&str, &str)]) -> (World, Resources, EventSource) {
    let (world, resources) = with_resources(&[&[QUEUE], settings].concat()).await;
    let source = resources.event_source();
    (world, resources, source)
}

/// Each user's events in the order in which CleverTap first accepted them.
fn accepted(clevertap: &CleverTap) -> BTreeMap<String, Vec<String>> {
    let mut accepted = BTreeMap::<_, Vec<_>>::new();
    for record in clevertap.accepted().iter().filter(|record| record["type"] == "event") {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let events = accepted.entry(text(&record["identity"])).or_default();
        let id = text(&record["evtData"]["event_id"]);
        if !events.contains(&id) {
            events.push(id);
        }
    }
    accepted
}

fn names(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{kind}-{number}")).collect()
}

async fn post(world: &World, id: &str, user: &str) -> Value {
    let mut answer = world.post(event(id, user).to_string().as_bytes()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["status"].take()
}

#[tokio::test]
async fn a_webhook_is_answered_once_queued_and_relayed_with_its_profile_from_there() {
    let (world, resources, source) = with_queue(&[]).await;
    let mut queued = relayed();
    queued.body["status"] = json!("queued");
    assert_eq!(world.post(&body()).await, queued);
    let line = world.line(|line| line["outcome"] == "queued").await;
    assert_eq!(line["Queued"], 1);
    assert!(line["EventAge"].is_u64(), "{line}");
    // A process that only puts webhooks into the queue needs no connection to CleverTap.
    assert_eq!(world.clevertap.connections(), 0);

    source.drain(async |batch| world.api.invoke(batch).await).await;
    let accepted = world.clevertap.accepted();
    let kinds: Vec<_> = accepted.iter().map(|record| &record["type"]).collect();
    assert_eq!(kinds, ["profile", "event"]);
    let line = world.line(|line| line["outcome"] == "relayed").await;
    // The event arrived once.
    assert!(line["EventAge"].is_null(), "{line}");
    assert_eq!(resources.letters().await.len(), 0);
}

#[tokio::test]
async fn what_needs_no_upload_is_answered_as_in_direct_mode_and_not_queued() {
    let (world, resources, source) = with_queue(&[]).await;
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
    assert_eq!(resources.letters().await.len(), 2);
    assert_eq!(source.depth().await, 0);
}

#[tokio::test]
async fn a_webhook_that_sqs_does_not_take_is_503() {
    let (_socket, refusing) = refusing_port();
    let (world, resources, _) = with_queue(&[]).await;
    drop(world);
    let missing = format!("{}/123456789012/missing.fifo", resources.endpoint);
    for settings in [
        [QUEUE, ("EVENT_QUEUE_URL", &missing), ("AWS_ENDPOINT_URL_SQS", &resources.endpoint)],
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
        let expected = if number < 2 { [None, None] } else { [Some("true"), Some("event")] };
        assert_eq!(marks, expected);
    }
}

#[tokio::test]
async fn the_queue_takes_the_largest_body_and_gives_it_back_byte_for_byte() {
    let (world, _resources, source) = with_queue(&[]).await;
    // SQS does not accept the character, so the body is base64 and longer still.
    let mut large = event("e-1", "u");
    large["presentation"] = json!("\u{fffe}");
    let size = large.to_string().len();
    let body = large.to_string() + &" ".repeat(256 * 1024 - size);
    assert_eq!(world.post(body.as_bytes()).await.body["status"], "queued");
    source.drain(async |batch| world.api.invoke(batch).await).await;
    let record = world.clevertap.accepted().pop().unwrap();
    assert_eq!(record["evtData"]["presentation"], "\u{fffe}");
}

#[tokio::test]
async fn while_clevertap_is_down_every_webhook_is_queued_and_afterwards_all_arrive_in_order() {
    let (socket, url) = refusing_port();
    let settings = [("CLEVERTAP_API_URL", &*url), ("AWS_LAMBDA_MAX_CONCURRENCY", "8")];
    let (world, resources, source) = with_queue(&settings).await;
    let (users, events) = (names("user", 4), names("e", 6));
    let posts = users.iter().map(async |user| {
        // Purchasely sends a user's next event once the one before is answered.
        for event in &events {
            assert_eq!(post(&world, &format!("{user}-{event}"), user).await, "queued");
        }
    });
    let invoke = async |batch| world.api.invoke(batch).await;
    let polls = (0..3).map(async |_| {
        source.poll(1, invoke).await;
        source.let_time_pass().await;
        source.poll(1, invoke).await;
    });
    join_all(posts).await;
    join_all(polls).await;
    assert_eq!(source.depth().await, 24);

    for user in &users {
        for event in &events {
            resources.expire_claim(&format!("id:{user}-{event}")).await;
        }
    }
    tokio::spawn(world.clevertap.clone().serve(socket.listen(64).unwrap()));
    source.drain(invoke).await;
    let of = |user: &String| events.iter().map(|event| format!("{user}-{event}")).collect();
    let expected = users.iter().map(|user| (user.clone(), of(user))).collect();
    assert_eq!(accepted(&world.clevertap), expected);
    assert_eq!(resources.letters().await.len(), 0);
}

/// Where a consumer is killed: by a request to AWS or to CleverTap that gets no answer, before or after it is served.
const KILLED_AT: [(&str, Fault); 7] = [
    (":owner", Fault::Silent),
    (":owner", Fault::DoneThenSilent),
    ("evtName", Fault::Silent),
    ("evtName", Fault::DoneThenSilent),
    (":done", Fault::Silent),
    (":done", Fault::DoneThenSilent),
    ("ChangeMessageVisibility", Fault::Silent),
];

#[tokio::test]
async fn a_consumer_killed_at_any_point_loses_no_event_and_no_order() {
    for (request, fault) in KILLED_AT {
        let resources = Resources::make().await;
        let clevertap = CleverTap::new(ACCOUNT_ID, PASSCODE);
        let (listener, clevertap_url) = listen().await;
        tokio::spawn(clevertap.clone().serve(listener));
        let (aws_front, aws_url) = front(&resources.endpoint).await;
        let (clevertap_front, clevertap_url) = front(&clevertap_url).await;
        let settings = [
            QUEUE,
            ("CLEVERTAP_API_URL", &*clevertap_url),
            ("AWS_ENDPOINT_URL_SQS", &aws_url),
            ("AWS_ENDPOINT_URL_DYNAMODB", &aws_url),
        ];
        let mut world = World::start(&[&resources.settings()[..], &settings].concat()).await;
        let source = resources.event_source();
        for (id, user) in [("a-1", "ann"), ("b-1", "bob"), ("a-2", "ann")] {
            post(&world, id, user).await;
        }
        let front = if request == "evtName" { &clevertap_front } else { &aws_front };
        front.script_for(&[request], [fault.clone()]);
        if request == "ChangeMessageVisibility" {
            clevertap.script([Reply::Status(500)]);
        }
        let kill = async {
            front.wait_until_silent().await;
            world.function.kill();
        };
        let poll = source.poll(0, async |batch| world.api.invoke(batch).await);
        assert_eq!(join(poll, kill).await.0, 3, "{request} {fault:?}");
        assert_eq!(source.depth().await, 3, "{request} {fault:?}");

        world.restart(&[]).await;
        for id in ["a-1", "b-1", "a-2"] {
            resources.expire_claim(&format!("id:{id}")).await;
        }
        source.drain(async |batch| world.api.invoke(batch).await).await;
        let expected = [("ann", vec!["a-1", "a-2"]), ("bob", vec!["b-1"])];
        let expected = expected
            .map(|(user, ids)| (user.to_owned(), ids.into_iter().map(str::to_owned).collect()));
        assert_eq!(accepted(&clevertap), BTreeMap::from(expected), "{request} {fault:?}");
        assert_eq!(resources.letters().await.len(), 0, "{request} {fault:?}");
    }
}

async fn front(upstream: &str) -> (Front, String) {
    let front = Front::new(upstream);
    let (listener, url) = listen().await;
    tokio::spawn(front.clone().serve(listener));
    (front, url)
}

#[tokio::test]
async fn an_answer_that_is_lost_before_the_messages_are_deleted_raises_no_event_twice() {
    let (world, _resources, source) = with_queue(&[]).await;
    assert_eq!(post(&world, "e-1", "ann").await, "queued");
    let lose = async |batch| {
        world.api.invoke(batch).await.expect("an answer");
        Err(Value::Null)
    };
    assert_eq!(source.poll(0, lose).await, 1);
    source.drain(async |batch| world.api.invoke(batch).await).await;
    let line = world.line(|line| line["outcome"] == "duplicate").await;
    assert_eq!(line["event_id"], "e-1");
    assert_eq!(world.clevertap.uploads().len(), 1);
}

#[tokio::test]
async fn both_modes_follow_each_other_without_loss_and_in_order() {
    let (mut world, resources) = with_resources(&[]).await;
    let source = resources.event_source();
    assert_eq!(post(&world, "e-1", "ann").await, "relayed");
    world.clevertap.script([Reply::Status(500)]);
    // Purchasely keeps this one, and sends it again after the switch.
    let kept = event("e-2", "ann").to_string();
    assert_eq!(world.post(kept.as_bytes()).await.status, 503);
    resources.expire_claim("id:e-2").await;

    world.restart(&[QUEUE]).await;
    world.clevertap.script([Reply::Status(500)]);
    for id in ["e-2", "e-3"] {
        assert_eq!(post(&world, id, "ann").await, "queued");
    }
    // While the route is throttled, nothing is posted, and the queue empties.
    source.poll(0, async |batch| world.api.invoke(batch).await).await;
    assert_eq!(source.depth().await, 2);
    for id in ["e-2", "e-3"] {
        resources.expire_claim(&format!("id:{id}")).await;
    }
    source.drain(async |batch| world.api.invoke(batch).await).await;

    world.restart(&[("DELIVERY", "direct")]).await;
    assert_eq!(post(&world, "e-4", "ann").await, "relayed");
    let all = ["e-1", "e-2", "e-3", "e-4"].map(str::to_owned).to_vec();
    assert_eq!(accepted(&world.clevertap), BTreeMap::from([("ann".to_owned(), all)]));
}
