//! The claims table: no event is relayed twice, and a table that fails blocks nobody.
//! It does not know how claims are written; it reads them from the table.

use futures_util::future::join_all;
use serde_json::json;
use std::sync::Arc;
use testkit::harness::{
    World, answered, body, event, now_seconds, refuse, relayed, unavailable, with_resources,
};
use testkit::sockets::resources::Resources;
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

#[tokio::test]
async fn several_invocations_of_one_process_at_once_relay_each_event_once() {
    let resources = Resources::make().await;
    let (url, uploading, answering) = gated_clevertap().await;
    let more = [("CLEVERTAP_API_URL", &*url), ("AWS_LAMBDA_MAX_CONCURRENCY", "4")];
    let world = World::start(&[&resources.settings()[..], &more].concat()).await;
    let second = async {
        uploading.acquire().await.unwrap().forget();
        let answer = world.post(&body()).await;
        answering.add_permits(1);
        answer
    };
    let body = body();
    let answers = tokio::join!(world.post(&body), second);
    assert_eq!(answers, (relayed(), unavailable()));
    assert_eq!(uploading.available_permits(), 0, "the second uploads nothing");

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
    let hours_left = |at: &str| (at.parse::<u64>().unwrap() - now_seconds()) / 3600;
    world.clevertap.script([Reply::Status(418)]);
    for expected in [unavailable(), relayed()] {
        assert_eq!(world.post(&body()).await, expected);
        let left = hours_left(&resources.claim(CLAIM, "expires_at").unwrap());
        assert!((719..=720).contains(&left), "{left} hours");
        resources.expire_claim(CLAIM);
    }
}

#[tokio::test]
async fn a_profile_that_was_refused_is_not_sent_with_a_copy_of_its_event() {
    let disabled = [("EVENTS_DISABLED", "SUBSCRIPTION_RENEWED")];
    let (world, _resources) = with_resources(&disabled).await;
    world.clevertap.script([refuse(1, 514)]);
    for status in ["ignored", "duplicate"] {
        assert_eq!(world.post(&body()).await.body["status"], status);
    }
    assert_eq!(world.clevertap.uploads().len(), 1);
}

#[tokio::test]
async fn an_ignored_event_and_a_dry_run_claim_nothing() {
    let ignored = [("EVENTS_DISABLED", "SUBSCRIPTION_RENEWED"), ("USER_PROPERTIES", "none")];
    for (settings, status) in
        [(&[("CLEVERTAP_DRY_RUN", "true")][..], "dry_run"), (&ignored, "ignored")]
    {
        let (world, resources) = with_resources(settings).await;
        assert_eq!(world.post(&body()).await.body["status"], status);
        assert_eq!(resources.claim(CLAIM, "state"), None);
    }
}
