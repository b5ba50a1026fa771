//! The secret, as it is read, kept and changed.

use serde_json::json;
use std::time::Duration;
use testkit::harness::{
    PASSCODE, SHARED_SECRET, World, body, relayed, secret_value, signed, unavailable,
};
use testkit::secrets_manager::{Reply, SecretsManager};
use testkit::webhook::Front;

#[tokio::test]
async fn one_read_serves_many_events() {
    let world = World::start(&[]).await;
    for _ in 0..5 {
        assert_eq!(world.post(&body()).await, relayed());
    }
    assert_eq!(world.secrets_manager.requests(), 1);
}

#[tokio::test]
async fn a_passcode_changed_while_warm_costs_no_event() {
    let world = World::start(&[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    world.clevertap.set_passcode("the-next-passcode");
    let changed = secret_value("the-next-passcode", SHARED_SECRET);
    world.secrets_manager.set_value(&changed);
    assert_eq!(world.post(&body()).await, relayed());
    let statuses: Vec<_> = world
        .clevertap
        .uploads()
        .iter()
        .map(|upload| upload.status)
        .collect();
    assert_eq!(statuses, [Some(200), Some(401), Some(200)]);
}

#[tokio::test]
async fn a_shared_secret_changed_while_warm_costs_no_event() {
    let world = World::start(&[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    world
        .secrets_manager
        .set_value(&secret_value(PASSCODE, "the-next-secret"));
    let event = signed(&body(), "the-next-secret").envelope(Front::HttpApi);
    assert_eq!(world.invoke(&event).await, relayed());
}

#[tokio::test]
async fn a_passcode_that_stays_wrong_is_asked_for_once_in_a_while() {
    let world = World::start(&[]).await;
    world.clevertap.set_passcode("unknown-to-the-secret");
    for _ in 0..4 {
        assert_eq!(world.post(&body()).await, unavailable());
    }
    assert_eq!(
        world.secrets_manager.requests(),
        2,
        "at start, and once more"
    );
    assert_eq!(
        world.clevertap.uploads().len(),
        4,
        "an unchanged passcode is not tried again"
    );
    let line = world.line(|line| line["reason"] == "not_accepted").await;
    assert!(
        line["message"]
            .as_str()
            .unwrap()
            .contains("CLEVERTAP_REGION"),
        "{line}"
    );
}

#[tokio::test]
async fn wrong_signatures_make_it_ask_once_in_a_while() {
    let world = World::start(&[]).await;
    for _ in 0..4 {
        let event = signed(&body(), "guessed").envelope(Front::HttpApi);
        assert_eq!(world.invoke(&event).await.status, 401);
    }
    assert_eq!(
        world.secrets_manager.requests(),
        2,
        "at start, and once more"
    );
}

#[tokio::test]
async fn a_failed_first_read_fails_no_start_and_is_made_good() {
    let manager = SecretsManager::new("relay", &secret_value(PASSCODE, SHARED_SECRET));
    // The SDK itself asks up to three times.
    manager.script(std::iter::repeat_n(Reply::Status(500), 3));
    let world = World::start_with(manager, &[]).await;
    world
        .function
        .wait_for_log(|line| line.contains("Secrets Manager refused"))
        .await;
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn a_silent_secrets_manager_is_503_in_time_and_recovers() {
    let manager = SecretsManager::new("relay", &secret_value(PASSCODE, SHARED_SECRET));
    manager.script(std::iter::repeat_n(Reply::Silent, 6));
    let world = World::start_with(manager, &[]).await;
    let started = std::time::Instant::now();
    // Nothing of the body is believed yet, so nothing of it is told.
    let nothing_told = testkit::harness::answered(503, json!({ "error": "unavailable" }));
    assert_eq!(world.post(&body()).await, nothing_told);
    assert!(
        started.elapsed() < Duration::from_millis(8500),
        "{:?}",
        started.elapsed()
    );
    world.secrets_manager.close_connections();
    loop {
        if world.post(&body()).await == relayed() {
            break;
        }
        assert!(
            started.elapsed() < Duration::from_secs(40),
            "never recovers"
        );
    }
}

#[tokio::test]
async fn a_first_read_that_was_frozen_is_raced_by_another() {
    let manager = SecretsManager::new("relay", &secret_value(PASSCODE, SHARED_SECRET));
    manager.script([Reply::Silent]);
    let world = World::start_with(manager, &[]).await;
    let started = std::time::Instant::now();
    assert_eq!(world.post(&body()).await, relayed());
    assert!(
        started.elapsed() < Duration::from_millis(1400),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test]
async fn a_misshapen_secret_is_told_by_its_key_and_mended_without_a_restart() {
    let misshapen = secret_value("hunter2 with spaces", SHARED_SECRET);
    let world = World::start_with(SecretsManager::new("relay", &misshapen), &[]).await;
    assert_eq!(world.post(&body()).await.status, 503);
    let line = world
        .function
        .wait_for_log(|line| line.contains("clevertap_passcode"))
        .await;
    assert!(line.contains("white space"), "{line}");
    assert!(!world.function.log().concat().contains("hunter2"));
    world
        .secrets_manager
        .set_value(&secret_value(PASSCODE, SHARED_SECRET));
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn a_late_401_over_a_silent_secrets_manager_is_answered_in_time() {
    let world = World::start(&[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    world.clevertap.set_passcode("the-next-passcode");
    world
        .clevertap
        .script([testkit::clevertap::Reply::Slow(Duration::from_secs(5))]);
    world
        .secrets_manager
        .script(std::iter::repeat_n(Reply::Silent, 6));
    let started = std::time::Instant::now();
    assert_eq!(world.post(&body()).await, unavailable());
    assert!(
        started.elapsed() < Duration::from_millis(7500),
        "{:?}",
        started.elapsed()
    );
}
