//! Connections under TLS, with a private authority in place of the compiled-in roots.

use crate::clevertap::CleverTap;
use crate::runtime_api::{Function, RuntimeApi};
use crate::world::{ACCOUNT_ID, PASSCODE, World, body, relayed, unavailable};
use std::io::Write;
use std::sync::Arc;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A CleverTap under TLS at `https://localhost:PORT`, and the PEM file of the authority behind it.
async fn clevertap_under_tls() -> (CleverTap, String, NamedTempFile) {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(certified.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certified.cert.der().clone()], key)
        .unwrap();
    let mut roots = NamedTempFile::new().unwrap();
    roots.write_all(certified.cert.pem().as_bytes()).unwrap();

    let clevertap = CleverTap::new(ACCOUNT_ID, PASSCODE);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!(
        "https://localhost:{}",
        listener.local_addr().unwrap().port()
    );
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = clevertap.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    server.serve_connection(stream).await;
                }
            });
        }
    });
    (clevertap, url, roots)
}

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
        let function = Function::spawn(crate::world::function_path(), &api, &settings);
        assert_eq!(function.wait_for_exit().await.code(), Some(1));
        function
            .wait_for_log(|line| line.contains("SSL_CERT_FILE"))
            .await;
    }
}
