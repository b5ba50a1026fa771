//! Connections that died in the pool while the environment was frozen.
//! It does not know the pools; it loses every connection that they may have.

use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::harness::{World, event};
use testkit::messages::{failures, message};
use testkit::sockets::{Latency, Server};
use testkit::world::Ending;
use testkit::world::aws::Aws;
use tokio::sync::Barrier;

async fn post(world: &World, event: &Value) -> Value {
    world.post(event.to_string().as_bytes()).await.body["status"].clone()
}

#[tokio::test]
async fn an_upload_survives_two_lost_connections() {
    // The connection that is opened at the start is in use until the first upload has arrived over another one.
    let (requests, both) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(2)));
    let clevertap = Server::start(move |_| {
        let (number, both) = (requests.fetch_add(1, Ordering::SeqCst), Arc::clone(&both));
        async move {
            if number < 2 {
                both.wait().await;
            }
            Ending::answer(200, "application/json", r#"{"status":"success","unprocessed":[]}"#)
        }
    })
    .await;
    let world = World::start(&[("CLEVERTAP_API_URL", &clevertap.url)]).await;
    for id in ["e-1", "e-2"] {
        assert_eq!(post(&world, &event(id, "u")).await, "relayed");
    }
    assert_eq!(clevertap.connections(), 2);
    clevertap.lose_connections();
    assert_eq!(post(&world, &event("e-3", "u")).await, "relayed");
}

#[tokio::test]
async fn a_claim_survives_ten_lost_connections() {
    let dynamodb = Server::start(Aws::default()).await;
    // Long enough for ten claims to be under way at once.
    dynamodb.set_latency(Latency {
        request: Duration::from_millis(100),
        ..Latency::default()
    });
    let settings =
        [("DEDUPLICATION_TABLE", "claims"), ("AWS_ENDPOINT_URL_DYNAMODB", &*dynamodb.url)];
    let world = World::start(&settings).await;
    let batch = (0..10).map(|n| event(&format!("e-{n}"), &format!("u-{n}")));
    let batch: Vec<_> = batch.map(|event| message(&event, &[])).collect();
    assert_eq!(failures(&world, &batch).await, [""; 0]);
    assert!(dynamodb.connections() >= 10, "{}", dynamodb.connections());
    dynamodb.lose_connections();
    let event = event("e-10", "u-10");
    for expected in ["relayed", "duplicate"] {
        assert_eq!(post(&world, &event).await, json!(expected));
    }
}
