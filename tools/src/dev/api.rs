//! The page and its API, for this machine's browser only. It does not know how anything is done.

use super::live::Live;
use super::purchasely::{self, fresh};
use super::users::User;
use crate::stand_ins::backend::Fault as BackendFault;
use axum::extract::{Path, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use futures_util::stream::{Stream, unfold};
use http::{HeaderMap, Method, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use testkit::world::clevertap::Reply;

const PAGE: &str = include_str!("page.html");
const POLICY: &str = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; img-src data:";
/// How CleverTap answers uploads instead of by its rules: id, label and reply.
const FAULTS: [(&str, &str, Reply); 8] = [
    ("429", "429 Too Many Requests", Reply::Status(429)),
    ("500", "500 Internal Server Error", Reply::Status(500)),
    ("503", "503 Service Unavailable", Reply::Status(503)),
    ("401", "401, a wrong passcode", Reply::Status(401)),
    (
        "partial",
        "200, but the second record is refused (513)",
        Reply::RefuseRecord { number: 2, code: 513 },
    ),
    ("unclear", "200 with fail and no reasons", Reply::FailWithoutReasons),
    ("close", "The connection closes before the answer", Reply::CloseBeforeAnswer),
    ("silent", "No answer at all", Reply::Silent),
];
/// How the backend fails.
const BACKEND_FAULTS: [(&str, &str, BackendFault); 5] = [
    ("backend_500", "500 Internal Server Error", BackendFault::Status(500)),
    ("backend_409", "409, it knows the event already", BackendFault::Status(409)),
    ("backend_302", "302, a redirect", BackendFault::Status(302)),
    ("backend_close", "The connection closes before the answer", BackendFault::Close),
    ("backend_silent", "No answer at all", BackendFault::Silent),
];
const SPEEDS: [u32; 3] = [1, 60, 3600];
const MAX_TIMES: usize = 1000;
/// How long the secret lags behind CleverTap's passcode.
const SECRET_LAG: Duration = Duration::from_secs(5);

type Answer = Result<Response, Problem>;

/// What is wrong, and the fix.
struct Problem(StatusCode, String);

#[derive(Clone)]
struct Context {
    live: Arc<Live>,
    samples: Arc<Vec<Sample>>,
    port: u16,
}

#[derive(Serialize)]
pub struct Sample {
    pub name: String,
    pub body: String,
}

pub fn router(live: Arc<Live>, samples: Vec<Sample>, port: u16) -> Router {
    let context = Context { live, samples: Arc::new(samples), port };
    Router::new()
        .route("/", get(page))
        .route("/api/state", get(state))
        .route("/api/events", get(events))
        .route("/api/deliveries/{id}", get(delivery))
        .route("/api/deliveries/{id}/resend", post(resend))
        .route("/api/send", post(send))
        .route("/api/fault", post(fault))
        .route("/api/passcode", post(passcode))
        .route("/api/speed", post(speed))
        .route("/api/clear", post(clear))
        .route("/api/users", get(users))
        .route("/api/users/{user}", get(user))
        .route("/api/explain", post(explain))
        .fallback(async || Problem(StatusCode::NOT_FOUND, "there is no such path".to_owned()))
        .layer(from_fn_with_state(context.port, guard))
        .with_state(context)
}

/// Another site's page may neither read this one under a name of its own (DNS rebinding) nor post to it.
async fn guard(State(port): State<u16>, request: Request, next: Next) -> Response {
    let own = ["127.0.0.1", "localhost", "[::1]"].map(|host| format!("{host}:{port}"));
    let headers = request.headers();
    let value = |headers: &HeaderMap, name| {
        headers.get(name).map(|value| value.to_str().unwrap_or_default().to_owned())
    };
    let is_own = |host: &str| own.iter().any(|own| own == host);
    let host = value(headers, header::HOST).unwrap_or_default();
    let origin = value(headers, header::ORIGIN);
    let is_own_origin =
        origin.is_none_or(|origin| origin.strip_prefix("http://").is_some_and(is_own));
    let content_type = value(headers, header::CONTENT_TYPE).unwrap_or_default();
    let is_json = content_type.split(';').next() == Some("application/json");
    let refused = match request.method() {
        _ if !is_own(&host) => format!("the Host is not this page's; open http://{}/", own[0]),
        &Method::GET | &Method::HEAD => return next.run(request).await,
        _ if !is_own_origin => format!("the Origin is not this page's; open http://{}/", own[0]),
        _ if !is_json => "the content type is not application/json".to_owned(),
        _ => return next.run(request).await,
    };
    Problem(StatusCode::FORBIDDEN, refused).into_response()
}

async fn page() -> Response {
    let headers = [(header::CONTENT_SECURITY_POLICY, POLICY), (header::CACHE_CONTROL, "no-store")];
    (headers, Html(PAGE)).into_response()
}

async fn state(State(Context { live, samples, .. }): State<Context>) -> Response {
    let fault = |id: &str, label: &str, of: &str| json!({ "id": id, "label": label, "of": of });
    let backend = live.stand_ins.backend.as_ref().map(|_| BACKEND_FAULTS).into_iter().flatten();
    let faults = FAULTS.iter().map(|(id, label, _)| fault(id, label, "CleverTap"));
    let faults = faults.chain(backend.map(|(id, label, _)| fault(id, label, "Your backend")));
    Json(json!({
        "function_url": live.public_url,
        "delivery": live.stand_ins.delivery,
        "speed": live.purchasely.speed(),
        "has_backend": live.stand_ins.backend.is_some(),
        "is_function_ready": *live.is_ready.borrow(),
        "samples": &*samples,
        "faults": faults.collect::<Vec<_>>(),
        "settings": live.settings.list(),
    }))
    .into_response()
}

async fn events(
    State(Context { live, .. }): State<Context>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (present, changes) = live.subscribe();
    let start = (VecDeque::from(present), changes);
    let stream = unfold(start, |(mut waiting, mut changes)| async move {
        let change = match waiting.pop_front() {
            Some(change) => change,
            // A page that is slow to read them connects again, and gets everything.
            None => changes.recv().await.ok()?,
        };
        let event = Event::default().event(change.event).data(change.data);
        Some((Ok(event), (waiting, changes)))
    });
    Sse::new(stream).keep_alive(KeepAlive::default())
}

async fn delivery(State(Context { live, .. }): State<Context>, Path(id): Path<u64>) -> Answer {
    let found = live.deliveries(|deliveries| {
        deliveries.get(id).map(|delivery| (json!(delivery), delivery.body().clone()))
    });
    let (mut value, body) = found.ok_or_else(|| unknown_delivery(id))?;
    value["explanation"] = json!(live.settings.explain(format!("delivery {id}"), &body));
    value["curl"] = json!(purchasely::curl(&live.public_url, &body));
    Ok(Json(value).into_response())
}

async fn resend(State(Context { live, .. }): State<Context>, Path(id): Path<u64>) -> Answer {
    let body = live.deliveries(|deliveries| deliveries.get(id).map(|found| found.body().clone()));
    let body = body.ok_or_else(|| unknown_delivery(id))?;
    Ok(accepted(purchasely::resend(&live, body)))
}

async fn send(State(Context { live, .. }): State<Context>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Send {
        body: String,
        #[serde(default)]
        new_id: bool,
    }
    let Send { body, new_id } = parse(&body)?;
    let body = if new_id { fresh(&body) } else { body };
    Ok(accepted(purchasely::send(&live, body.into())))
}

async fn fault(State(Context { live, .. }): State<Context>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Fault {
        id: Option<String>,
        #[serde(default)]
        times: usize,
    }
    let Fault { id, times } = parse(&body)?;
    if times > MAX_TIMES {
        return Err(bad(format!("times is over {MAX_TIMES}; 0 is until cleared")));
    }
    let (clevertap, backend) = (&live.stand_ins.clevertap, live.stand_ins.backend.as_deref());
    let of_clevertap = FAULTS.iter().find(|(known, ..)| Some(*known) == id.as_deref());
    let of_backend = BACKEND_FAULTS.iter().find(|(known, ..)| Some(*known) == id.as_deref());
    match (of_clevertap, of_backend.zip(backend)) {
        (Some((.., reply)), _) if times == 0 => clevertap.set_script([], reply.clone()),
        (Some((.., reply)), _) => {
            clevertap.set_script(std::iter::repeat_n(reply.clone(), times), Reply::Normal);
        }
        (None, Some(((.., fault), backend))) => backend.fail(Some(*fault), times),
        (None, None) if id.is_some() => {
            return Err(bad(format!("no fault {id:?}; /api/state lists them")));
        }
        (None, None) => {
            clevertap.set_script([], Reply::Normal);
            if let Some(backend) = backend {
                backend.fail(None, 0);
            }
        }
    }
    Ok(Json(json!({})).into_response())
}

async fn passcode(State(Context { live, .. }): State<Context>) -> Response {
    let passcode = format!("passcode-{:016x}", fastrand::u64(..));
    live.stand_ins.clevertap.set_passcode(&passcode);
    tokio::spawn(async move {
        tokio::time::sleep(SECRET_LAG).await;
        live.stand_ins.set_secret_passcode(&passcode);
    });
    Json(json!({ "secret_in_ms": SECRET_LAG.as_millis() })).into_response()
}

async fn speed(State(Context { live, .. }): State<Context>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Speed {
        speed: u32,
    }
    let Speed { speed } = parse(&body)?;
    if !SPEEDS.contains(&speed) {
        return Err(bad(format!("speed is one of {SPEEDS:?}")));
    }
    live.purchasely.set_speed(speed);
    Ok(Json(json!({})).into_response())
}

async fn clear(State(Context { live, .. }): State<Context>) -> Response {
    live.clear();
    Json(json!({})).into_response()
}

async fn users(State(Context { live, .. }): State<Context>) -> Response {
    let users = live.users.lock().expect("no thread panics");
    let row = |user: &User| json!({ "user": user.id, "events": user.events_in_all });
    Json(users.list().into_iter().map(row).collect::<Vec<_>>()).into_response()
}

async fn user(State(Context { live, .. }): State<Context>, Path(user): Path<String>) -> Answer {
    let users = live.users.lock().expect("no thread panics");
    let unknown = || {
        let what = "CleverTap has no record of this user; send one of its webhooks";
        Problem(StatusCode::NOT_FOUND, what.to_owned())
    };
    Ok(Json(users.get(&user).ok_or_else(unknown)?).into_response())
}

async fn explain(State(Context { live, .. }): State<Context>, body: Bytes) -> Answer {
    #[derive(Deserialize)]
    struct Explain {
        body: String,
        #[serde(default)]
        settings: BTreeMap<String, String>,
    }
    let Explain { body, settings } = parse(&body)?;
    let comparison = live.settings.compare(body.as_bytes(), &settings).map_err(bad)?;
    Ok(Json(comparison).into_response())
}

fn parse<T: DeserializeOwned>(body: &Bytes) -> Result<T, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| bad(format!("the request is not as expected: {error}")))
}

fn accepted(id: u64) -> Response {
    (StatusCode::ACCEPTED, Json(json!({ "id": id }))).into_response()
}

fn unknown_delivery(id: u64) -> Problem {
    let what = format!("there is no delivery {id}; only the latest 1,000 are kept");
    Problem(StatusCode::NOT_FOUND, what)
}

fn bad(what: String) -> Problem {
    Problem(StatusCode::BAD_REQUEST, what)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let error: Value = json!({ "error": self.1 });
        (self.0, Json(error)).into_response()
    }
}
