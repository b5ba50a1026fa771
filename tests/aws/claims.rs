//! The claims table: no event is relayed twice, and a table that fails blocks nobody.
//! It does not know how claims are written; it reads them from the table.

use futures_util::future::join_all;
use serde_json::json;
use std::sync::Arc;
use testkit::harness::{
    World, answered, body, event, now_ms, now_seconds, refuse, relayed, unavailable,
};
use testkit::moto::{Resources, with_resources};
use testkit::sockets::servers::server;
use testkit::world::Ending;
use testkit::world::clevertap::Reply;
use tokio::sync::Semaphore;

/// The claim of [`body`]'s event.
const CLAIM: &str = "id:0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11";

#[tokio::test]
async fn an_event_without_an_id_is_recognised_by_its_body() {
    let (world, _resources) = with_resources(&[]).await;
    let anonymous = json!({ "event_name": "SUBSCRIPTION_RENEWED", "user_id": "u" }).to_string();
    for expected in ["relayed", "duplicate"] {
        assert_eq!(world.post(anonymous.as_bytes()).await.body["status"], expected);
    }
}

/// A CleverTap that says when an upload has arrived, and answers as many as it is let.
async fn gated_clevertap() -> (String, Arc<Semaphore>, Arc<Semaphore>) {
    let (uploading, answering) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (upload, answer) = (Arc::clone(&uploading), Arc::clone(&answering));
    let url = server(move |_, request| {
        let (upload, answer) = (Arc::clone(&upload), Arc::clone(&answer));
        async move {
            if request.uri().path() == "/1/upload" {
                upload.add_permits(1);
                answer.acquire().await.unwrap().forget();
            }
            Ending::answer(200, "application/json", r#"{"status":"success","unprocessed":[]}"#)
        }
    });
    (url.await, uploading, answering)
}

async fn two_at_once_relay_an_event_once(first: &World, second: &World, gate: [&Semaphore; 2]) {
    let [uploading, answering] = gate;
    let second = async {
        uploading.acquire().await.unwrap().forget();
        let answer = second.post(&body()).await;
        answering.add_permits(1);
        answer
    };
    let body = body();
    let answers = tokio::join!(first.post(&body), second);
    assert_eq!(answers, (relayed(), unavailable()));
    assert_eq!(uploading.available_permits(), 0, "the second uploads nothing");
}

#[tokio::test]
async fn two_processes_at_once_relay_an_event_once() {
    let resources = Resources::make().await;
    let (url, uploading, answering) = gated_clevertap().await;
    let settings = [&resources.settings()[..], &[("CLEVERTAP_API_URL", &url)]].concat();
    let (first, second) = (World::start(&settings).await, World::start(&settings).await);
    two_at_once_relay_an_event_once(&first, &second, [&uploading, &answering]).await;
}

#[tokio::test]
async fn several_invocations_of_one_process_at_once_relay_each_event_once() {
    let resources = Resources::make().await;
    let (url, uploading, answering) = gated_clevertap().await;
    let more = [("CLEVERTAP_API_URL", &*url), ("AWS_LAMBDA_MAX_CONCURRENCY", "4")];
    let world = World::start(&[&resources.settings()[..], &more].concat()).await;
    two_at_once_relay_an_event_once(&world, &world, [&uploading, &answering]).await;

    let ids = ["e-1", "e-2", "e-3"];
    let webhooks = ids.map(|id| event(id, id).to_string());
    let answers = webhooks.each_ref().map(|webhook| world.post(webhook.as_bytes()));
    let let_go = async {
        // All three are uploading before the first is answered.
        uploading.acquire_many(3).await.unwrap().forget();
        answering.add_permits(3);
    };
    let (answers, ()) = tokio::join!(join_all(answers), let_go);
    for (answer, id) in answers.into_iter().zip(ids) {
        assert_eq!(answer, answered(200, json!({ "status": "relayed", "event_id": id })));
        let line = world.line(|line| line["event_id"] == id).await;
        assert_eq!((&line["outcome"], &line["attempts"]), (&json!("relayed"), &json!(1)));
    }
}

#[tokio::test]
async fn a_claim_is_kept_for_30_days_from_each_write() {
    let (world, resources) = with_resources(&[]).await;
    let hours_left = |expires_at: u64| (expires_at - now_seconds()) / 3600;
    world.clevertap.script([Reply::Status(418)]);
    for expected in [unavailable(), relayed()] {
        assert_eq!(world.post(&body()).await, expected);
        let left = hours_left(resources.claim_expires_at(CLAIM).await);
        assert!((719..=720).contains(&left), "{left} hours");
        resources.expire_claim(CLAIM).await;
    }
}

#[tokio::test]
async fn only_acceptance_completes_a_claim() {
    let (world, resources) = with_resources(&[]).await;
    // Were a dead letter's claim completed, its redrive would be a duplicate.
    for (reply, status) in
        [(Reply::Status(418), json!(null)), (refuse(2, 513), json!("dead_lettered"))]
    {
        world.clevertap.script([reply]);
        assert_eq!(world.post(&body()).await.body["status"], status);
        assert_eq!(resources.claim(CLAIM).await.as_deref(), Some("in_progress"));
        resources.claim_in_progress(CLAIM, now_ms() - 1).await;
    }
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(resources.claim(CLAIM).await.as_deref(), Some("done"));
}

#[tokio::test]
async fn an_ignored_event_and_a_dry_run_claim_nothing() {
    let ignored = [("EVENTS_DISABLED", "SUBSCRIPTION_RENEWED"), ("USER_PROPERTIES", "none")];
    for (settings, status) in
        [(&[("CLEVERTAP_DRY_RUN", "true")][..], "dry_run"), (&ignored, "ignored")]
    {
        let (world, resources) = with_resources(settings).await;
        assert_eq!(world.post(&body()).await.body["status"], status);
        assert_eq!(resources.claim(CLAIM).await, None);
    }
}

#[tokio::test]
async fn an_event_whose_answers_were_lost_is_repeated_byte_for_byte_and_then_known() {
    let (world, resources) = with_resources(&[]).await;
    let event = event("e-lost", "u").to_string();
    world.clevertap.script(vec![Reply::AcceptThenClose; 2]);
    assert_eq!(world.post(event.as_bytes()).await.status, 503);
    assert_eq!(resources.claim("id:e-lost").await.as_deref(), Some("in_progress"));
    resources.expire_claim("id:e-lost").await;
    for status in ["relayed", "duplicate"] {
        let answer = world.post(event.as_bytes()).await;
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!(status)));
    }
    // CleverTap stored it three times: the lost answers are the documented way to a duplicate.
    let uploads = world.clevertap.uploads();
    assert_eq!(uploads.len(), 3);
    assert!(uploads.iter().all(|upload| upload.body == uploads[0].body));
}
