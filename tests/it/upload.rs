//! What the function does with CleverTap's answers, and with their absence.

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use testkit::clevertap::Reply;
use testkit::harness::{World, body, relayed, unavailable};

async fn reason(world: &World) -> Value {
    world.line(|line| !line["outcome"].is_null()).await["reason"].clone()
}

#[tokio::test]
async fn a_passing_refusal_is_repeated_within_the_invocation() {
    for reply in [
        Reply::Status(429),
        Reply::Status(500),
        Reply::Status(503),
        Reply::RefuseRecord {
            number: 2,
            code: 555,
        },
    ] {
        let world = World::start(&[]).await;
        world.clevertap.script([reply.clone()]);
        assert_eq!(world.post(&body()).await, relayed(), "{reply:?}");
        assert_eq!(world.clevertap.uploads().len(), 2, "{reply:?}");
        assert_eq!(world.clevertap.accepted().len(), 2, "{reply:?}");
    }
}

#[tokio::test]
async fn a_repeated_upload_is_byte_identical() {
    let world = World::start(&[]).await;
    world.clevertap.script([Reply::Status(429)]);
    world.post(&body()).await;
    world.post(&body()).await;
    let bodies: Vec<_> = world
        .clevertap
        .uploads()
        .into_iter()
        .map(|u| u.body)
        .collect();
    assert_eq!(bodies.len(), 3);
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}

