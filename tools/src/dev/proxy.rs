//! The function's public port: every webhook that passes through it is a delivery, everything else is forwarded.
//! It does not know what the function answers.

use super::live::{Answer, Live};
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
/// Whoever sent the webhook decides how long it waits for the answer.
const PATIENCE: Duration = Duration::from_hours(1);

pub fn router(live: Arc<Live>) -> Router {
    Router::new().fallback(pass).with_state(live)
}

async fn pass(State(live): State<Arc<Live>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return (StatusCode::PAYLOAD_TOO_LARGE, "the body is over 6 MiB\n").into_response();
    };
    let request = Request::from_parts(head, body);
    let is_webhook =
        request.method() == Method::POST && !request.uri().path().starts_with(INVOCATIONS);
    let answer = if is_webhook {
        // The function goes on if its caller leaves.
        let delivered = tokio::spawn(async move { deliver(&live, request).await });
        delivered.await.unwrap_or_else(|error| Err(error.to_string()))
    } else {
        live.forward(request).await
    };
    match answer {
        Ok(answer) => answer.map(Body::from),
        Err(problem) => (StatusCode::BAD_GATEWAY, problem + "\n").into_response(),
    }
}

async fn deliver(live: &Live, webhook: Request<Bytes>) -> Answer {
    let open = live.deliveries(|deliveries| deliveries.find_open(webhook.body()));
    let id = open.unwrap_or_else(|| live.open(webhook.body().clone(), false));
    live.attempt(id, live.forward(webhook), PATIENCE).await
}
