//! The two doors: an HTTP request or a batch of messages in, an answer out, whatever happens in between.
//!
//! It checks that an event may come in and turns its outcome into an answer; it does not know what
//! is done with it. Which door is chosen by the kind of invocation, never by a path or a body.

use crate::aws::queues::{self, EventQueue};
use crate::aws::secret::{Secret, Secrets};
use crate::clevertap::Role;
use crate::config::SignaturePolicy;
use crate::mapping::Origin;
use crate::outcome::{Failure, Outcome};
use crate::purchasely::signature::{
    InvalidSignature, SIGNATURE_HEADER, SignatureHeaders, TIMESTAMP_HEADER,
};
use crate::purchasely::{Event, Unreadable, Verified};
use crate::relay::{Budget, Delivery, Relay};
use crate::telemetry::{self, Report};
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage};
use futures_util::FutureExt;
use futures_util::future::join_all;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use lambda_http::request::{LambdaRequest, RequestContext};
use lambda_http::{Request, RequestExt};
use lambda_runtime::LambdaEvent;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, timeout_at};

/// Bytes of a webhook's body. Purchasely's are about 1.5 kB; SQS takes 1 MiB.
const LONGEST_BODY: usize = 256 * 1024;
/// Marks a webhook that its owner sends again; the signature covers only the body, but whoever can
/// sign may as well send it without the mark.
pub const REPLAYED_HEADER: &str = "x-replayed";
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
    /// Where messages that fail are held back.
    pub event_queue: Option<EventQueue>,
    /// Whether the environment has served nothing yet.
    pub cold: AtomicBool,
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

/// What an invocation gets.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Answer {
    /// An HTTP response.
    Http(HttpAnswer),
    /// The messages that are to come again.
    Batch(SqsBatchResponse),
}

/// SQS takes any answer without named failures for success and deletes, so only an error keeps a
/// batch that could not be served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchFailed {
    /// Records of another kind than SQS messages.
    #[error("the invocation carries records that are not readable SQS messages")]
    Unreadable,
    /// A bug; the log names the place.
    #[error("the function panicked over a batch of messages")]
    Panicked,
}

impl Handler {
    /// Serves one invocation. Every HTTP request is answered; a batch of messages gets the names of
    /// those that are not settled.
    pub async fn handle(
        self: Arc<Self>,
        invocation: LambdaEvent<Box<RawValue>>,
    ) -> Result<Answer, BatchFailed> {
        let context = &invocation.context;
        let (request_id, trace_id) = (context.request_id.clone(), context.xray_trace_id.clone());
        // Boxed, because nested futures are one type that the compiler only lays out to some depth.
        let serving = Box::pin(self.serve(&invocation));
        telemetry::during(request_id, trace_id, serving).await
    }

