//! The HTTP/1.1 server under every stand-in: it counts, adds latency and ends connections on demand.
//! It does not know what it serves.

use bytes::Bytes;
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, Socket};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// How a request ends, and the connection that it came on.
pub enum Ending {
    Answer(Response<Full<Bytes>>),
    /// The same, but the connection closes before the last byte of the body.
    CutShort(Response<Full<Bytes>>),
    /// The connection closes in the orderly way, without an answer.
    Close,
    /// The peer sees a TCP reset.
    Reset,
}

/// What a service on another machine would add.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Before each new connection is served.
    pub connection: Duration,
    /// Before each request is answered.
    pub request: Duration,
}

/// A socket that accepts connections, plain (`From<TcpListener>`) or under TLS ([`crate::tls::Authority`]).
pub struct Listener {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
}

/// The connections of one server. Clones share them.
#[derive(Clone, Default)]
pub struct Connections(Arc<Shared>);

#[derive(Default)]
struct Shared {
    connections: AtomicUsize,
    requests: AtomicUsize,
    latency: Mutex<Latency>,
    closing: watch::Sender<()>,
    /// The connections accepted before this one are dead.
    first_alive: AtomicUsize,
}

impl Ending {
    /// # Panics
    /// When `status` is not an HTTP status, which is a mistake in the test.
    pub fn answer(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        let mut response = Response::new(Full::new(body.into()));
        *response.status_mut() = StatusCode::from_u16(status).expect("an HTTP status");
        response
            .headers_mut()
            .insert(CONTENT_TYPE, content_type.parse().expect("a header value"));
        Self::Answer(response)
    }

    /// A header more, on an answer.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        if let Self::Answer(response) = &mut self {
            let value = value.parse().expect("a header value");
            response.headers_mut().insert(name, value);
        }
        self
    }
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

impl Connections {
    pub fn new() -> Self {
        Self::default()
    }

    /// Connections accepted so far, closed ones included.
    pub fn connections(&self) -> usize {
        self.0.connections.load(Ordering::SeqCst)
    }

    /// Requests whose whole body has arrived so far.
    pub fn requests(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }

    pub fn set_latency(&self, latency: Latency) {
        *self.0.latency.lock().unwrap() = latency;
    }

    /// Closes every open connection, as a server does to idle ones; requests in progress get no answer.
    pub fn close_connections(&self) {
        self.0.closing.send_replace(());
    }

    /// Resets every connection that is open now at its next request: an environment that was frozen finds its
    /// connections like that.
    pub fn lose_connections(&self) {
        self.0.first_alive.store(self.connections(), Ordering::SeqCst);
    }

    /// Accepts for ever; each connection runs in its own task.
    pub async fn serve_listener<H, F>(&self, listener: impl Into<Listener>, handle: H)
    where
        H: Fn(Request<Bytes>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Ending> + Send + 'static,
    {
        let Listener { tcp, tls } = listener.into();
        loop {
            // A failed accept concerns one peer that has already gone, never the listener.
            let Ok((stream, _)) = tcp.accept().await else {
                continue;
            };
            let number = self.0.connections.fetch_add(1, Ordering::SeqCst);
            let (connections, tls, handle) = (self.clone(), tls.clone(), handle.clone());
            tokio::spawn(async move {
                // Without it small answers wait for the peer's acknowledgement.
                let _ = stream.set_nodelay(true);
                // The server owns the stream, so a reset goes through a second handle to the same socket.
                let socket = SockRef::from(&stream).try_clone().ok();
                sleep(connections.latency().connection).await;
                match tls {
                    None => connections.run(number, stream, socket, handle).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            connections.run(number, stream, socket, handle).await;
                        }
                    }
                }
            });
        }
    }

    /// The second handle to the socket lives no longer than this, or the connection would stay open.
    async fn run<S, H, F>(&self, number: usize, stream: S, socket: Option<Socket>, handle: H)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<Bytes>) -> F + Send + Sync + 'static,
        F: Future<Output = Ending> + Send + 'static,
    {
        let mut closing = self.0.closing.subscribe();
        let (socket, handle) = (socket.as_ref(), &handle);
        let service = service_fn(move |request: Request<Incoming>| async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            self.0.requests.fetch_add(1, Ordering::SeqCst);
            sleep(self.latency().request).await;
            let is_dead = number < self.0.first_alive.load(Ordering::SeqCst);
            let ending = if is_dead {
                Ending::Reset
            } else {
                handle(Request::from_parts(head, body)).await
            };
            match ending {
                Ending::Answer(response) => Ok(response.map(Either::Left)),
                Ending::CutShort(response) => {
                    let (head, body) = response.into_parts();
                    let body = Truncated::new(body.collect().await.unwrap().to_bytes());
                    Ok(Response::from_parts(head, Either::Right(body)))
                }
                // A service that fails makes hyper drop the connection without an answer.
                Ending::Close => Err(io::Error::other("closed before the answer")),
                Ending::Reset => {
                    if let Some(socket) = socket {
                        // A socket that may not linger is closed by a reset.
                        socket.set_linger(Some(Duration::ZERO))?;
                    }
                    Err(io::Error::other("reset before the answer"))
                }
            }
        });
        let server = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::select! {
            // Closing comes first, so that no request sent after `close_connections` is answered.
            biased;
            _ = closing.changed() => {}
            // How a connection ended is the peer's to judge.
            _ = server => {}
        }
    }

    fn latency(&self) -> Latency {
        *self.0.latency.lock().unwrap()
    }
}

/// A body without its last byte, followed by an error.
struct Truncated {
    data: Option<Bytes>,
    /// The server must have written the data before the connection closes.
    delay: Pin<Box<tokio::time::Sleep>>,
}

impl Truncated {
    fn new(mut data: Bytes) -> Self {
        data.truncate(data.len().saturating_sub(1));
        let delay = Box::pin(tokio::time::sleep(Duration::from_millis(50)));
        Self { data: Some(data), delay }
    }
}

impl Body for Truncated {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(data) = self.data.take() {
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
        ready!(self.delay.as_mut().poll(context));
        Poll::Ready(Some(Err(io::Error::other("cut short"))))
    }
}

/// tokio's own sleep may take a millisecond for nothing.
async fn sleep(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
