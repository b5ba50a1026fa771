//! Servers that answer as a test says, or not at all.
//! It does not know what is sent to them.

use super::server::Server;
use crate::world::{Ending, operation};
use bytes::Bytes;
use hyper::Request;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use tokio::net::TcpSocket;

/// A server whose answer to its nth request (from 0) the test decides; its address.
pub async fn server<F>(
    answer: impl Fn(usize, Request<Bytes>) -> F + Send + Sync + 'static,
) -> String
where
    F: Future<Output = Ending> + Send + 'static,
{
    let (answer, count) = (Arc::new(answer), Arc::new(Mutex::new(0)));
    let numbered = move |request| {
        let mut count = count.lock().unwrap();
        *count += 1;
        answer(*count - 1, request)
    };
    Server::start(numbered).await.url
}

/// A port that refuses every connection, and that no other test is given while the socket lives.
pub fn refusing_port() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}

/// A service of AWS that speaks JSON 1.0, as SQS and DynamoDB do: its address, and each request's operation and body.
/// Its nth answer (from 0) is an error with the code that `error` gives.
pub async fn aws_service(
    error: fn(usize) -> Option<&'static str>,
) -> (String, Arc<Mutex<Vec<(String, Value)>>>) {
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let requests = Arc::clone(&seen);
    let url = server(move |n, request| {
        let body = serde_json::from_slice(request.body()).unwrap();
        requests.lock().unwrap().push((operation(&request).to_owned(), body));
        let (status, body) = match error(n) {
            None => (200, json!({})),
            Some(code) => (400, json!({ "__type": code })),
        };
        async move { Ending::aws(status, &body) }
    });
    (url.await, seen)
}