    async fn serve(&self, invocation: &LambdaEvent<Box<RawValue>>) -> Result<Answer, BatchFailed> {
        let received = Instant::now();
        let envelope = invocation.payload.get();
        let context = &invocation.context;
        let is_first = self.cold.swap(false, Ordering::Relaxed);
        let ended = || telemetry::Invocation {
            request_id: &context.request_id,
            trace_id: context.xray_trace_id.as_deref(),
            function: &context.env_config.function_name,
            is_first,
            secret_age: self.secrets.age(),
            took: received.elapsed(),
        };
        let mut cookies = Some([]);
        // lambda_http panics on an envelope whose base64 or host is broken.
        let report = match catch_unwind(|| Kind::of(envelope)) {
            Ok(Kind::Request(request)) => {
                if is_rest_api(&request) {
                    cookies = None;
                }
                let budget = Budget::start(received, age(&request));
                AssertUnwindSafe(self.webhook(*request, envelope, budget))
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Report::of(Outcome::Failed(Failure::Panicked)))
            }
            Ok(Kind::Batch) => {
                let (reports, answer) = AssertUnwindSafe(self.batch(envelope, received))
                    .catch_unwind()
                    .await
                    .unwrap_or(Err(BatchFailed::Panicked))
                    .inspect_err(|error| tracing::error!("{error}"))?;
                let mut invocation = ended();
                let failed = answer.batch_item_failures.len();
                telemetry::write_batch(reports.len(), failed, invocation);
                invocation.is_first = false;
                for report in &reports {
                    telemetry::write(report, invocation);
                }
                return Ok(Answer::Batch(answer));
            }
            Ok(Kind::Unknown) => Report::of(Outcome::Failed(Failure::UnknownInvocation)),
            Err(_) => Report::of(Outcome::Failed(Failure::Panicked)),
        };
        telemetry::write(&report, ended());
        Ok(Answer::Http(HttpAnswer {
            cookies,
            ..answer(&report)
        }))
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
        let delivery = Delivery {
            body: verified.bytes(),
            event: Event::parse(verified),
            origin: if request.headers().contains_key(REPLAYED_HEADER) {
                Origin::Redelivered
            } else {
                Origin::Purchasely
            },
            only: None,
            // Purchasely itself sends no later event of a user before this one is acknowledged.
            group: None,
        };
        let mut reports = self.relay.relay(&[delivery], secret, budget).await;
        reports
            .pop()
            .unwrap_or_else(|| Report::of(Outcome::Failed(Failure::Panicked)))
    }

    /// Relays a batch and names the messages that are to come again.
    async fn batch(
        &self,
        envelope: &str,
        received: Instant,
    ) -> Result<(Vec<Report>, SqsBatchResponse), BatchFailed> {
        let budget = Budget::start(received, Duration::ZERO);
        let batch: SqsEvent =
            serde_json::from_str(envelope).map_err(|_| BatchFailed::Unreadable)?;
        let messages = &batch.records;
        // A message without an id could not be named, and what is not named is deleted.
        if messages.iter().any(|message| message.message_id.is_none()) {
            return Err(BatchFailed::Unreadable);
        }
        let bodies: Vec<_> = messages.iter().map(webhook_of).collect();
        let deliveries: Vec<_> = messages
            .iter()
            .zip(&bodies)
            .map(|(message, body)| delivery_of(message, body.as_deref()))
            .collect();
        let secret = timeout_at(budget.uploads_end, self.secrets.get()).await;
        let reports = match secret.ok().and_then(Result::ok) {
            Some(secret) => self.relay.relay(&deliveries, secret, budget).await,
            None => messages
                .iter()
                .map(|_| Report::of(Outcome::Failed(Failure::SecretUnavailable)))
                .collect(),
        };
        let failed: Vec<_> = messages
            .iter()
            .zip(&reports)
            .filter(|(_, report)| !report.outcome.is_settled())
            .collect();
        if let Some(queue) = &self.event_queue {
            let holding = failed
                .iter()
                .filter(|(_, report)| report.outcome != Outcome::Failed(Failure::Held))
                .filter_map(|(message, _)| {
                    let handle = message.receipt_handle.as_deref()?;
                    Some(queue.hold_back(handle, received_times(message)))
                });
            // Without it the queue's own visibility timeout applies, so it may be cut short.
            let _ = timeout_at(budget.ends, join_all(holding)).await;
        }
        let mut answer = SqsBatchResponse::default();
        for (message, _) in failed {
            answer.add_failure(message.message_id.clone().unwrap_or_default());
        }
        Ok((reports, answer))
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
                    SignatureHeaders::read(request.headers()).map_err(Outcome::Unauthorized)?;
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
            Err(InvalidSignature::Mismatch) => {
                let changed = timeout_at(budget.uploads_end, self.secrets.refresh(&secret));
                let changed = changed.await.ok().flatten();
                let secret = changed.ok_or(Outcome::Unauthorized(InvalidSignature::Mismatch))?;
                let verified = verify(&secret).map_err(Outcome::Unauthorized)?;
                Ok((verified, secret))
            }
            Err(why) => Err(Outcome::Unauthorized(why)),
        }
    }
}

/// What the function was invoked with.
enum Kind {
    Request(Box<Request>),
    Batch,
    Unknown,
}

impl Kind {
    /// Tries what comes most often first: each try reads the whole envelope.
    fn of(envelope: &str) -> Self {
        if let Ok(request) = serde_json::from_str(envelope) {
            return Self::Request(Box::new(LambdaRequest::ApiGatewayV2(request).into()));
        }
        if carries_records(envelope) {
            return Self::Batch;
        }
        lambda_http::request::from_str(envelope)
            .map_or(Self::Unknown, |request| Self::Request(Box::new(request)))
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

fn carries_records(envelope: &str) -> bool {
    #[derive(Deserialize)]
    struct Batch {
        #[serde(rename = "Records")]
        _records: serde::de::IgnoredAny,
    }
    serde_json::from_str::<Batch>(envelope).is_ok()
}

/// The raw webhook in a message; `None` if it cannot be got back.
fn webhook_of(message: &SqsMessage) -> Option<Cow<'_, [u8]>> {
    let body = message.body.as_deref().unwrap_or_default();
    queues::webhook_of(body, attribute(message, queues::ENCODING))
}

fn delivery_of<'m>(message: &'m SqsMessage, webhook: Option<&'m [u8]>) -> Delivery<'m> {
    let text = message.body.as_deref().unwrap_or_default();
    // Words that name no record say nothing, and then all of them are sent rather than none.
    let only = attribute(message, queues::RECORDS)
        .map(|words| {
            words
                .split(',')
                .filter_map(|word| word.parse().ok())
                .collect()
        })
        .filter(|roles: &Vec<Role>| !roles.is_empty());
    let again = [queues::REASON, queues::REPLAYED];
    Delivery {
        body: webhook.unwrap_or(text.as_bytes()),
        // Only the function and its owner may write to the queue, so its messages need no signature.
        event: webhook.map_or(Err(Unreadable::NotJson), |body| {
            Event::parse(Verified::unsigned(body))
        }),
        origin: if again.iter().any(|name| attribute(message, name).is_some()) {
            Origin::Redelivered
        } else {
            Origin::Purchasely
        },
        only,
        group: message.attributes.get("MessageGroupId").map(String::as_str),
    }
}

fn attribute<'m>(message: &'m SqsMessage, name: &str) -> Option<&'m str> {
    message
        .message_attributes
        .get(name)?
        .string_value
        .as_deref()
}

fn received_times(message: &SqsMessage) -> u32 {
    let count = message.attributes.get("ApproximateReceiveCount");
    count.and_then(|count| count.parse().ok()).unwrap_or(1)
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
