//! The door: an invocation in, an answer out, whatever happens in between.
//!
//! It checks that a request may come in and turns its outcome into an answer; it does not know what
//! is done with an event.

use crate::aws::secret::{Secret, Secrets};
use crate::config::SignaturePolicy;
use crate::outcome::{Failure, Outcome};
use crate::purchasely::signature::{Presented, Refusal, SIGNATURE_HEADER, TIMESTAMP_HEADER};
use crate::purchasely::{Event, Verified};
use crate::relay::{Budget, Relay};
use crate::telemetry::{self, Report};
use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use lambda_http::request::RequestContext;
use lambda_http::{Request, RequestExt};
use lambda_runtime::LambdaEvent;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, timeout_at};

/// Bytes of a webhook's body. Purchasely's are about 1.5 kB; SQS takes 1 MiB.
const LONGEST_BODY: usize = 256 * 1024;
/// A request that claims to be older than this carries a time of another kind, or was stored.
const OLDEST_PLAUSIBLE: Duration = Duration::from_secs(10);

/// Serves invocations.
#[derive(Debug)]
pub struct Handler {
    /// Whether and how signatures are checked.
    pub signature: SignaturePolicy,
    /// Where the shared secrets come from.
    pub secrets: Arc<Secrets>,
    /// Where verified events go.
    pub relay: Relay,
}

/// The answer that API Gateway (both payload versions) and Function URLs turn into an HTTP response.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpAnswer {
    status_code: u16,
    headers: HashMap<&'static str, &'static str>,
    body: String,
    is_base64_encoded: bool,
    /// Belongs to payload 2.0, where local emulators insist on it; payload 1.0 does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cookies: Option<[&'static str; 0]>,
}

/// An invocation by something that takes any answer for success, so that only an error keeps its messages.
#[derive(Debug, thiserror::Error)]
#[error("the function does not serve this kind of invocation")]
pub struct NotServed;

impl Handler {
    /// Serves one invocation. Every HTTP request is answered; only a batch of messages, which the
    /// function does not take, is an error.
    pub async fn handle(
        self: Arc<Self>,
        invocation: LambdaEvent<Box<RawValue>>,
    ) -> Result<HttpAnswer, NotServed> {
        let received = Instant::now();
        let envelope = invocation.payload.get();
        let mut cookies = Some([]);
        // lambda_http panics on an envelope whose base64 or host is broken.
        let report = match catch_unwind(|| lambda_http::request::from_str(envelope)) {
            Ok(Ok(request)) => {
                if is_rest_api(&request) {
                    cookies = None;
                }
                let budget = Budget::start(received, age(&request));
                AssertUnwindSafe(self.webhook(request, envelope, budget))
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Report::of(Outcome::Failed(Failure::Panicked)))
            }
            Ok(Err(_)) if carries_messages(envelope) => return Err(NotServed),
            Ok(Err(_)) => Report::of(Outcome::Failed(Failure::UnknownInvocation)),
            Err(_) => Report::of(Outcome::Failed(Failure::Panicked)),
        };
        let context = &invocation.context;
        let trace_id = context.xray_trace_id.as_deref();
        telemetry::write(&report, &context.request_id, trace_id, received.elapsed());
        Ok(HttpAnswer {
            cookies,
            ..answer(&report)
        })
    }

    async fn webhook(&self, mut request: Request, envelope: &str, budget: Budget) -> Report {
        if request.method() != Method::POST {
            return Report::of(Outcome::MethodNotAllowed);
        }
        if request.body().len() > LONGEST_BODY {
            return Report::of(Outcome::PayloadTooLarge);
        }
        restore_repeated_headers(&mut request, envelope);
        let (verified, secret) = match self.verify(&request, budget).await {
            Ok(verified) => verified,
            Err(outcome) => return Report::of(outcome),
        };
        match Event::parse(verified) {
            Ok(event) => self.relay.relay(&event, secret, budget).await,
            Err(why) => Report::of(Outcome::Failed(Failure::Unreadable(why))),
        }
    }

    /// Believes the request's body, or says why not. A signature that no known secret gives may be
    /// made with one that was changed a moment ago, so the secret is then read again.
    async fn verify<'r>(
        &self,
        request: &'r Request,
        budget: Budget,
    ) -> Result<(Verified<'r>, Arc<Secret>), Outcome> {
        let presented = match self.signature {
            SignaturePolicy::Off => None,
            SignaturePolicy::Required { tolerance } => {
                let presented =
                    Presented::read(request.headers()).map_err(Outcome::Unauthorized)?;
                Some((presented, tolerance))
            }
        };
        let secret = timeout_at(budget.uploads_end, self.secrets.get())
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or(Outcome::Failed(Failure::SecretUnavailable))?;
        let body: &[u8] = request.body();
        let Some((presented, tolerance)) = presented else {
            return Ok((Verified::unsigned(body), secret));
        };
        let verify = |secret: &Secret| {
            presented.verify(secret.shared_secrets(), tolerance, unix_seconds(), body)
        };
        match verify(&secret) {
            Ok(verified) => Ok((verified, secret)),
            Err(Refusal::Wrong) => {
                let changed = timeout_at(budget.uploads_end, self.secrets.refresh(&secret));
                let changed = changed.await.ok().flatten();
                let secret = changed.ok_or(Outcome::Unauthorized(Refusal::Wrong))?;
                let verified = verify(&secret).map_err(Outcome::Unauthorized)?;
                Ok((verified, secret))
            }
            Err(why) => Err(Outcome::Unauthorized(why)),
        }
    }
}

