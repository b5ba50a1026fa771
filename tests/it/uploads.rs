//! CleverTap's answers to an upload, and its silence: what is sent again, what is answered, what is logged.
//! It does not know batches; `sqs.rs` does.

use crate::{event, refuse, refusing_port};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::clevertap::{CleverTap, Reply};
use testkit::harness::{
    SHARED_SECRET, World, body, listen, now_seconds, relayed, signed, unavailable,
};
use testkit::webhook::Front;

/// CleverTap's answers to the first uploads of one event record; how often it is uploaded, the HTTP answer, and
/// the reason, the level and CleverTap's last status in the log line.
#[tokio::test]
async fn each_answer_of_clevertap_has_one_consequence() {
    let answer = |status, body: &str| {
        let body = body.to_owned();
        Reply::Answer { status, body }
    };
    let long = "x".repeat(3 * 1024 * 1024);
    let once =
        |reply, status, reason, level| (vec![reply], 1, 503, Some(reason), level, Some(status));
    let relayed = |reply| (vec![reply], 2, 200, None, "INFO", Some(200));
    let lost = |reply| (vec![reply; 2], 2, 503, Some("connection_lost"), "WARN", None);
    let refused = |reply, status| once(reply, status, "refused", "ERROR");
    let rejected = |status| once(Reply::Status(status), status, "credentials_rejected", "ERROR");
    let busy = |status| once(Reply::Status(status), status, "busy", "WARN");
    let unexpected = |reply, status| once(reply, status, "unexpected_response", "ERROR");
    let cases = [
        // Sent again within the invocation.
        relayed(Reply::Status(429)),
        relayed(Reply::Status(500)),
        relayed(Reply::Status(503)),
        relayed(refuse(1, 555)),
        relayed(Reply::CloseBeforeAnswer),
        relayed(Reply::ResetBeforeAnswer),
        // … but a lost connection only once.
        lost(Reply::CloseBeforeAnswer),
        lost(Reply::ResetBeforeAnswer),
        // Permanent: never sent again.
        refused(refuse(1, 513), 200),
        refused(refuse(1, 999), 200),
        refused(Reply::FailWithoutReasons, 200),
        refused(Reply::Status(400), 400),
        refused(Reply::Status(413), 413),
        refused(Reply::Status(422), 422),
        // The owner has to act.
        rejected(401),
        rejected(403),
        rejected(404),
        // Left to Purchasely's next attempt.
        busy(408),
        busy(425),
        // Not documented, so never success.
        unexpected(answer(200, "OK"), 200),
        unexpected(answer(200, "{}"), 200),
        unexpected(answer(200, &long), 200),
        unexpected(answer(204, ""), 204),
        unexpected(Reply::Status(202), 202),
        unexpected(Reply::Status(418), 418),
    ];
    let world = World::start(&[("USER_PROPERTIES", "none")]).await;
    for (number, case) in cases.into_iter().enumerate() {
        let (replies, uploads, status, reason, level, clevertap_status) = case;
        let what = format!("{:.200}", format!("case {number}: {replies:?}"));
        let before = (world.clevertap.uploads().len(), world.clevertap.accepted().len());
        let id = format!("e-{number}");
        world.clevertap.script(replies);
        let answer = world.post(event(&id, "u").to_string().as_bytes()).await;
        assert_eq!(answer.status, status, "{what}");
        assert_eq!(world.clevertap.uploads().len() - before.0, uploads, "{what}");
        let accepted = world.clevertap.accepted().len() - before.1;
        assert_eq!(accepted, usize::from(status == 200), "{what}");
        let line = world.line(|line| line["event_id"] == *id).await;
        assert_eq!(line["reason"], json!(reason), "{what}");
        assert_eq!(line["level"], level, "{what}");
        assert_eq!(line["clevertap_status"], json!(clevertap_status), "{what}");
        assert_eq!(line["attempts"], uploads, "{what}");
    }
}

async fn reason(world: &World) -> Value {
    world.line(|line| !line["outcome"].is_null()).await["reason"].clone()
}

#[tokio::test]
async fn a_silent_a_busy_and_an_unreachable_clevertap_are_503_in_time() {
    let (_socket, refusing) = refusing_port();
    for (settings, replies, uploads, expected) in [
        (&[][..], vec![Reply::Silent; 3], 1..=1, "timed_out"),
        (&[], vec![Reply::Status(429); 1000], 2..=1000, "busy"),
        (&[("CLEVERTAP_API_URL", &*refusing)], vec![], 0..=0, "unreachable"),
    ] {
        let world = World::start(settings).await;
        world.clevertap.script(replies);
        assert_eq!(world.post(&body()).await, unavailable(), "{expected}");
        assert!(uploads.contains(&world.clevertap.uploads().len()), "{expected}");
        assert_eq!(world.clevertap.accepted().len(), 0, "{expected}");
        assert_eq!(reason(&world).await, expected);
    }
}

#[tokio::test]
async fn a_request_that_aged_on_its_way_has_less_time() {
    let world = World::start(&[]).await;
    world.clevertap.script([Reply::Silent]);
    let mut event = signed(&body(), SHARED_SECRET).envelope(Front::HttpApi);
    event["requestContext"]["timeEpoch"] = json!((now_seconds() - 6) * 1000);
    let started = Instant::now();
    assert_eq!(world.invoke(&event).await, unavailable());
    // Uploads end 6.5 s after the request was sent, so about half a second after it arrived.
    assert!(started.elapsed() < Duration::from_secs(5));
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
    let elsewhere = CleverTap::new("any", "any");
    let (listener, url) = listen().await;
    tokio::spawn(elsewhere.clone().serve(listener));
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{url}/1/upload");
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
