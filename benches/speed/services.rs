//! Secrets Manager, CleverTap and DynamoDB under TLS 1.3, each on a port of its own: they count
//! connections and requests and answer at once, or after a fixed delay.
//! They do not judge what was uploaded; they keep it for whoever does.

use crate::events::SHARED_SECRET;
use crate::http1::{Connection, Request};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde::Serialize;
use serde_json::json;
use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::{Add, Sub};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

pub const ACCOUNT_ID: &str = "ABC-123-4567";
pub const SECRET_ID: &str = "relay";
const PASSCODE: &str = "passcode-of-the-bench";

/// What a peer would wait for a service that is not on the same machine.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub struct Latency {
    /// Added to each new connection.
    #[serde(serialize_with = "as_ms")]
    pub connecting: Duration,
    /// Added to each request to Secrets Manager.
    #[serde(serialize_with = "as_ms")]
    pub secrets_manager: Duration,
    /// Added to each request to CleverTap.
    #[serde(serialize_with = "as_ms")]
    pub clevertap: Duration,
    /// Added to each request to DynamoDB.
    #[serde(serialize_with = "as_ms")]
    pub dynamodb: Duration,
}

/// What reached a service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    pub connections: u64,
    pub requests: u64,
}

/// What reached each service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct AllTraffic {
    pub secrets_manager: Traffic,
    pub clevertap: Traffic,
    pub dynamodb: Traffic,
}

/// The running services.
pub struct Services {
    /// Of the throw-away authority, in PEM.
    pub authority_pem: String,
    secrets_manager: Service,
    clevertap: Service,
    dynamodb: Service,
    uploads: Arc<Mutex<Vec<Vec<u8>>>>,
}

struct Service {
    address: SocketAddr,
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    requests: AtomicU64,
}

struct Answer {
    status: &'static str,
    content_type: &'static str,
    body: Vec<u8>,
}

impl Services {
    pub fn start(latency: Latency) -> Result<Self, Box<dyn Error>> {
        let (authority_pem, tls) = throw_away_tls()?;
        let uploads = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&uploads);
        let start = |answering: Duration, answer: Box<dyn Fn(Request) -> Answer + Send + Sync>| {
            Service::start(Arc::clone(&tls), latency.connecting, answering, answer)
        };
        Ok(Self {
            authority_pem,
            secrets_manager: start(latency.secrets_manager, Box::new(give_secret))?,
            clevertap: start(
                latency.clevertap,
                Box::new(move |request| take_upload(request, &kept)),
            )?,
            dynamodb: start(latency.dynamodb, Box::new(|request| put_item(&request)))?,
            uploads,
        })
    }

    pub fn secrets_manager_url(&self) -> String {
        self.secrets_manager.url()
    }

    pub fn clevertap_url(&self) -> String {
        self.clevertap.url()
    }

    pub fn dynamodb_url(&self) -> String {
        self.dynamodb.url()
    }

    /// What has reached the services so far.
    pub fn traffic(&self) -> AllTraffic {
        AllTraffic {
            secrets_manager: self.secrets_manager.counts.read(),
            clevertap: self.clevertap.counts.read(),
            dynamodb: self.dynamodb.counts.read(),
        }
    }

    /// The bodies that CleverTap accepted since this was last asked.
    pub fn take_uploads(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.uploads.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Service {
    fn start(
        tls: Arc<ServerConfig>,
        connecting: Duration,
        answering: Duration,
        answer: Box<dyn Fn(Request) -> Answer + Send + Sync>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let service = Self {
            address: listener.local_addr()?,
            counts: Arc::default(),
        };
        let counts = Arc::clone(&service.counts);
        let answer: Arc<dyn Fn(Request) -> Answer + Send + Sync> = Arc::from(answer);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                counts.connections.fetch_add(1, Ordering::SeqCst);
                let (tls, counts, answer) = (tls.clone(), counts.clone(), answer.clone());
                thread::spawn(move || {
                    wait(connecting);
                    let served = serve(stream, tls, |request| {
                        counts.requests.fetch_add(1, Ordering::SeqCst);
                        wait(answering);
                        answer(request)
                    });
                    if let Err(error) = served {
                        eprintln!("service: {error}");
                    }
                });
            }
        });
        Ok(service)
    }

    fn url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }
}

impl Counts {
    fn read(&self) -> Traffic {
        Traffic {
            connections: self.connections.load(Ordering::SeqCst),
            requests: self.requests.load(Ordering::SeqCst),
        }
    }
}

impl Sub for Traffic {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            connections: self.connections - earlier.connections,
            requests: self.requests - earlier.requests,
        }
    }
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            connections: self.connections + other.connections,
            requests: self.requests + other.requests,
        }
    }
}

