//! Connections: under TLS with a private authority in place of the compiled-in roots, refused, and dead in a pool while
//! the environment was frozen.
//! It does not know all that an end of a connection does to an event; the rows of `odd_answers` do.

use crate::{post, start, with_resources};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use testkit::harness::{ACCOUNT_ID, PASSCODE, body, event, relayed, unavailable};
use testkit::messages::{failures, message};
use testkit::sockets::servers::refusing_port;
use testkit::sockets::tls::Authority;
use testkit::sockets::{Latency, Server};
use testkit::world::Ending;
use testkit::world::aws::Aws;
use testkit::world::clevertap::{CleverTap, Reply};
use testkit::world::faulty::Fault::{Closed, CutShort, DoneThenClosed, Html, Reset, Silent};
use tokio::sync::Barrier;

#[tokio::test]
async fn a_host_receives_the_upload_only_if_the_roots_know_it() {
    let authority = Authority::default();
    let clevertap = authority.serve(CleverTap::new(ACCOUNT_ID, PASSCODE)).await;
    let url = ("CLEVERTAP_API_URL", &*clevertap.url);
    assert_eq!(start(&[url]).await.post(&body()).await, unavailable());
    assert_eq!(clevertap.requests(), 0);
    let file = authority.pem_file();
    let roots = ("SSL_CERT_FILE", file.path().to_str().unwrap());
    assert_eq!(start(&[url, roots]).await.post(&body()).await, relayed());
    assert_eq!(clevertap.accepted().len(), 2);
}

#[tokio::test]
async fn an_unreachable_clevertap_is_503() {
    let (_socket, refusing) = refusing_port();
    let world = start(&[("CLEVERTAP_API_URL", &refusing)]).await;
    assert_eq!(world.post(&body()).await, unavailable());
    let line = world.line(|line| line["reason"] == "unreachable").await;
    // Nothing was sent, so it may be tried up to four times.
    assert_eq!(line["attempts"], 4, "{line}");
}

/// What only a real client shows.
#[tokio::test]
async fn each_end_of_a_connection_to_clevertap_has_its_reason() {
    let world = start(&[]).await;
    let location = || "http://127.0.0.1:9/1/upload".to_owned();
    for (number, (reply, reason)) in [
        (Reply::CloseBeforeAnswer, "connection_lost"),
        (Reply::ResetBeforeAnswer, "connection_lost"),
        (Reply::CutShort, "timed_out"),
        (Reply::Silent, "timed_out"),
        (Reply::Answer { status: 200, body: "x".repeat(3 << 20) }, "timed_out"),
        (Reply::Redirect { status: 302, location: location() }, "unexpected_response"),
        (Reply::Redirect { status: 307, location: location() }, "unexpected_response"),
    ]
    .into_iter()
    .enumerate()
    {
        world.clevertap.set_script([], reply);
        let id = format!("e-{number}");
        assert_eq!(post(&world, &event(&id, "u")).await.status, 503, "{id}");
        let line = world.line(|line| line["event_id"] == id).await;
        assert_eq!(line["reason"], reason, "{id}");
    }
}

#[tokio::test]
async fn an_event_survives_each_end_of_a_connection_to_aws() {
    let (world, resources) = with_resources(&[]).await;
    for fault in [Closed, Reset, Silent, CutShort, DoneThenClosed, Html] {
        let id = format!("{fault:?}");
        let is_unavailable = id == "Html";
        resources.script_for(&["UpdateItem", ":owner"], [fault]);
        assert_eq!(post(&world, &event(&id, "u")).await.body["status"], "relayed", "{id}");
        let line = world.line(|line| line["event_id"] == id).await;
        assert_eq!(line["ClaimsUnavailable"] == 1, is_unavailable, "{id}");
    }
}

#[tokio::test]
async fn an_event_after_a_freeze_reconnects_where_the_connection_was_closed() {
    let world = start(&[]).await;
    for uploads in 1..=5 {
        assert_eq!(world.post(&body()).await, relayed());
        let connections = world.clevertap.connections();
        world.function.freeze();
        world.clevertap.close_connections();
        world.function.thaw();
        assert_eq!(world.post(&body()).await, relayed());
        assert!(world.clevertap.connections() > connections);
        assert_eq!(world.clevertap.accepted().len(), 4 * uploads);
    }
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
    let world = start(&[("CLEVERTAP_API_URL", &clevertap.url)]).await;
    for id in ["e-1", "e-2", "e-3"] {
        if id == "e-3" {
            assert_eq!(clevertap.connections(), 2);
            clevertap.lose_connections();
        }
        assert_eq!(post(&world, &event(id, "u")).await.status, 200, "{id}");
    }
}

#[tokio::test]
async fn a_claim_survives_ten_lost_connections() {
    let dynamodb = Server::start(Aws::default()).await;
    // Long enough for ten claims to be under way at once.
    let request = Duration::from_millis(100);
    dynamodb.set_latency(Latency { request, ..Latency::default() });
    let settings =
        [("DEDUPLICATION_TABLE", "claims"), ("AWS_ENDPOINT_URL_DYNAMODB", &*dynamodb.url)];
    let world = start(&settings).await;
    let batch = (0..10).map(|n| event(&format!("e-{n}"), &format!("u-{n}")));
    let batch: Vec<_> = batch.map(|event| message(&event, &[])).collect();
    assert_eq!(failures(&world, &batch).await, [""; 0]);
    assert!(dynamodb.connections() >= 10, "{}", dynamodb.connections());
    dynamodb.lose_connections();
    let event = event("e-10", "u-10");
    for expected in ["relayed", "duplicate"] {
        assert_eq!(post(&world, &event).await.body["status"], json!(expected));
    }
}
