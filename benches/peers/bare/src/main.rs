//! Posts the same bytes to CleverTap for each event over one connection: what an upload costs without a relay. With
//! `DEDUPLICATION_TABLE` it also signs and sends an `UpdateItem` before and after, over a second one: the least that
//! a relay which claims its events can take. It does not verify, map, log or look at its events.

use lambda_http::{Error, Request, run, service_fn};
use ring::digest::{SHA256, digest};
use ring::hmac::{HMAC_SHA256, Key, sign};
use std::env;
use std::sync::Arc;
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

const JSON: &str = "application/x-amz-json-1.0";

type Connection = TlsStream<TcpStream>;

/// A table, and what a request to it is signed with.
struct Table {
    connection: Connection,
    name: String,
    host: String,
    region: String,
    key_id: String,
    secret_key: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let upload = env::var("FORWARDED_REQUEST")?;
    let connections = tokio::try_join!(connect("CLEVERTAP_API_URL"), Table::open())?;
    let (upload, connections) = (upload.as_bytes(), &Mutex::new(connections));
    run(service_fn(move |_: Request| async move {
        let (clevertap, table) = &mut *connections.lock().await;
        if let Some(table) = table {
            table.update("INPROGRESS").await?;
        }
        post(clevertap, upload).await?;
        if let Some(table) = table {
            table.update("COMPLETED").await?;
        }
        Ok::<_, Error>("")
    }))
    .await
}

impl Table {
    /// `None` without a table's name.
    async fn open() -> Result<Option<Self>, Error> {
        let Ok(name) = env::var("DEDUPLICATION_TABLE") else {
            return Ok(None);
        };
        Ok(Some(Self {
            connection: connect("AWS_ENDPOINT_URL_DYNAMODB").await?,
            name,
            host: env::var("AWS_ENDPOINT_URL_DYNAMODB")?.replace("https://", ""),
            region: env::var("AWS_REGION")?,
            key_id: env::var("AWS_ACCESS_KEY_ID")?,
            secret_key: env::var("AWS_SECRET_ACCESS_KEY")?,
        }))
    }

    async fn update(&mut self, status: &str) -> Result<(), Error> {
        let body = format!(
            r##"{{"TableName":"{}","Key":{{"event_id":{{"S":"bare"}}}},"UpdateExpression":"SET #expiry = :expiry, #status = :status","ExpressionAttributeNames":{{"#status":"status","#expiry":"expiration"}},"ExpressionAttributeValues":{{":status":{{"S":"{status}"}},":expiry":{{"N":"4102444800"}}}}}}"##,
            self.name
        );
        let request = self.signed(&body, OffsetDateTime::now_utc());
        post(&mut self.connection, request.as_bytes()).await
    }

    /// The request with its signature (<https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html>).
    fn signed(&self, body: &str, at: OffsetDateTime) -> String {
        let (host, region, key_id) = (&self.host, &self.region, &self.key_id);
        let day = format!("{}{:02}{:02}", at.year(), u8::from(at.month()), at.day());
        let date = format!("{day}T{:02}{:02}{:02}Z", at.hour(), at.minute(), at.second());
        let scope = format!("{day}/{region}/dynamodb/aws4_request");
        let target = "DynamoDB_20120810.UpdateItem";
        let names = "content-type;host;x-amz-date;x-amz-target";
        let headers = format!(
            "content-type:{JSON}\nhost:{host}\nx-amz-date:{date}\nx-amz-target:{target}\n"
        );
        let canonical = format!("POST\n/\n\n{headers}\n{names}\n{}", hash(body));
        let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(&canonical));
        let mut key = format!("AWS4{}", self.secret_key).into_bytes();
        for part in scope.split('/') {
            key = sign(&Key::new(HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
        }
        let signature = hex::encode(sign(&Key::new(HMAC_SHA256, &key), to_sign.as_bytes()));
        format!(
            "POST / HTTP/1.1\r\nhost: {host}\r\nx-amz-date: {date}\r\nx-amz-target: {target}\r\nauthorization: AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}\r\ncontent-type: {JSON}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    }
}

fn hash(text: &str) -> String {
    hex::encode(digest(&SHA256, text.as_bytes()))
}

/// Opens a connection to the URL in a variable.
async fn connect(variable: &str) -> Result<Connection, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(env::var("SSL_CERT_FILE")?)?)?;
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let url = env::var(variable)?;
    let address = url.strip_prefix("https://").ok_or("the URL is not https")?;
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let host = address.split(':').next().unwrap_or_default().to_owned();
    let connector = TlsConnector::from(Arc::new(config));
    Ok(connector.connect(host.try_into()?, stream).await?)
}

async fn post(connection: &mut Connection, request: &[u8]) -> Result<(), Error> {
    connection.write_all(request).await?;
    connection.flush().await?;
    let mut response = Vec::with_capacity(1024);
    while !is_complete(&response) {
        if connection.read_buf(&mut response).await? == 0 {
            return Err("the connection was closed before the answer".into());
        }
    }
    let is_success = response.starts_with(b"HTTP/1.1 200 ");
    if is_success {
        Ok(())
    } else {
        Err("the answer was not 200".into())
    }
}

fn is_complete(response: &[u8]) -> bool {
    let text = str::from_utf8(response).unwrap_or_default();
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.and_then(|length| length.parse().ok()) == Some(body.len())
}
