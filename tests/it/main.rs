//! Runs the real function against strict stand-ins of both vendors and of AWS, over real sockets.
//! It does not measure how fast the function is; `make bench` does.

mod claims;
mod connections;
mod dead_letters;
mod documents;
mod envelopes;
mod golden;
mod http;
mod local_run;
mod logs;
mod mapping;
mod monitoring;
mod odd_answers;
mod permissions;
mod queue;
mod records;
mod samples;
mod secret;
mod sqs;
mod stack;
mod start;
mod template;
mod tidy;
mod tls;
mod uploads;

use bytes::Bytes;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use testkit::clevertap::Reply;
use testkit::connections::{Connections, Ending};
use testkit::harness::{World, listen};
use testkit::hyper::Request;
use testkit::moto::Resources;
use tokio::net::TcpSocket;

/// A relay with a dead-letter queue, an event queue and a claims table of its own.
async fn with_resources(settings: &[(&str, &str)]) -> (World, Resources) {
    let resources = Resources::make().await;
    let settings = [&resources.settings()[..], settings].concat();
    (World::start(&settings).await, resources)
}

fn event(id: &str, user: &str) -> Value {
    json!({ "event_name": "SUBSCRIPTION_RENEWED", "event_id": id, "user_id": user, "plan": "p" })
}

/// The answer that refuses one record of an upload, counted from 1.
fn refuse(number: usize, code: u16) -> Reply {
    Reply::RefuseRecord { number, code }
}

fn now_ms() -> u128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    now.as_millis()
}

/// Waits until the condition holds. Only a hang fails.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let holds = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(1), holds).await;
    assert!(waited.is_ok(), "never: {what}");
}

/// A port that refuses every connection, and that no other test is given while the socket lives.
fn refusing_port() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", socket.local_addr().unwrap());
    (socket, url)
}

/// A server whose answer to its nth request (from 0) the test decides; its address.
async fn server<F>(answer: impl Fn(usize, Request<Bytes>) -> F + Send + Sync + 'static) -> String
where
    F: Future<Output = Ending> + Send + 'static,
{
    let (listener, url) = listen().await;
    let (answer, count) = (Arc::new(answer), Arc::new(Mutex::new(0)));
    let handle = move |request| {
        let mut count = count.lock().unwrap();
        *count += 1;
        answer(*count - 1, request)
    };
    tokio::spawn(async move { Connections::new().serve_listener(listener, handle).await });
    url
}

/// A server that takes every request and answers none.
async fn silent_server() -> String {
    server(|_, _| std::future::pending()).await
}

/// A service of AWS that speaks JSON 1.0, as SQS and DynamoDB do: its address, and each request's operation and body.
/// Its nth answer (from 0) is an error with the code that `error` gives.
async fn aws_service(
    error: fn(usize) -> Option<&'static str>,
) -> (String, Arc<Mutex<Vec<(String, Value)>>>) {
    let seen: Arc<Mutex<Vec<_>>> = Arc::default();
    let requests = Arc::clone(&seen);
    let url = server(move |n, request| {
        let operation = request.headers()["x-amz-target"].to_str().unwrap();
        let body = serde_json::from_slice(request.body()).unwrap();
        requests.lock().unwrap().push((operation.to_owned(), body));
        let (status, body) = match error(n) {
            None => (200, json!({})),
            Some(code) => (400, json!({ "__type": code })),
        };
        async move { Ending::answer(status, "application/x-amz-json-1.0", body.to_string()) }
    });
    (url.await, seen)
}
