//! The team's own backend, which gets each verified webhook before anything else happens to it.
//!
//! It does not know what is in a webhook, nor what else happens to it. Only a 2xx means that the backend has it.

use crate::clock;
use crate::http::{NoResponse, SharedHttp, WarmUp};
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::uri::{InvalidUri, Uri};
use http::{HeaderMap, Method, Request};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// The backend has this long, from the receipt of the webhook: what is left of Purchasely's ten seconds is for CleverTap.
pub const TIME: Duration = Duration::from_secs(4);
/// With less of it left, nothing is forwarded.
const MIN_TIME: Duration = Duration::from_secs(1);
/// Counts how often a webhook was forwarded, so that an address that leads back here ends.
const HOP: HeaderName = HeaderName::from_static("x-purchasely-clevertap-hop");
const MAX_HOPS: u8 = 3;
/// An answer that is read to its end leaves its connection for the next webhook. What it says is not needed.
const MAX_RESPONSE_BYTES: usize = 64 * 1024;
/// Marks a webhook of an operator's tool, which the backend has already or must not get.
pub const NOT_FORWARDED: HeaderName = HeaderName::from_static("x-not-forwarded");
/// The backend's own headers, its signature among them.
const PURCHASELY: &str = "x-purchasely-";

/// Forwards to one address.
#[derive(Debug)]
pub struct Backend {
    http: SharedHttp,
    url: Uri,
    origin: Uri,
    warm_up: WarmUp,
}

/// Why the backend does not have a webhook for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotForwarded {
    #[error("it answered {0}, and only a 2xx means that it has the event")]
    Answered(u16),
    #[error("no connection: check the address, its certificate and the function's network")]
    Unreachable,
    #[error("it closed the connection before an answer")]
    ConnectionLost,
    #[error("it did not answer within four seconds of the event's receipt")]
    TimedOut,
    #[error("the address leads back to this function: set FORWARD_URL to the backend's own")]
    LeadsBack,
    #[error("too little time was left")]
    TooLate,
}

impl Backend {
    pub fn new(http: SharedHttp, url: &str) -> Result<Self, InvalidUri> {
        let url: Uri = url.parse()?;
        let authority = url.authority().map(ToString::to_string).unwrap_or_default();
        let origin = format!("{}://{authority}", url.scheme_str().unwrap_or("https"));
        Ok(Self {
            http,
            url,
            origin: origin.parse()?,
            warm_up: WarmUp::default(),
        })
    }

    /// Starts to open a connection for the first webhook.
    pub fn warm_up(&self) {
        self.warm_up.connect(&self.http, &self.origin);
    }

    /// Sends a webhook as it came, until `deadline`, and returns how long that took. After a refused or lost connection
    /// it is sent once more, over a new one.
    pub async fn forward(
        &self,
        headers: &HeaderMap,
        body: &[u8],
        deadline: Instant,
    ) -> Result<Duration, NotForwarded> {
        let begin = clock::instant();
        let hops = hops(headers);
        if hops >= MAX_HOPS {
            return Err(NotForwarded::LeadsBack);
        }
        if deadline.saturating_duration_since(begin) < MIN_TIME {
            return Err(NotForwarded::TooLate);
        }
        let attempts = async {
            self.warm_up.wait().await;
            match self.send(headers, hops, body).await {
                Err(NotForwarded::Unreachable | NotForwarded::ConnectionLost) => {
                    self.send(headers, hops, body).await
                }
                ended => ended,
            }
        };
        timeout_at(deadline, attempts).await.unwrap_or(Err(NotForwarded::TimedOut))?;
        Ok(begin.elapsed())
    }

    async fn send(&self, from: &HeaderMap, hops: u8, body: &[u8]) -> Result<(), NotForwarded> {
        let mut request = Request::new(Bytes::copy_from_slice(body));
        *request.method_mut() = Method::POST;
        request.uri_mut().clone_from(&self.url);
        let copied = |name: &HeaderName| {
            *name == CONTENT_TYPE || name.as_str().starts_with(PURCHASELY) && *name != HOP
        };
        let headers = request.headers_mut();
        for (name, value) in from.iter().filter(|(name, _)| copied(name)) {
            headers.append(name, value.clone());
        }
        headers.insert(HOP, HeaderValue::from(u16::from(hops) + 1));
        match self.http.0.exchange(request, MAX_RESPONSE_BYTES).await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(answer) => Err(NotForwarded::Answered(answer.status().as_u16())),
            Err(NoResponse::NotConnected) => Err(NotForwarded::Unreachable),
            Err(NoResponse::Lost | NoResponse::Unsendable) => Err(NotForwarded::ConnectionLost),
        }
    }
}

/// How often a webhook was forwarded before; what cannot be read counts as too often.
fn hops(headers: &HeaderMap) -> u8 {
    match headers.get(HOP) {
        None => 0,
        Some(hops) => hops.to_str().ok().and_then(|hops| hops.parse().ok()).unwrap_or(MAX_HOPS),
    }
}
