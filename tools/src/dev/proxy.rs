//! The function's public port: every webhook that passes through it is a delivery, everything else is forwarded.
//! It does not know what the function answers.

use super::live::{Answer, Call, Live};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;

/// The largest payload of a synchronous invocation of Lambda.
const MAX_BODY: usize = 6 << 20;
/// Where `cargo lambda invoke` invokes the function.
const INVOCATIONS: &str = "/2015-03-31/";
/// The one who sent the webhook decides how long it waits for the answer.
const PATIENCE: Duration = Duration::from_hours(1);

pub fn router(live: Arc<Live>) -> Router {
    Router::new().fallback(pass).with_state(live)
}

async fn pass(State(live): State<Arc<Live>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the body is over 6 MiB\n").into_response();
    };
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let is_webhook = head.method == Method::POST && !path.starts_with(INVOCATIONS);
    let call = Call {
        path_and_query: path.to_owned(),
        method: head.method,
        headers: head.headers,
        body: body.clone(),
    };
    if !is_webhook {
        return response(live.forward(call).await);
    }
    // The function goes on if its caller leaves.
    let passed = tokio::spawn(async move { deliver(&live, body, call).await });
    response(passed.await.unwrap_or_else(|error| Err(error.to_string())))
}

async fn deliver(live: &Live, body: Bytes, call: Call) -> Result<Answer, String> {
    let open = live.deliveries(|deliveries| deliveries.find_open(&body));
    let id = open.unwrap_or_else(|| live.open(body, false));
    live.attempt(id, call, PATIENCE).await
}

fn response(answer: Result<Answer, String>) -> Response {
    match answer {
        Ok(answer) => (answer.status, answer.headers, Body::from(answer.body)).into_response(),
        Err(problem) => (StatusCode::BAD_GATEWAY, problem + "\n").into_response(),
    }
}
