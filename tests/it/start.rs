//! A start: the configuration it refuses, and what it prepares before the first event.
//! It does not know how long that takes; `make bench` measures it.

use serde_json::Value;
use std::future::pending;
use testkit::harness::{ACCOUNT_ID, PASSCODE, World, body, eventually, relayed};
use testkit::lambda::{Function, RuntimeApi};
use testkit::process::built;
use testkit::sockets::{Server, listen};
use testkit::world::clevertap::CleverTap;

/// A function whose start has read the secret and opened a connection.
async fn started() -> World {
    let world = World::start(&[]).await;
    eventually("the start reads the secret and opens a connection", || {
        world.secrets_manager.requests() > 0 && world.clevertap.requests() > 0
    })
    .await;
    world
}

#[tokio::test]
async fn a_start_reads_the_secret_and_opens_a_connection_before_the_first_event() {
    let world = started().await;
    assert_eq!(world.clevertap.uploads().len(), 0);
    assert_eq!(world.clevertap.connections(), 1);
}

#[tokio::test]
async fn a_later_event_needs_nothing_but_its_upload() {
    let world = started().await;
    assert_eq!(world.post(&body()).await, relayed());
    let connections = world.clevertap.connections();
    let requests = world.clevertap.requests();
    for uploads in 1..=10 {
        assert_eq!(world.post(&body()).await, relayed());
        assert_eq!(world.clevertap.requests(), requests + uploads);
    }
    assert_eq!(world.clevertap.connections(), connections);
    // The start's read, and at most one that raced it.
    assert!(world.secrets_manager.requests() <= 2);
}

#[tokio::test]
async fn a_first_connection_that_never_answers_delays_no_event() {
    let clevertap = CleverTap::new(ACCOUNT_ID, PASSCODE);
    let (listener, url) = listen().await;
    let (address, service) = (url.clone(), clevertap.clone());
    tokio::spawn(async move {
        // As if the environment had been frozen between its start and its first event.
        let silent = listener.accept().await;
        Server::start_at(listener, address, service);
        pending::<()>().await;
        drop(silent);
    });
    let world = World::start(&[("CLEVERTAP_API_URL", &url)]).await;
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(clevertap.uploads().len(), 1);
}

#[tokio::test]
async fn every_configuration_error_is_reported_in_one_line() {
    let api = RuntimeApi::start().await;
    let settings = [
        ("CLEVERTAP_REGION", "mars"),
        ("USER_ID_AS", "email"),
        ("UNKNOWN_FIELDS", "keep"),
        ("SECRET_ID", "relay"),
        ("CLEVERTAP_API_URL", "http://example.com"),
    ];
    let function = Function::spawn(built("purchasely-clevertap"), &api, &settings);
    assert_eq!(function.wait_for_exit().await.code(), Some(78));
    let log = function.log();
    assert_eq!(log.len(), 1, "{log:?}");
    let line: Value = serde_json::from_str(&log[0]).unwrap();
    assert_eq!(line["level"], "ERROR");
    let message = line["message"].as_str().unwrap();
    for variable in [
        "CLEVERTAP_REGION",
        "CLEVERTAP_ACCOUNT_ID",
        "USER_ID_AS",
        "UNKNOWN_FIELDS",
        "CLEVERTAP_API_URL",
    ] {
        let problem = format!("{variable}: ");
        assert_eq!(message.matches(&problem).count(), 1, "{variable} in {message}");
    }
}
