//! Posts the same bytes to CleverTap for each event over one connection: what an upload costs without a relay.
//! It does not verify, map, log or look at its events, and it opens its connection once.

use lambda_http::{Error, Request, run, service_fn};
use std::env;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let request = env::var("FORWARDED_REQUEST")?;
    let connection = Mutex::new(connect().await?);
    let (request, connection) = (request.as_bytes(), &connection);
    run(service_fn(move |_: Request| async move {
        post(&mut *connection.lock().await, request).await?;
        Ok::<_, Error>("")
    }))
    .await
}

async fn connect() -> Result<TlsStream<TcpStream>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(env::var("SSL_CERT_FILE")?)?)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let url = env::var("CLEVERTAP_API_URL")?;
    let address = url.strip_prefix("https://").ok_or("the URL is not https")?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let host = address.split(':').next().unwrap_or_default().to_owned();
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector.connect(host.try_into()?, stream).await?)
}

async fn post(connection: &mut TlsStream<TcpStream>, request: &[u8]) -> Result<(), Error> {
    connection.write_all(request).await?;
    connection.flush().await?;
    let mut response = Vec::with_capacity(1024);
    while !is_complete(&response) {
        if connection.read_buf(&mut response).await? == 0 {
            return Err("the connection was closed before the answer".into());
        }
    }
    let is_success = response.starts_with(b"HTTP/1.1 200 ");
    if is_success { Ok(()) } else { Err("CleverTap did not answer 200".into()) }
}

fn is_complete(response: &[u8]) -> bool {
    let text = str::from_utf8(response).unwrap_or_default();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.parse().ok()) == Some(body.len())
}