fn answer(report: &Report) -> HttpAnswer {
    #[derive(Serialize)]
    struct Told<'r> {
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<&'r str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'r str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'r str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        event_id: Option<&'r str>,
    }
    let row = report.outcome.row();
    let received = row.http_status == 200;
    let told = Told {
        status: received.then_some(row.word),
        error: (!received).then_some(row.word),
        // Why something failed is told to the owner, not to whoever sent it.
        reason: row.reason.filter(|_| received),
        event_id: report.event_id.as_deref(),
    };
    let mut headers = HashMap::from([("content-type", "application/json")]);
    if report.outcome == Outcome::MethodNotAllowed {
        headers.insert("allow", "POST");
    }
    HttpAnswer {
        status_code: row.http_status,
        headers,
        body: serde_json::to_string(&told).unwrap_or_default(),
        is_base64_encoded: false,
        cookies: None,
    }
}

fn is_rest_api(request: &Request) -> bool {
    matches!(
        request.request_context_ref(),
        Some(RequestContext::ApiGatewayV1(_))
    )
}

/// A REST API sends each header's last value beside the list of all of them, and `lambda_http` keeps
/// the last. A doubled signature must be seen as one.
fn restore_repeated_headers(request: &mut Request, envelope: &str) {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Envelope {
        multi_value_headers: Option<HashMap<String, Vec<String>>>,
    }
    if !is_rest_api(request) {
        return;
    }
    let Ok(Envelope {
        multi_value_headers: Some(all),
    }) = serde_json::from_str(envelope)
    else {
        return;
    };
    for name in [SIGNATURE_HEADER, TIMESTAMP_HEADER] {
        let values = all
            .iter()
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .flat_map(|(_, values)| values)
            .filter_map(|value| HeaderValue::from_str(value).ok());
        replace(request.headers_mut(), name, values);
    }
}

fn replace(headers: &mut HeaderMap, name: &'static str, values: impl Iterator<Item = HeaderValue>) {
    for (position, value) in values.enumerate() {
        if position == 0 {
            headers.insert(HeaderName::from_static(name), value);
        } else {
            headers.append(HeaderName::from_static(name), value);
        }
    }
}

fn carries_messages(envelope: &str) -> bool {
    #[derive(Deserialize)]
    struct Batch {
        #[serde(rename = "Records")]
        _records: serde::de::IgnoredAny,
    }
    serde_json::from_str::<Batch>(envelope).is_ok()
}

/// How long the request took to come here, as far as that can be believed.
fn age(request: &Request) -> Duration {
    let sent_ms = match request.request_context_ref() {
        Some(RequestContext::ApiGatewayV1(context)) => context.request_time_epoch,
        Some(RequestContext::ApiGatewayV2(context)) => context.time_epoch,
        _ => 0,
    };
    let sent = Duration::from_millis(u64::try_from(sent_ms).unwrap_or_default());
    unix_time()
        .checked_sub(sent)
        .filter(|age| *age <= OLDEST_PLAUSIBLE)
        .unwrap_or_default()
}

fn unix_time() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn unix_seconds() -> u64 {
    unix_time().as_secs()
}
