//! A throw-away certificate authority, and listeners with certificates by it.
//! It does not know what is served under TLS.

use super::server::{Listener, Server, listen};
use crate::world::Service;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair,
};
use std::io::Write;
use std::sync::Arc;
use tempfile::NamedTempFile;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Default for Authority {
    fn default() -> Self {
        let mut parameters = named("throw-away authority");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(parameters, key).unwrap())
    }
}

impl Authority {
    /// A file with its certificate, for `SSL_CERT_FILE`.
    pub fn pem_file(&self) -> NamedTempFile {
        file(&self.0.pem())
    }

    /// Files with a certificate for this host and with its key, for a server that is a program of its own.
    pub fn server_files(&self, host: &str) -> [NamedTempFile; 2] {
        let (certificate, key) = self.certificate(host);
        [file(&certificate.pem()), file(&key.serialize_pem())]
    }

    /// Serves on a free port under TLS 1.3, at `https://localhost:PORT`.
    pub async fn serve<S: Service>(&self, service: S) -> Server<S> {
        let (certificate, key) = self.certificate("localhost");
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        let (tcp, url) = listen().await;
        let url = url.replace("http://127.0.0.1", "https://localhost");
        Server::start_at(Listener { tcp, tls: Some(Arc::new(config).into()) }, url, service)
    }

    fn certificate(&self, host: &str) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        (named(host).signed_by(&key, &self.0).unwrap(), key)
    }
}

fn file(pem: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(pem.as_bytes()).unwrap();
    file
}

/// A certificate with the name of its issuer would count as self-signed.
fn named(name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::new([name.replace(' ', "-")]).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters
}
