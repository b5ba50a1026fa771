//! Stand-ins under TLS, with a certificate of their own.

use crate::clevertap::CleverTap;
use crate::harness::{ACCOUNT_ID, PASSCODE};
use std::io::Write;
use std::sync::Arc;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

/// A CleverTap under TLS at `https://localhost:PORT`, and the PEM file of the authority behind it.
pub async fn clevertap_under_tls() -> (CleverTap, String, NamedTempFile) {
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
