//! Connections under TLS, with a private authority in place of the compiled-in roots.
//! It does not know AWS's certificates; all clients share one TLS configuration.

use tempfile::NamedTempFile;
use testkit::harness::{ACCOUNT_ID, PASSCODE, World, body, relayed, unavailable};
use testkit::lambda::{Function, RuntimeApi};
use testkit::process::built;
use testkit::sockets::Server;
use testkit::sockets::tls::Authority;
use testkit::world::clevertap::CleverTap;

/// A CleverTap under TLS, and the file of the authority behind it.
async fn clevertap_under_tls() -> (Server<CleverTap>, NamedTempFile) {
    let authority = Authority::default();
    let clevertap = authority.serve(CleverTap::new(ACCOUNT_ID, PASSCODE)).await;
    (clevertap, authority.pem_file())
}

#[tokio::test]
async fn a_host_that_the_configured_roots_know_receives_the_upload() {
    let (clevertap, roots) = clevertap_under_tls().await;
    let roots = roots.path().to_str().unwrap().to_owned();
    let world =
        World::start(&[("CLEVERTAP_API_URL", &clevertap.url), ("SSL_CERT_FILE", &roots)]).await;
    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(clevertap.accepted().len(), 2);
}

#[tokio::test]
async fn a_host_that_the_roots_do_not_know_receives_no_passcode() {
    let (clevertap, _) = clevertap_under_tls().await;
    let world = World::start(&[("CLEVERTAP_API_URL", &clevertap.url)]).await;
    assert_eq!(world.post(&body()).await, unavailable());
    assert_eq!(clevertap.requests(), 0);
}

#[tokio::test]
async fn an_unusable_certificate_file_is_a_configuration_error() {
    let empty = NamedTempFile::new().unwrap();
    for file in [empty.path().to_str().unwrap(), "/nowhere/roots.pem"] {
        let api = RuntimeApi::start().await;
        let settings = [
            ("CLEVERTAP_REGION", "in1"),
            ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID),
            ("SECRET_ID", "relay"),
            ("SSL_CERT_FILE", file),
        ];
        let function = Function::spawn(built("purchasely-clevertap"), &api, &settings);
        assert_eq!(function.wait_for_exit().await.code(), Some(78));
        let log = function.log().concat();
        assert!(log.contains("SSL_CERT_FILE") && log.contains(file), "{log}");
    }
}
