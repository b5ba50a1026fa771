//! The claims table: no event is relayed twice, and a table that fails blocks nobody.
//! It does not know how claims are written; it reads them from the table.

use crate::{aws_service, now_ms, refuse, refusing_port, server, silent_server, with_resources};
use serde_json::json;
use std::sync::Arc;
use testkit::clevertap::Reply;
use testkit::connections::Ending;
use testkit::harness::{SHARED_SECRET, World, body, relayed, signed, unavailable};
use testkit::moto::Resources;
use testkit::webhook::Front;
use tokio::sync::Semaphore;

/// The claim of [`body`]'s event.
const CLAIM: &str = "id:0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11";

/// A function with a claims table at `endpoint`.
async fn with_table_at(endpoint: &str) -> World {
    let table = ("DEDUPLICATION_TABLE", "claims");
    World::start(&[table, ("AWS_ENDPOINT_URL_DYNAMODB", endpoint)]).await
}

#[tokio::test]
async fn a_relayed_event_is_not_relayed_again() {
    let (world, resources) = with_resources(&[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(resources.claim(CLAIM).await.as_deref(), Some("done"));
    for _ in 0..2 {
        let answer = world.post(&body()).await;
        assert_eq!((answer.status, &answer.body["status"]), (200, &json!("duplicate")));
    }
    assert_eq!(world.clevertap.uploads().len(), 1);
}

#[tokio::test]
async fn an_event_without_an_id_is_recognised_by_its_body() {
    let (world, _resources) = with_resources(&[]).await;
    let anonymous = json!({ "event_name": "SUBSCRIPTION_RENEWED", "user_id": "u" }).to_string();
    for expected in ["relayed", "duplicate"] {
        assert_eq!(world.post(anonymous.as_bytes()).await.body["status"], expected);
    }
}

#[tokio::test]
async fn an_event_in_progress_elsewhere_waits_until_that_claim_expires() {
    let (world, resources) = with_resources(&[]).await;
    resources.claim_in_progress(CLAIM, now_ms() + 600_000).await;
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
    let (uploading, answering) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (upload, answer) = (Arc::clone(&uploading), Arc::clone(&answering));
    let clevertap = server(move |_, request| {
        let (upload, answer) = (Arc::clone(&upload), Arc::clone(&answer));
        async move {
            if request.uri().path() == "/1/upload" {
                upload.add_permits(1);
                answer.acquire().await.unwrap().forget();
            }
            Ending::answer(200, "application/json", r#"{"status":"success","unprocessed":[]}"#)
        }
    })
    .await;
    let settings = [&resources.settings()[..], &[("CLEVERTAP_API_URL", &clevertap)]].concat();
    let (first, second) = (World::start(&settings).await, World::start(&settings).await);
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
async fn an_unavailable_table_blocks_no_event() {
    let (_socket, refusing) = refusing_port();
    for endpoint in [refusing, silent_server().await] {
        let world = with_table_at(&endpoint).await;
        assert_eq!(world.post(&body()).await, relayed());
        let line = world.line(|line| line["outcome"] == "relayed").await;
        assert_eq!(line["ClaimsUnavailable"], 1, "{line}");
    }
}

#[tokio::test]
async fn an_accepted_event_is_acknowledged_even_if_its_claim_cannot_be_completed() {
    let (url, seen) = aws_service(|n| (n > 0).then_some("ResourceNotFoundException")).await;
    let world = with_table_at(&url).await;
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(seen.lock().unwrap().len(), 2);
    let line = world.line(|line| line["outcome"] == "relayed").await;
    assert_eq!(line["ClaimsUnavailable"], 1, "{line}");
}

#[tokio::test]
async fn a_claim_outlives_the_invocation_and_a_completed_one_every_retry() {
    let (url, seen) = aws_service(|_| None).await;
    let world = with_table_at(&url).await;
    let before = now_ms();
    assert_eq!(world.post(&body()).await, relayed());
    let after = now_ms();
    let seen = seen.lock().unwrap();
    let number = |n: usize, name: &str| -> u128 {
        seen[n].1["Item"][name]["N"].as_str().unwrap().parse().unwrap()
    };
    // Longer than Lambda's timeout of 9 s, shorter than Purchasely's first retry after 20 s.
    let until = number(0, "until_ms");
    assert!(before + 9_000 < until && until < after + 20_000, "{until}");
    // Purchasely retries for 20 days and 10 hours.
    let day_ms = 24 * 3600 * 1000;
    assert!(number(1, "expires_at") * 1000 > before + 21 * day_ms);
}

#[tokio::test]
async fn a_process_that_dies_with_an_event_leaves_it_to_the_next() {
    let resources = Resources::make().await;
    let dying = World::start(&resources.settings()).await;
    dying.clevertap.script([Reply::Silent]);
    let event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    let kill = async {
        dying.clevertap.wait_for_uploads(1).await;
        dying.function.kill();
    };
    let (answer, ()) = tokio::join!(dying.api.invoke(&event), kill);
    assert!(answer.is_err(), "acknowledged: {answer:?}");
    assert_eq!(resources.claim(CLAIM).await.as_deref(), Some("in_progress"));
    resources.claim_in_progress(CLAIM, now_ms() - 1).await;
    let next = World::start(&resources.settings()).await;
    assert_eq!(next.post(&body()).await, relayed());
}
