//! A throw-away certificate authority, and listeners with certificates by it.
//! It does not know what is served under TLS.

use super::server::{Listener, Server};
use crate::world::Service;
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

    /// Serves on a free port under TLS, at `https://localhost:PORT`.
    pub async fn serve<S: Service>(&self, service: S) -> Server<S> {
        let tcp = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = tcp.local_addr().expect("an address").port();
        let tls = Some(self.server_config("localhost").into());
        Server::start_at(Listener { tcp, tls }, format!("https://localhost:{port}"), service)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sockets::server::Latency;
    use crate::webhook::http_client_trusting;
    use crate::world::Ending;
    use bytes::Bytes;
    use hyper::Request;
    use purchasely_clevertap::http::roots;
    use std::time::{Duration, Instant};

    #[tokio::test]
    async fn a_client_that_trusts_the_authority_reaches_a_service_with_latency() {
        let authority = Authority::new();
        let echo = |request: Request<Bytes>| {
            std::future::ready(Ending::answer(200, "text/plain", request.into_body()))
        };
        let server = authority.serve(echo).await;
        let (connection, request) = (Duration::from_millis(20), Duration::from_millis(10));
        server.set_latency(Latency { connection, request });
        let roots = roots(Some(authority.pem_file().path())).unwrap();
        let client = http_client_trusting(roots).unwrap().build().unwrap();

        let began_at = Instant::now();
        for _ in 0..2 {
            let response = client.post(&server.url).body("hello").send().await.unwrap();
            assert_eq!(response.text().await.unwrap(), "hello");
        }
        assert!(began_at.elapsed() >= connection + 2 * request);
        assert_eq!((server.connections(), server.requests()), (1, 2));
    }
}
