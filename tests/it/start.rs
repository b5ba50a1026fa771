//! A start: the configuration it refuses, and what it prepares before the first event.
//! It does not know how long that takes; `make bench` measures it.

use crate::start;
use serde_json::Value;
use std::future::pending;
use tempfile::NamedTempFile;
use testkit::harness::{ACCOUNT_ID, PASSCODE, SECRET_ID, body, eventually, relayed};
use testkit::lambda::{Function, RuntimeApi};
use testkit::process::built;
use testkit::sockets::{Server, listen};
use testkit::world::clevertap::CleverTap;

#[tokio::test]
async fn a_start_reads_the_secret_and_connects_so_that_an_event_needs_nothing_but_its_upload() {
    let world = start(&[]).await;
    eventually("the start reads the secret and opens a connection", || {
        world.secrets_manager.requests() > 0 && world.clevertap.requests() > 0
    })
    .await;
    assert_eq!(world.clevertap.uploads().len(), 0);
    assert_eq!(world.clevertap.connections(), 1);
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
    let world = start(&[("CLEVERTAP_API_URL", &url)]).await;
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(clevertap.uploads().len(), 1);
}

#[tokio::test]
#[rustfmt::skip]
async fn every_configuration_error_is_reported_in_one_line() {
    let empty = NamedTempFile::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    let invalid = [("CLEVERTAP_REGION", "mars"), ("USER_ID_AS", "email"), ("UNKNOWN_FIELDS", "keep"), ("CLEVERTAP_API_URL", "http://example.com")];
    let roots = |file| [("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID), ("CLEVERTAP_REGION", "in1"), ("SSL_CERT_FILE", file)];
    for (settings, expected) in [
        (&invalid[..], "CLEVERTAP_REGION:,CLEVERTAP_ACCOUNT_ID:,USER_ID_AS:,UNKNOWN_FIELDS:,CLEVERTAP_API_URL:"),
        (&roots(empty), &format!("SSL_CERT_FILE,{empty}")),
        (&roots("/no.pem"), "SSL_CERT_FILE,/no.pem"),
    ] {
        let api = RuntimeApi::start().await;
        let settings = [settings, &[("SECRET_ID", SECRET_ID)]].concat();
        let function = Function::spawn(built("purchasely-clevertap"), &api, &settings);
        assert_eq!(function.wait_for_exit().await.code(), Some(78));
        let log = function.log();
        let [line] = &log[..] else {
            panic!("{log:?}");
        };
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["level"], "ERROR");
        for text in expected.split(',') {
            let message = line["message"].as_str().unwrap();
            assert_eq!(message.matches(text).count(), 1, "{text} in {message}");
        }
    }
}