impl AllTraffic {
    /// Of all services together.
    pub fn total(self) -> Traffic {
        self.secrets_manager + self.clevertap + self.dynamodb
    }

    /// The greater of each count.
    pub fn most(self, other: Self) -> Self {
        Self {
            secrets_manager: self.secrets_manager.most(other.secrets_manager),
            clevertap: self.clevertap.most(other.clevertap),
            dynamodb: self.dynamodb.most(other.dynamodb),
        }
    }
}

impl Traffic {
    fn most(self, other: Self) -> Self {
        Self {
            connections: self.connections.max(other.connections),
            requests: self.requests.max(other.requests),
        }
    }
}

impl Add for AllTraffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            secrets_manager: self.secrets_manager + other.secrets_manager,
            clevertap: self.clevertap + other.clevertap,
            dynamodb: self.dynamodb + other.dynamodb,
        }
    }
}

impl Sub for AllTraffic {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            secrets_manager: self.secrets_manager - earlier.secrets_manager,
            clevertap: self.clevertap - earlier.clevertap,
            dynamodb: self.dynamodb - earlier.dynamodb,
        }
    }
}

fn wait(time: Duration) {
    if !time.is_zero() {
        thread::sleep(time);
    }
}

fn serve(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    answer: impl Fn(Request) -> Answer,
) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    let stream = StreamOwned::new(ServerConnection::new(tls)?, stream);
    let mut connection = Connection::new(stream);
    while let Some(request) = connection.read()? {
        let Answer {
            status,
            content_type,
            body,
        } = answer(request);
        connection.answer(status, &format!("Content-Type: {content_type}\r\n"), &body)?;
    }
    Ok(())
}

fn give_secret(request: Request) -> Answer {
    const AWS_JSON: &str = "application/x-amz-json-1.1";
    if request.header("x-amz-target") != Some("secretsmanager.GetSecretValue") {
        return refusal();
    }
    let secret = json!({
        "clevertap_passcode": PASSCODE,
        "purchasely_shared_secret": SHARED_SECRET,
    });
    let body = json!({
        "ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:relay-AbCdEf",
        "Name": SECRET_ID,
        "SecretString": secret.to_string(),
        "VersionId": "00000000-0000-4000-8000-000000000001",
        "VersionStages": ["AWSCURRENT"],
    });
    Answer {
        status: "200 OK",
        content_type: AWS_JSON,
        body: body.to_string().into_bytes(),
    }
}

fn take_upload(request: Request, uploads: &Mutex<Vec<Vec<u8>>>) -> Answer {
    const JSON: &str = "application/json";
    if !request.asks("POST /1/upload ") {
        return Answer {
            status: "200 OK",
            content_type: JSON,
            body: Vec::new(),
        };
    }
    let is_ours = request.header("x-clevertap-account-id") == Some(ACCOUNT_ID)
        && request.header("x-clevertap-passcode") == Some(PASSCODE);
    if !is_ours {
        return refusal();
    }
    let records = count(&request.body, br#""type":"#);
    let body = format!(r#"{{"status":"success","processed":{records},"unprocessed":[]}}"#);
    uploads
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(request.body);
    Answer {
        status: "200 OK",
        content_type: JSON,
        body: body.into_bytes(),
    }
}

fn put_item(request: &Request) -> Answer {
    if request.header("x-amz-target") != Some("DynamoDB_20120810.PutItem") {
        return refusal();
    }
    Answer {
        status: "200 OK",
        content_type: "application/x-amz-json-1.0",
        body: b"{}".to_vec(),
    }
}

fn refusal() -> Answer {
    Answer {
        status: "400 Bad Request",
        content_type: "application/json",
        body: br#"{"__type":"UnknownOperationException"}"#.to_vec(),
    }
}

fn count(bytes: &[u8], word: &[u8]) -> usize {
    bytes
        .windows(word.len())
        .filter(|window| *window == word)
        .count()
}

/// A certificate for `localhost`, by an authority that lives as long as the bench.
fn throw_away_tls() -> Result<(String, Arc<ServerConfig>), Box<dyn Error>> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority
        .distinguished_name
        .push(DnType::CommonName, "throw-away authority");
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(["localhost".to_owned()])?;
    // Of the same name as its issuer, it would pass for self-signed.
    leaf.distinguished_name
        .push(DnType::CommonName, "localhost");
    let leaf = leaf.signed_by(&key, &authority)?;
    let chain: Vec<CertificateDer<'static>> = vec![leaf.der().clone()];
    let key = PrivateKeyDer::try_from(key.serialize_der())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok((authority.pem(), Arc::new(config)))
}

fn as_ms<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64() * 1e3)
}
