//! The claims table: several invocations of one process at once, and how long a claim is kept.
//! It does not know when an event is a duplicate; the rows of `odd_answers` do.

use crate::{UNDOCUMENTED, start, with_resources};
use bytes::Bytes;
use futures_util::future::join_all;
use serde_json::json;
use std::sync::Arc;
use testkit::harness::{answered, body, event, now_seconds, relayed, unavailable};
use testkit::hyper::Request;
use testkit::sockets::Server;
use testkit::sockets::resources::Resources;
use testkit::world::Ending;
use testkit::world::clevertap::Reply;
use tokio::sync::Semaphore;

#[tokio::test]
async fn several_invocations_of_one_process_at_once_relay_each_event_once() {
    let resources = Resources::make().await;
    // CleverTap says when an upload has arrived, and answers as many as it is let.
    let [uploading, answering] = [(); 2].map(|()| Arc::new(Semaphore::new(0)));
    let gates = [&uploading, &answering].map(Arc::clone);
    let server = Server::start(move |request: Request<Bytes>| {
        let [uploading, answering] = gates.clone();
        async move {
            if request.uri().path() == "/1/upload" {
                uploading.add_permits(1);
                answering.acquire().await.unwrap().forget();
            }
            Ending::answer(200, "application/json", r#"{"status":"success","unprocessed":[]}"#)
        }
    });
    let url = server.await.url;
    let more = [("CLEVERTAP_API_URL", &*url), ("AWS_LAMBDA_MAX_CONCURRENCY", "4")];
    let world = start(&[&resources.settings()[..], &more].concat()).await;
    let ids = ["e-1", "e-2", "e-3"];
    let webhooks = ids.map(|id| event(id, id).to_string());
    let answers = webhooks.each_ref().map(|webhook| world.post(webhook.as_bytes()));
    let copy = async {
        // All three are uploading before the first is answered.
        uploading.acquire_many(3).await.unwrap().forget();
        let answer = world.post(webhooks[0].as_bytes()).await;
        answering.add_permits(3);
        answer
    };
    let (answers, copy) = tokio::join!(join_all(answers), copy);
    assert_eq!(copy, answered(503, json!({ "error": "unavailable", "event_id": "e-1" })));
    assert_eq!(uploading.available_permits(), 0, "the copy uploads nothing");
    for (answer, id) in answers.into_iter().zip(ids) {
        assert_eq!(answer, answered(200, json!({ "status": "relayed", "event_id": id })));
        let is_it = |line: &serde_json::Value| line["event_id"] == id && line["attempts"] == 1;
        assert_eq!(world.line(is_it).await["outcome"], "relayed");
    }
}

#[tokio::test]
async fn a_claim_is_kept_for_30_days_from_each_write() {
    let (world, resources) = with_resources(&[]).await;
    let claim = "id:0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11";
    world.clevertap.script([Reply::Status(UNDOCUMENTED)]);
    for expected in [unavailable(), relayed()] {
        assert_eq!(world.post(&body()).await, expected);
        let expires_at: u64 = resources.claim(claim, "expires_at").unwrap().parse().unwrap();
        let hours = (expires_at - now_seconds()) / 3600;
        assert!((719..=720).contains(&hours), "{hours} hours");
        resources.expire_claim(claim);
    }
}
