//! The one way out: every request to CleverTap and to AWS is one call of [`Http::exchange`].
//!
//! TLS, root certificates, the connection pool and connection timeouts are set here and nowhere else.
//! It does not retry and knows nothing about what is sent. The crate of the same name is `::http` here.

use ::http::{HeaderMap, Method, Request, Response, Uri};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use std::fmt;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// How long the first request waits for the connection that was started at start-up. The wait is worth no
/// more than a handshake, and after a freeze the connection never comes.
const WARM_UP_TIMEOUT: Duration = Duration::from_millis(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Less than the idle timeout of load balancers, so that a pooled connection is rarely a dead one.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(45);
/// A connection whose data stays unacknowledged for this long is dead.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(2);
/// The largest AWS response that is read; a secret has at most 64 KiB.
const MAX_AWS_RESPONSE_BYTES: usize = 1024 * 1024;

/// A future of [`Http::exchange`].
pub type Exchange =
    Pin<Box<dyn Future<Output = Result<Response<Option<Bytes>>, NoResponse>> + Send>>;

/// Sends a request and reads the response. Production uses [`Clients`]; a simulation brings its own.
pub trait Http: fmt::Debug + Send + Sync {
    /// The response's body is `None` where it was cut short or is longer than `max_bytes`.
    fn exchange(&self, request: Request<Bytes>, max_bytes: usize) -> Exchange;
}

/// Why there is no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoResponse {
    #[error("no request could be made")]
    Unsendable,
    /// Nothing was sent.
    #[error("no connection")]
    NotConnected,
    /// The connection was closed or reset: the server may have acted on the request.
    #[error("the connection was lost")]
    Lost,
}

/// An [`Http`] that several clients share; the AWS SDK takes it as its own.
#[derive(Debug, Clone)]
pub struct SharedHttp(pub Arc<dyn Http>);

/// A request that only opens the first connection to a host. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct WarmUp(Arc<Mutex<Option<JoinHandle<()>>>>);

impl WarmUp {
    /// Starts a request that asks a host for nothing.
    pub fn connect(&self, http: &SharedHttp, origin: &Uri) {
        let mut request = Request::new(Bytes::new());
        *request.method_mut() = Method::HEAD;
        request.uri_mut().clone_from(origin);
        self.start(http.0.exchange(request, 0));
    }

    /// Starts the request. Its failure changes nothing.
    pub fn start<T>(&self, request: impl Future<Output = T> + Send + 'static) {
        let task = tokio::spawn(async move {
            let _ = request.await;
        });
        *self.task() = Some(task);
    }

    /// Waits for the connection, so that the first request opens no second one beside it.
    pub async fn wait(&self) {
        let task = self.task().take();
        if let Some(task) = task {
            let _ = timeout(WARM_UP_TIMEOUT, task).await;
        }
    }

    fn task(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The production clients. What is sent again after a lost connection goes over a new one: an environment
/// that was frozen may hold several dead connections.
#[derive(Debug, Clone)]
pub struct Clients {
    /// Keeps one connection, so that there is no second one that may be dead as well.
    pub clevertap: SharedHttp,
    /// Keeps all connections, and gives each repeated attempt of the SDK a new one.
    pub aws: SharedHttp,
}

impl Clients {
    /// No redirects (they would take the passcode along), no proxy, no retries.
    pub fn new(roots: RootCertStore) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = |idle_connections| {
            let builder = reqwest::Client::builder()
                .tls_backend_preconfigured(tls.clone())
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .no_proxy()
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                .pool_max_idle_per_host(idle_connections)
                .tcp_nodelay(true);
            // macOS, on which only the tool runs, has no such option.
            #[cfg(target_os = "linux")]
            let builder = builder.tcp_user_timeout(TCP_USER_TIMEOUT);
            builder.build().map_err(|error| error.to_string())
        };
        Ok(Self {
            clevertap: SharedHttp(Arc::new(client(1)?)),
            aws: SharedHttp(Arc::new(Aws { pooled: client(usize::MAX)?, unpooled: client(0)? })),
        })
    }
}

/// The certificates of a PEM file, or the compiled-in ones.
pub fn roots(pem_file: Option<&Path>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = pem_file else {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    };
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("it has no certificate".to_owned());
    }
    Ok(roots)
}

impl Http for reqwest::Client {
    fn exchange(&self, request: Request<Bytes>, max_bytes: usize) -> Exchange {
        let client = self.clone();
        Box::pin(async move {
            let request = reqwest::Request::try_from(request).map_err(classify)?;
            let mut response = client.execute(request).await.map_err(classify)?;
            let status = response.status();
            let headers = std::mem::take(response.headers_mut());
            let mut answer = Response::new(read_body(response, max_bytes).await);
            *answer.status_mut() = status;
            *answer.headers_mut() = headers;
            Ok(answer)
        })
    }
}

/// Sends what the AWS SDK asks for.
#[derive(Debug)]
struct Aws {
    pooled: reqwest::Client,
    unpooled: reqwest::Client,
}

impl Http for Aws {
    fn exchange(&self, request: Request<Bytes>, max_bytes: usize) -> Exchange {
        let client = if is_repeated(request.headers()) {
            &self.unpooled
        } else {
            &self.pooled
        };
        client.exchange(request, max_bytes)
    }
}

/// Whether the SDK has sent the request before: it numbers its attempts, as in `attempt=2; max=3`.
fn is_repeated(headers: &HeaderMap) -> bool {
    let pairs = headers.get("amz-sdk-request").and_then(|pairs| pairs.to_str().ok());
    pairs.is_some_and(|pairs| pairs.split("; ").all(|pair| pair != "attempt=1"))
}

async fn read_body(mut response: reqwest::Response, max_bytes: usize) -> Option<Bytes> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.ok()? {
        if body.len() + chunk.len() > max_bytes {
            return None;
        }
        body.extend_from_slice(&chunk);
    }
    Some(body.into())
}

fn classify(error: reqwest::Error) -> NoResponse {
    if error.is_builder() {
        NoResponse::Unsendable
    } else if error.is_connect() {
        NoResponse::NotConnected
    } else {
        NoResponse::Lost
    }
}

impl HttpClient for SharedHttp {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for SharedHttp {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let http = Arc::clone(&self.0);
        HttpConnectorFuture::new(async move {
            let request =
                request.try_into_http1x().map_err(|error| ConnectorError::user(error.into()))?;
            let (parts, body) = request.into_parts();
            let body = body
                .bytes()
                .ok_or_else(|| ConnectorError::user("a streaming body is not supported".into()))?;
            let request = Request::from_parts(parts, Bytes::copy_from_slice(body));
            let response = http.exchange(request, MAX_AWS_RESPONSE_BYTES).await.map_err(
                |error| match error {
                    NoResponse::Unsendable => ConnectorError::user(error.into()),
                    NoResponse::NotConnected | NoResponse::Lost => ConnectorError::io(error.into()),
                },
            )?;
            let (parts, body) = response.into_parts();
            let body = body.ok_or_else(|| ConnectorError::io(NoResponse::Lost.into()))?;
            HttpResponse::try_from(Response::from_parts(parts, SdkBody::from(body)))
                .map_err(|error| ConnectorError::other(error.into(), None))
        })
    }
}
