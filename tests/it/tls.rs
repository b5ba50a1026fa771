//! Connections under TLS, with a private authority in place of the compiled-in roots.

use tempfile::NamedTempFile;
use testkit::harness::{ACCOUNT_ID, World, body, relayed, unavailable};
use testkit::lambda::{Function, RuntimeApi};
use testkit::tls::clevertap_under_tls;

#[tokio::test]
async fn relays_over_tls_to_a_host_that_the_given_roots_know() {
    let (clevertap, url, roots) = clevertap_under_tls().await;
    let roots = roots.path().to_str().unwrap().to_owned();
    let world = World::start(&[("CLEVERTAP_API_URL", &url), ("SSL_CERT_FILE", &roots)]).await;
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(clevertap.accepted().len(), 2);
}

#[tokio::test]
async fn the_passcode_is_not_sent_to_a_host_that_the_roots_do_not_know() {
    let (clevertap, url, _) = clevertap_under_tls().await;
    let world = World::start(&[("CLEVERTAP_API_URL", &url)]).await;
    assert_eq!(world.post(&body()).await, unavailable());
    assert_eq!(clevertap.requests(), 0);
}

#[tokio::test]
async fn roots_that_cannot_be_used_end_the_start_with_the_reason() {
    let empty = NamedTempFile::new().unwrap();
    let empty = empty.path().to_str().unwrap();
    for file in [empty, "/nowhere/roots.pem"] {
        let api = RuntimeApi::start().await;
        let settings = [
            ("CLEVERTAP_REGION", "in1"),
            ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
            ("SECRET_ID", "relay"),
            ("SSL_CERT_FILE", file),
        ];
        let function = Function::spawn(testkit::harness::function_path(), &api, &settings);
        assert_eq!(function.wait_for_exit().await.code(), Some(1));
        function
            .wait_for_log(|line| line.contains("SSL_CERT_FILE"))
            .await;
    }
}
