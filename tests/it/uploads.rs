//! Uploads and the connection to CleverTap.
//! It does not know what each answer does; `odd_answers.rs` does.

use serde_json::json;
use testkit::harness::{SHARED_SECRET, World, body, now_seconds, relayed, signed, unavailable};
use testkit::sockets::Server;
use testkit::sockets::servers::refusing_port;
use testkit::webhook::Front;
use testkit::world::clevertap::{CleverTap, Reply};

#[tokio::test]
async fn an_unreachable_clevertap_is_503() {
    let (_socket, refusing) = refusing_port();
    let world = World::start(&[("CLEVERTAP_API_URL", &refusing)]).await;
    assert_eq!(world.post(&body()).await, unavailable());
    let line = world.line(|line| line["reason"] == "unreachable").await;
    // Nothing was sent, so it may be tried up to four times.
    assert_eq!(line["attempts"], 4, "{line}");
}

#[tokio::test]
async fn a_request_that_is_too_old_on_arrival_is_not_uploaded() {
    let world = World::start(&[]).await;
    let mut event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    // Uploads end 6.5 s after the request was sent, so about a second after it arrived.
    event["requestContext"]["timeEpoch"] = json!((now_seconds() - 5) * 1000);
    assert_eq!(world.invoke(&event).await, unavailable());
    let line = world.line(|line| line["reason"] == "too_late").await;
    assert_eq!((&line["level"], &line["Class"]), (&json!("WARN"), &json!("transient")));
    assert_eq!(world.clevertap.uploads().len(), 0);
}

#[tokio::test]
async fn a_repeated_upload_is_byte_identical() {
    let world = World::start(&[]).await;
    world.clevertap.script([Reply::Status(429)]);
    for _ in 0..2 {
        assert_eq!(world.post(&body()).await, relayed());
    }
    let uploads = world.clevertap.uploads();
    assert_eq!(uploads.len(), 3);
    assert!(uploads.iter().all(|upload| upload.body == uploads[0].body));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::start(&[]).await;
    let elsewhere = Server::start(CleverTap::new("any", "any")).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/1/upload", elsewhere.url);
        world.clevertap.script([Reply::Redirect { status, location }]);
        assert_eq!(world.post(&body()).await, unavailable(), "{status}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn an_event_after_a_freeze_reconnects_where_the_connection_was_closed() {
    let world = World::start(&[]).await;
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
