//! Servers that answer as a test says, or not at all.
//! It does not know what is sent to them.

use super::server::Server;
use crate::world::{Ending, operation};
use bytes::Bytes;
use hyper::Request;
use serde_json::{Value, json};
use std::future::ready;
use std::sync::{Arc, Mutex};
use tokio::net::TcpSocket;

/// A port that refuses every connection, and that no other test is given while the socket lives.
pub fn refusing_port() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}

/// A service of AWS that speaks JSON 1.0, as SQS and DynamoDB do, and accepts everything: its address, and each
/// request's operation and body.
pub async fn aws_service() -> (String, Arc<Mutex<Vec<(String, Value)>>>) {
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let requests = Arc::clone(&seen);
    let server = Server::start(move |request: Request<Bytes>| {
        let body = serde_json::from_slice(request.body()).unwrap();
        requests.lock().unwrap().push((operation(&request).to_owned(), body));
        ready(Ending::aws(200, &json!({})))
    });
    (server.await.url, seen)
}
