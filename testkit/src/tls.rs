//! A throw-away certificate authority, and listeners with certificates by it.
//! It does not know what is served under TLS.

use crate::clevertap::CleverTap;
use crate::connections::Listener;
use crate::harness::{ACCOUNT_ID, PASSCODE};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use std::io::Write;
use std::sync::Arc;
use tempfile::NamedTempFile;
use tokio::net::TcpListener;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub fn new() -> Self {
        let mut parameters = named("throw-away authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }

    /// Its certificate, which clients trust.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The same in a file, for `SSL_CERT_FILE`.
    pub fn pem_file(&self) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(self.pem().as_bytes()).unwrap();
        file
    }

    /// TLS 1.3 with a certificate for this host name.
    pub fn server_config(&self, name: &str) -> Arc<ServerConfig> {
        let key = KeyPair::generate().unwrap();
        let certificate = named(name).signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }

    /// A free port under TLS, and its `https://localhost:PORT`.
    pub async fn listen(&self) -> (Listener, String) {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = tcp.local_addr().expect("an address").port();
        let tls = Some(self.server_config("localhost").into());
        (Listener { tcp, tls }, format!("https://localhost:{port}"))
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// A certificate with the name of its issuer would count as self-signed.
fn named(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new([name.replace(' ', "-")]).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}

/// A CleverTap under TLS, its URL, and the PEM file of the authority behind it.
pub async fn clevertap_under_tls() -> (CleverTap, String, NamedTempFile) {
    let authority = Authority::new();
    let clevertap = CleverTap::new(ACCOUNT_ID, PASSCODE);
    let (listener, url) = authority.listen().await;
    tokio::spawn(clevertap.clone().serve(listener));
    (clevertap, url, authority.pem_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::Latency;
    use crate::dynamodb::DynamoDb;
    use crate::webhook::http_client_trusting;
    use purchasely_clevertap::http::roots;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn a_client_that_trusts_the_authority_reaches_a_service_with_latency() {
        let authority = Authority::new();
        let (listener, url) = authority.listen().await;
        let dynamodb = DynamoDb::new();
        let (connection, request) = (Duration::from_millis(20), Duration::from_millis(10));
        dynamodb.set_latency(Latency { connection, request });
        tokio::spawn(dynamodb.clone().serve(listener));
        let roots = roots(Some(authority.pem_file().path())).unwrap();
        let client = http_client_trusting(roots).unwrap().build().unwrap();

        let began_at = Instant::now();
        for _ in 0..2 {
            let response = client.post(&url).header("x-amz-target", "DynamoDB_20120810.UpdateItem");
            let response = response.body(r#"{"Key":{"event_id":{"S":"1"}}}"#).send().await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.text().await.unwrap(), r#"{"Attributes":{"event_id":{"S":"1"}}}"#);
        }
        assert!(began_at.elapsed() >= connection + 2 * request);
        assert_eq!((dynamodb.connections(), dynamodb.requests()), (1, 2));
    }
}
