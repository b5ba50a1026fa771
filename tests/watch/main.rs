//! The function as a developer runs it: plain `cargo lambda watch`, a stand-in for Secrets Manager, plain HTTP requests.
//! It does not know `cargo relay`; the tests of `tools` do.

use std::time::Duration;
use testkit::cargo_lambda::{Watched, wait_until_served};
use testkit::harness::{
    ACCOUNT_ID, PASSCODE, SECRET_ID, SHARED_SECRET, body, secret_value, signed,
};
use testkit::process::{free_port, plain_client, tool};
use testkit::sockets::Server;
use testkit::world::clevertap::CleverTap;
use testkit::world::secrets_manager::SecretsManager;

/// Only a hang takes so long.
const PATIENCE: Duration = Duration::from_mins(5);

#[tokio::test]
async fn a_signed_webhook_is_relayed_through_cargo_lambda_watch() {
    let http = plain_client();
    let secret = secret_value(PASSCODE, SHARED_SECRET);
    let secrets_manager = Server::start(SecretsManager::new(SECRET_ID, &secret)).await;
    let clevertap = Server::start(CleverTap::new(ACCOUNT_ID, PASSCODE)).await;
    let variables = [
        ("CLEVERTAP_REGION", "in1"),
        ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
        ("CLEVERTAP_API_URL", &*clevertap.url),
        ("SECRET_ID", SECRET_ID),
        ("AWS_ENDPOINT_URL_SECRETS_MANAGER", &secrets_manager.url),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let cargo_lambda = tool("CARGO_LAMBDA", "cargo-lambda");
    let log = tempfile::NamedTempFile::new().unwrap();
    let copy = Some(log.reopen().unwrap());
    let function = Watched::start(&cargo_lambda, free_port().await, &variables, copy).unwrap();
    let served = wait_until_served(&http, &function.url, PATIENCE).await;
    let output = || std::fs::read_to_string(log.path()).unwrap_or_default();
    assert_eq!(served, Ok(()), "{}", output());

    let correct = signed(&body(), SHARED_SECRET).post(&http, &function.url).await.unwrap();
    let wrong = signed(&body(), "another").post(&http, &function.url).await.unwrap();
    function.end().await;

    let relayed = r#"{"status":"relayed","event_id":"0d6f8f0e-6f0b-4d0e-9a44-6a0f1f9f2c11"}"#;
    assert_eq!(correct, (200, relayed.to_owned()), "{}", output());
    assert_eq!(wrong, (401, r#"{"error":"unauthorized"}"#.to_owned()));
    assert_eq!(clevertap.accepted().len(), 2);
}
