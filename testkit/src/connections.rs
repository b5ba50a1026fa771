//! The HTTP/1.1 server under every stand-in: it counts connections and requests, and ends connections on demand.
//! It does not know what it serves.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use socket2::{SockRef, Socket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What becomes of a request and of the connection it came on.
pub enum Ending {
    Answer(Response<Full<Bytes>>),
    /// The connection closes in the orderly way, without an answer.
    Close,
    /// The peer sees a TCP reset; on a stream that is not plain TCP, a close.
    Reset,
}

impl Ending {
    /// An answer with a body of the given content type.
    ///
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
}

/// The connections of one server. Clones share them.
#[derive(Clone)]
pub struct Connections(Arc<Shared>);

struct Shared {
    accepted: AtomicUsize,
    requests: AtomicUsize,
    closing: watch::Sender<()>,
}

impl Connections {
    pub fn new() -> Self {
        Self(Arc::new(Shared {
            accepted: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            closing: watch::Sender::new(()),
        }))
    }

    /// Connections accepted so far, closed ones included.
    pub fn accepted(&self) -> usize {
        self.0.accepted.load(Ordering::SeqCst)
    }

    /// Requests whose whole body has arrived so far.
    pub fn requests(&self) -> usize {
        self.0.requests.load(Ordering::SeqCst)
    }

    /// Closes every open connection, as a server does to idle ones; requests under way get no answer.
    pub fn close_all(&self) {
        self.0.closing.send_replace(());
    }

    /// Accepts for ever; each connection runs in its own task.
    pub async fn serve_listener<H, F>(&self, listener: TcpListener, handle: H)
    where
        H: Fn(Request<Bytes>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Ending> + Send + 'static,
    {
        loop {
            // A failed accept concerns one peer that has already gone, never the listener.
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            let connections = self.clone();
            let handle = handle.clone();
            tokio::spawn(async move { connections.serve_tcp(stream, handle).await });
        }
    }

    /// Serves one connection on any stream until either side ends it.
    pub async fn serve_stream<S, H, F>(&self, stream: S, handle: H)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<Bytes>) -> F + Send + Sync + 'static,
        F: Future<Output = Ending> + Send + 'static,
    {
        self.run(stream, None, handle).await;
    }

    async fn serve_tcp<H, F>(&self, stream: TcpStream, handle: H)
    where
        H: Fn(Request<Bytes>) -> F + Send + Sync + 'static,
        F: Future<Output = Ending> + Send + 'static,
    {
        // The server owns the stream, so a reset goes through a second handle to the same socket.
        // It lives no longer than the server, or the connection would stay open.
        let socket = SockRef::from(&stream).try_clone().ok();
        self.run(stream, socket, handle).await;
    }

    async fn run<S, H, F>(&self, stream: S, socket: Option<Socket>, handle: H)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<Bytes>) -> F + Send + Sync + 'static,
        F: Future<Output = Ending> + Send + 'static,
    {
        let mut closing = self.0.closing.subscribe();
        self.0.accepted.fetch_add(1, Ordering::SeqCst);
        let socket = socket.as_ref();
        let handle = &handle;
        let service = service_fn(move |request: Request<Incoming>| async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            self.0.requests.fetch_add(1, Ordering::SeqCst);
            match handle(Request::from_parts(head, body)).await {
                Ending::Answer(response) => Ok(response),
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
            // Closing comes first, so that no request sent after `close_all` is answered.
            biased;
            _ = closing.changed() => {}
            // How a connection ended is the peer's to judge.
            _ = server => {}
        }
    }
}