#[tokio::test]
async fn a_silent_clevertap_is_given_up_in_time_after_one_upload() {
    let world = World::start(&[]).await;
    world
        .clevertap
        .script([Reply::Silent, Reply::Silent, Reply::Silent]);
    let started = Instant::now();
    assert_eq!(world.post(&body()).await, unavailable());
    assert!(
        started.elapsed() < Duration::from_millis(8500),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(world.clevertap.uploads().len(), 1);
    assert_eq!(reason(&world).await, "timed_out");
}

#[tokio::test]
async fn a_busy_clevertap_is_given_up_in_time() {
    let world = World::start(&[]).await;
    world
        .clevertap
        .script(std::iter::repeat_n(Reply::Status(429), 1000));
    let started = Instant::now();
    assert_eq!(world.post(&body()).await, unavailable());
    assert!(
        started.elapsed() < Duration::from_millis(8500),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(world.clevertap.accepted().len(), 0);
    assert_eq!(reason(&world).await, "busy");
}

#[tokio::test]
async fn a_permanent_refusal_is_not_repeated() {
    for (reply, status) in [
        (
            Reply::RefuseRecord {
                number: 1,
                code: 513,
            },
            200,
        ),
        (
            Reply::RefuseRecord {
                number: 1,
                code: 999,
            },
            200,
        ),
        (Reply::FailWithoutReasons, 200),
        (Reply::Status(400), 400),
        (Reply::Status(413), 413),
        (Reply::Status(422), 422),
    ] {
        let world = World::start(&[("USER_PROPERTIES", "none")]).await;
        world.clevertap.script([reply.clone()]);
        assert_eq!(world.post(&body()).await, unavailable(), "{reply:?}");
        assert_eq!(world.clevertap.uploads().len(), 1, "{reply:?}");
        let line = world.line(|line| !line["outcome"].is_null()).await;
        assert_eq!(line["reason"], "refused", "{reply:?}");
        assert_eq!(line["clevertap_status"], status, "{reply:?}");
        assert_eq!(line["level"], "ERROR", "{reply:?}");
    }
}

#[tokio::test]
async fn a_request_timeout_is_left_to_purchasely() {
    for status in [408, 425] {
        let world = World::start(&[]).await;
        world.clevertap.script([Reply::Status(status)]);
        assert_eq!(world.post(&body()).await, unavailable());
        assert_eq!(world.clevertap.uploads().len(), 1);
        assert_eq!(reason(&world).await, "busy");
    }
}

#[tokio::test]
async fn an_answer_that_is_not_documented_is_never_success() {
    for reply in [
        Reply::Answer {
            status: 200,
            body: "OK".into(),
        },
        Reply::Answer {
            status: 200,
            body: "{}".into(),
        },
        Reply::Answer {
            status: 200,
            body: "x".repeat(3 * 1024 * 1024),
        },
        Reply::Answer {
            status: 204,
            body: String::new(),
        },
        Reply::Status(202),
        Reply::Status(418),
    ] {
        let world = World::start(&[]).await;
        world.clevertap.script([reply]);
        assert_eq!(world.post(&body()).await, unavailable());
        assert_eq!(world.clevertap.uploads().len(), 1);
        assert_eq!(reason(&world).await, "not_understood");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let world = World::start(&[]).await;
    let elsewhere = testkit::clevertap::CleverTap::new("any", "any");
    let (listener, url) = testkit::harness::listen().await;
    tokio::spawn(elsewhere.clone().serve(listener));
    for status in [301, 302, 307, 308] {
        let location = format!("{url}/1/upload");
        world
            .clevertap
            .script([Reply::Redirect { status, location }]);
        assert_eq!(world.post(&body()).await, unavailable(), "{status}");
    }
    assert_eq!(elsewhere.requests(), 0);
}

#[tokio::test]
async fn a_connection_lost_before_an_answer_is_repeated_once() {
    for reply in [Reply::CloseBeforeAnswer, Reply::ResetBeforeAnswer] {
        let world = World::start(&[]).await;
        world.clevertap.script([reply.clone()]);
        assert_eq!(world.post(&body()).await, relayed(), "{reply:?}");
        assert_eq!(world.clevertap.uploads().len(), 2, "{reply:?}");

        world
            .clevertap
            .script([reply.clone(), reply.clone(), reply.clone()]);
        assert_eq!(world.post(&body()).await, unavailable(), "{reply:?}");
        assert_eq!(world.clevertap.uploads().len(), 4, "{reply:?}");
    }
}

#[tokio::test]
async fn a_connection_closed_while_the_function_slept_loses_nothing() {
    let world = World::start(&[]).await;
    for _ in 0..5 {
        assert_eq!(world.post(&body()).await, relayed());
        world.function.freeze();
        world.clevertap.close_connections();
        world.function.thaw();
    }
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(world.clevertap.accepted().len(), 12);
}

#[tokio::test]
async fn a_connection_is_kept_between_events() {
    let world = World::start(&[]).await;
    world.post(&body()).await;
    let connections = world.clevertap.connections();
    for _ in 0..10 {
        assert_eq!(world.post(&body()).await, relayed());
    }
    assert_eq!(world.clevertap.connections(), connections);
}

#[tokio::test]
async fn an_unreachable_clevertap_is_503_in_time() {
    let (listener, url) = testkit::harness::listen().await;
    drop(listener);
    let world = World::start(&[("CLEVERTAP_API_URL", &url)]).await;
    let started = Instant::now();
    assert_eq!(world.post(&body()).await, unavailable());
    assert!(
        started.elapsed() < Duration::from_millis(8500),
        "{:?}",
        started.elapsed()
    );
    assert_eq!(reason(&world).await, "unreachable");
}

#[tokio::test]
async fn a_request_that_aged_on_its_way_leaves_less_time() {
    let world = World::start(&[]).await;
    world.clevertap.script([Reply::Silent]);
    let mut event = testkit::harness::signed(&body(), testkit::harness::SHARED_SECRET)
        .envelope(testkit::webhook::Front::HttpApi);
    let sent = (testkit::harness::now_seconds() - 5) * 1000;
    event["requestContext"]["timeEpoch"] = json!(sent);
    let started = Instant::now();
    assert_eq!(world.invoke(&event).await, unavailable());
    assert!(
        started.elapsed() < Duration::from_millis(3500),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_process_that_dies_acknowledges_nothing() {
    let world = World::start(&[]).await;
    world.clevertap.script([Reply::Silent]);
    let event = testkit::harness::signed(&body(), testkit::harness::SHARED_SECRET)
        .envelope(testkit::webhook::Front::HttpApi);
    let dying = async {
        world.clevertap.wait_for_uploads(1).await;
        world.function.kill();
    };
    let (answer, ()) = tokio::join!(world.api.invoke(&event), dying);
    assert!(answer.is_err(), "{answer:?}");
}
