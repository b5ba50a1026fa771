//! The secret as it is read and rotated, by the real binary.
//! It does not know how long a value is kept; the unit tests of `src/aws/secret.rs` do.

use crate::{start, start_with};
use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use testkit::harness::{
    PASSCODE, SECRET_ID, SHARED_SECRET, answered, body, relayed, secret_value, signed,
};
use testkit::hyper::Request;
use testkit::sockets::Server;
use testkit::webhook::Front;
use testkit::world::Ending;
use testkit::world::secrets_manager::SecretsManager;

#[tokio::test]
async fn a_shared_secret_rotated_while_warm_costs_no_event() {
    let world = start(&[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    world.secrets_manager.set_value(&secret_value(PASSCODE, "the-next-secret"));
    let event = signed(&body(), "the-next-secret").envelope(Front::HttpApi);
    assert_eq!(world.invoke(&event).await, relayed());
}

#[tokio::test]
async fn a_first_read_that_never_answers_is_raced_by_another() {
    let first: Arc<Mutex<Option<String>>> = Arc::default();
    let server = Server::start(move |request: Request<Bytes>| {
        // The SDK gives all requests of one read the same id, its repetitions included.
        let read = request.headers()["amz-sdk-invocation-id"].to_str().unwrap().to_owned();
        let is_first = *first.lock().unwrap().get_or_insert_with(|| read.clone()) == read;
        async move {
            if is_first {
                std::future::pending::<()>().await;
            }
            let secret = json!({ "SecretString": secret_value(PASSCODE, SHARED_SECRET) });
            Ending::answer(200, "application/x-amz-json-1.1", secret.to_string())
        }
    });
    let world = start(&[("AWS_ENDPOINT_URL_SECRETS_MANAGER", &server.await.url)]).await;
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn a_key_that_cannot_be_used_is_named_and_fixed_without_a_restart() {
    let invalid = secret_value("hunter2 with spaces", SHARED_SECRET);
    let world = start_with(SecretsManager::new(SECRET_ID, &invalid), &[]).await;
    // Nothing of the body is verified yet, so not even the event's id is returned.
    let without_id = answered(503, json!({ "error": "unavailable" }));
    assert_eq!(world.post(&body()).await, without_id);
    let line = world.function.wait_for_log(|line| line.contains("clevertap_passcode")).await;
    assert!(line.contains("white space"), "{line}");
    // An optional one costs no event.
    let mut secret: Value = serde_json::from_str(&secret_value(PASSCODE, SHARED_SECRET)).unwrap();
    secret["purchasely_shared_secret_previous"] = json!(null);
    world.secrets_manager.set_value(&secret.to_string());
    assert_eq!(world.post(&body()).await, relayed());
    let is_named = |text: &str| text.contains("`purchasely_shared_secret_previous`");
    let line = world.line(|line| line["message"].as_str().is_some_and(is_named)).await;
    assert_eq!(line["level"], "ERROR", "{line}");
}
