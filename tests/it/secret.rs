//! The secret as it is read, cached and rotated.
//! It does not know Secrets Manager's own rules; the stand-in in `testkit` does.

use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use testkit::harness::{
    PASSCODE, SHARED_SECRET, World, answered, body, relayed, secret_value, signed, unavailable,
};
use testkit::sockets::servers::server;
use testkit::webhook::Front;
use testkit::world::Ending;
use testkit::world::clevertap::Reply;
use testkit::world::faulty::{Fault, Faulty};
use testkit::world::secrets_manager::SecretsManager;

/// A Secrets Manager that answers its next requests by `script`.
fn scripted(script: impl IntoIterator<Item = Fault>) -> Faulty<SecretsManager> {
    let secret = secret_value(PASSCODE, SHARED_SECRET);
    let manager = Faulty::from(SecretsManager::new("relay", &secret));
    manager.script(script);
    manager
}

#[tokio::test]
async fn a_secret_rotated_while_warm_costs_no_event() {
    let world = World::start(&[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    world.clevertap.set_passcode("the-next-passcode");
    let rotated = secret_value("the-next-passcode", SHARED_SECRET);
    world.secrets_manager.set_value(&rotated);
    assert_eq!(world.post(&body()).await, relayed());
    let uploads = world.clevertap.uploads();
    let statuses: Vec<_> = uploads.iter().map(|upload| upload.status).collect();
    assert_eq!(statuses, [Some(200), Some(401), Some(200)]);

    let world = World::start(&[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    let rotated = secret_value(PASSCODE, "the-next-secret");
    world.secrets_manager.set_value(&rotated);
    let event = signed(&body(), "the-next-secret").envelope(Front::HttpApi);
    assert_eq!(world.invoke(&event).await, relayed());
}

#[tokio::test]
async fn the_previous_shared_secret_is_accepted_during_a_rotation() {
    let secret = json!({
        "clevertap_passcode": PASSCODE,
        "purchasely_shared_secret": "the-next-one",
        "purchasely_shared_secret_previous": SHARED_SECRET,
    });
    let manager = SecretsManager::new("relay", &secret.to_string());
    let world = World::start_with(manager, &[]).await;
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn an_optional_key_that_cannot_be_used_costs_no_event_and_is_named() {
    let mut secret: Value = serde_json::from_str(&secret_value(PASSCODE, SHARED_SECRET)).unwrap();
    secret["purchasely_shared_secret_previous"] = json!(null);
    let manager = SecretsManager::new("relay", &format!("\u{feff}{secret}"));
    let world = World::start_with(manager, &[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    let is_named = |text: &str| text.contains("`purchasely_shared_secret_previous`");
    let line = world.line(|line| line["message"].as_str().is_some_and(is_named)).await;
    assert_eq!(line["level"], "ERROR", "{line}");
}

#[tokio::test]
async fn a_wrong_passcode_or_signature_forces_one_read_in_30_seconds() {
    let world = World::start(&[]).await;
    world.clevertap.set_passcode("unknown-to-the-secret");
    for _ in 0..4 {
        assert_eq!(world.post(&body()).await, unavailable());
    }
    // An unchanged passcode is not sent again in the same invocation.
    assert_eq!(world.clevertap.uploads().len(), 4);
    let line = world.line(|line| line["reason"] == "credentials_rejected").await;
    assert!(line["message"].as_str().unwrap().contains("CLEVERTAP_REGION"), "{line}");

    let forged = World::start(&[]).await;
    for _ in 0..4 {
        let event = signed(&body(), "guessed").envelope(Front::HttpApi);
        assert_eq!(forged.invoke(&event).await.status, 401);
    }
    for world in [world, forged] {
        // One at start, perhaps one that raced it, and the forced one.
        let requests = world.secrets_manager.requests();
        assert!((2..=3).contains(&requests), "{requests}");
    }
}

#[tokio::test]
async fn a_failed_first_read_ends_no_start_and_is_repeated() {
    // The SDK itself sends up to three requests for one read.
    let world = World::start_with(scripted(vec![Fault::status(500); 3]), &[]).await;
    world.function.wait_for_log(|line| line.contains("SECRET_ID")).await;
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn a_silent_secrets_manager_is_503_in_time_and_the_function_recovers() {
    let world = World::start_with(scripted(vec![Fault::Silent; 6]), &[]).await;
    // Nothing of the body is verified yet, so not even the event's id is returned.
    let without_id = answered(503, json!({ "error": "unavailable" }));
    assert_eq!(world.post(&body()).await, without_id);
    world.secrets_manager.close_connections();
    let mut failures = 0;
    while world.post(&body()).await != relayed() {
        failures += 1;
        assert!(failures < 6, "each failed event uses up at least one silent request");
    }
}

#[tokio::test]
async fn a_first_read_that_never_answers_is_raced_by_another() {
    let first: Arc<Mutex<Option<Value>>> = Arc::default();
    let url = server(move |_, request| {
        // The SDK gives all requests of one read the same id, its repetitions included.
        let read = request.headers()["amz-sdk-invocation-id"].to_str().unwrap();
        let read = json!(read);
        let is_first = *first.lock().unwrap().get_or_insert_with(|| read.clone()) == read;
        async move {
            if is_first {
                std::future::pending::<()>().await;
            }
            let secret = json!({ "SecretString": secret_value(PASSCODE, SHARED_SECRET) });
            Ending::answer(200, "application/x-amz-json-1.1", secret.to_string())
        }
    })
    .await;
    let world = World::start(&[("AWS_ENDPOINT_URL_SECRETS_MANAGER", &url)]).await;
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn an_invalid_secret_is_reported_by_its_key_and_fixed_without_a_restart() {
    let invalid = secret_value("hunter2 with spaces", SHARED_SECRET);
    let world = World::start_with(SecretsManager::new("relay", &invalid), &[]).await;
    assert_eq!(world.post(&body()).await.status, 503);
    let is_report = |line: &str| line.contains("clevertap_passcode");
    let line = world.function.wait_for_log(is_report).await;
    assert!(line.contains("white space"), "{line}");
    let valid = secret_value(PASSCODE, SHARED_SECRET);
    world.secrets_manager.set_value(&valid);
    assert_eq!(world.post(&body()).await, relayed());
}

#[tokio::test]
async fn a_late_401_with_a_silent_secrets_manager_is_answered_in_time() {
    let world = World::start(&[]).await;
    assert_eq!(world.post(&body()).await, relayed());
    world.clevertap.set_passcode("the-next-passcode");
    let late = Reply::Slow(std::time::Duration::from_secs(5));
    world.clevertap.script([late]);
    world.secrets_manager.script(vec![Fault::Silent; 6]);
    assert_eq!(world.post(&body()).await, unavailable());
    assert_eq!(world.clevertap.uploads()[1].status, Some(401));
}
