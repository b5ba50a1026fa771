//! The function as a developer runs it: `cargo lambda watch`, moto's Secrets Manager, plain HTTP requests.
//! It does not know `cargo relay`; the tests of `tools` do.

use aws_config::{BehaviorVersion, Region};
use purchasely_clevertap::http::SharedHttp;
use std::sync::Arc;
use std::time::Duration;
use testkit::cargo_lambda::{Watched, wait_until_served};
use testkit::clevertap::CleverTap;
use testkit::harness::{ACCOUNT_ID, PASSCODE, SHARED_SECRET, body, listen, secret_value, signed};
use testkit::process::{free_port, plain_client, tool};

const COMPILING: Duration = Duration::from_mins(10);

#[tokio::test]
async fn a_signed_webhook_is_relayed_through_cargo_lambda_watch_with_the_passcode_from_moto() {
    let http = plain_client();
    let moto_url = testkit::moto::endpoint().await;
    create_secret(&http, &moto_url).await;
    let clevertap = CleverTap::new(ACCOUNT_ID, PASSCODE);
    let (listener, clevertap_url) = listen().await;
    tokio::spawn(clevertap.clone().serve(listener));
    let variables = [
        ("CLEVERTAP_REGION", "in1"),
        ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
        ("CLEVERTAP_API_URL", &clevertap_url),
        ("SECRET_ID", "purchasely-clevertap"),
        ("AWS_ENDPOINT_URL", &moto_url),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ];
    let cargo_lambda = tool("CARGO_LAMBDA", "cargo-lambda");
    let log = tempfile::NamedTempFile::new().unwrap();
    let copy = Some(log.reopen().unwrap());
    let function = Watched::start(&cargo_lambda, free_port().await, &variables, copy).unwrap();
    let served = wait_until_served(&http, &function.url, COMPILING).await;
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

async fn create_secret(http: &reqwest::Client, moto_url: &str) {
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(SharedHttp(Arc::new(http.clone())))
        .region(Region::new("eu-west-1"))
        .endpoint_url(moto_url)
        .test_credentials()
        .load()
        .await;
    aws_sdk_secretsmanager::Client::new(&config)
        .create_secret()
        .name("purchasely-clevertap")
        .secret_string(secret_value(PASSCODE, SHARED_SECRET))
        .send()
        .await
        .expect("moto stores a secret");
}
