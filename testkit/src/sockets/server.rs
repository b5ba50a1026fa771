//! A service on a TCP port, under TLS or not: it counts, adds latency and ends connections on demand.
//! It does not know what a service answers.

use crate::world::{Ending, Service};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::Request;
use hyper::body::{Body, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, Socket};
use std::io;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// What a service on another machine would add.
#[derive(Clone, Copy, Debug, Default)]
pub struct Latency {
    /// Before each new connection is served.
    pub connection: Duration,
    /// Before each request is answered.
    pub request: Duration,
}

/// A socket that accepts connections, plain (`From<TcpListener>`) or under TLS ([`super::tls::Authority`]).
pub struct Listener {
    pub(crate) tcp: TcpListener,
    pub(crate) tls: Option<TlsAcceptor>,
}

/// A service on a port of its own. Clones are the same server.
#[derive(Clone)]
pub struct Server<S> {
    pub url: String,
    service: S,
    connections: Arc<Connections>,
}

#[derive(Default)]
struct Connections {
    accepted: AtomicUsize,
    requests: AtomicUsize,
    latency: Mutex<Latency>,
    closing: watch::Sender<()>,
    /// The connections accepted before this one are dead.
    first_alive: AtomicUsize,
}

impl From<TcpListener> for Listener {
    fn from(tcp: TcpListener) -> Self {
        Self { tcp, tls: None }
    }
}

impl<S: Service> Server<S> {
    /// Serves on a free port.
    pub async fn start(service: S) -> Self {
        let (listener, url) = listen().await;
        Self::start_at(listener, url, service)
    }

    /// Serves for ever; each connection runs in its own task.
    pub fn start_at(listener: impl Into<Listener>, url: String, service: S) -> Self {
        let server = Self { url, service, connections: Arc::default() };
        let (connections, service) = (Arc::clone(&server.connections), server.service.clone());
        tokio::spawn(connections.serve(listener.into(), service));
        server
    }

    /// Connections accepted so far, closed ones included.
    pub fn connections(&self) -> usize {
        self.connections.accepted.load(Ordering::SeqCst)
    }

    /// Requests whose whole body has arrived so far.
    pub fn requests(&self) -> usize {
        self.connections.requests.load(Ordering::SeqCst)
    }

    pub fn set_latency(&self, latency: Latency) {
        *self.connections.latency.lock().unwrap() = latency;
    }

    /// Closes every open connection, as a server does to idle ones; requests in progress get no answer.
    pub fn close_connections(&self) {
        self.connections.closing.send_replace(());
    }

    /// Resets every connection that is open now at its next request: an environment that was frozen finds its
    /// connections like that.
    pub fn lose_connections(&self) {
        self.connections.first_alive.store(self.connections(), Ordering::SeqCst);
    }
}

impl<S> Deref for Server<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.service
    }
}

/// A free port and its `http://127.0.0.1:PORT`.
pub async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    (listener, url)
}

impl Connections {
    async fn serve(self: Arc<Self>, listener: Listener, service: impl Service) {
        let Listener { tcp, tls } = listener;
        loop {
            // A failed accept concerns one peer that has already gone, never the listener.
            let Ok((stream, _)) = tcp.accept().await else {
                continue;
            };
            let number = self.accepted.fetch_add(1, Ordering::SeqCst);
            let (connections, tls, service) = (Arc::clone(&self), tls.clone(), service.clone());
            tokio::spawn(async move {
                // Without it small answers wait for the peer's acknowledgement.
                let _ = stream.set_nodelay(true);
                // The server owns the stream, so a reset goes through a second handle to the same socket.
                let socket = SockRef::from(&stream).try_clone().ok();
                sleep(connections.latency().connection).await;
                match tls {
                    None => connections.run(number, stream, socket, service).await,
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            connections.run(number, stream, socket, service).await;
                        }
                    }
                }
            });
        }
    }

    /// The second handle to the socket lives no longer than this, or the connection would stay open.
    async fn run(
        &self,
        number: usize,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        socket: Option<Socket>,
        service: impl Service,
    ) {
        let mut closing = self.closing.subscribe();
        let (socket, service) = (socket.as_ref(), &service);
        let answering = service_fn(move |request: Request<Incoming>| async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            self.requests.fetch_add(1, Ordering::SeqCst);
            sleep(self.latency().request).await;
            let is_dead = number < self.first_alive.load(Ordering::SeqCst);
            let ending = if is_dead {
                Ending::Reset
            } else {
                service.clone().answer(Request::from_parts(head, body)).await
            };
            match ending {
                Ending::Answer(response) => Ok(response.map(|body| Either::Left(Full::new(body)))),
                Ending::CutShort(response) => {
                    Ok(response.map(|body| Either::Right(cut_short(body))))
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
        let server = http1::Builder::new().serve_connection(TokioIo::new(stream), answering);
        tokio::select! {
            // Closing comes first, so that no request sent after `close_connections` is answered.
            biased;
            _ = closing.changed() => {}
            // How a connection ended is the peer's to judge.
            _ = server => {}
        }
    }

    fn latency(&self) -> Latency {
        *self.latency.lock().unwrap()
    }
}

/// A body without its last byte, followed by an error.
fn cut_short(mut data: Bytes) -> impl Body<Data = Bytes, Error = io::Error> {
    data.truncate(data.len().saturating_sub(1));
    let end = async {
        // The server must have written the data before the connection closes.
        sleep(Duration::from_millis(50)).await;
        Err(io::Error::other("cut short"))
    };
    StreamBody::new(stream::iter([Ok(Frame::data(data))]).chain(stream::once(end)))
}

/// tokio's own sleep may take a millisecond for nothing.
async fn sleep(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
