//! Serves an invocation: an HTTP request or a batch of messages in, a response out, whatever happens.
//!
//! It verifies and parses webhooks, hands them to the relay, and turns each outcome into a response. It does
//! not know what relaying an event takes.

use crate::aws::queues::{self, Queue};
use crate::aws::secret::{Secret, Secrets};
use crate::clevertap::{Role, UploadFailure};
use crate::clock;
use crate::config::SignaturePolicy;
use crate::envelope::{Envelope, Message, Request, Response, json_headers};
use crate::forward::{Backend, NOT_FORWARDED, NotForwarded};
use crate::mapping::Origin;
use crate::outcome::{Failure, Outcome, Permanent};
use crate::purchasely::signature::{InvalidSignature, SignatureHeaders};
use crate::purchasely::{Event, Unreadable, Verified};
use crate::relay::{Budget, Delivery, Queued, Relay, Relayed, Undeliverable};
use crate::report::Report;
use crate::telemetry::{self, catch_panic};
use aws_lambda_events::event::sqs::SqsBatchResponse;
use futures_util::FutureExt;
use http::header::ALLOW;
use http::{HeaderValue, Method};
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::timeout_at;

/// Purchasely's webhooks have about 1.5 kB. A larger one is not parsed, wherever it comes from.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// Marks a webhook that an operator sends again; its value may name the only records to send, as in a dead
/// letter. It is not signed, but whoever can sign a webhook can also send it without the mark.
pub const REPLAYED_HEADER: &str = "x-replayed";
/// A request that seems older than this has a time in another unit, or was stored.
const MAX_AGE: Duration = Duration::from_secs(10);
/// A message that is in SQS this much later than its webhook was not sent by the HTTP endpoint: SQS moved it.
const MAX_TIME_TO_QUEUE: Duration = Duration::from_mins(5);
/// The least wait before an event is sent again that CleverTap may have stored: a minute, even if a tenth less.
const WAIT_AFTER_UNKNOWN: Duration = Duration::from_secs(70);

/// Serves invocations.
#[derive(Debug)]
pub struct Handler {
    pub signature: SignaturePolicy,
    /// Gets each verified webhook before anything else happens to it.
    pub backend: Option<Backend>,
    pub secrets: Arc<Secrets>,
    pub relay: Relay,
    /// The queue that webhooks are put into, unless they are relayed at once.
    pub webhook_queue: Option<Queue>,
    /// The queue that batches come from.
    pub event_queue: Option<Queue>,
    /// Whether the environment has served nothing yet.
    pub is_cold: AtomicBool,
}

/// Why an invocation fails. SQS takes every response that names no failures for success and deletes the
/// messages, so only an error keeps a batch that could not be served; and a gateway without proxy integration
/// answers 200 to every response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvocationFailed {
    #[error(
        "the invocation is neither an HTTP request of API Gateway or of a Function URL nor a batch of SQS messages: a REST API needs the Lambda proxy integration"
    )]
    Neither,
    #[error("the invocation has records that are not readable SQS messages")]
    Unreadable,
    #[error("the function panicked while it relayed a batch of messages")]
    Panicked,
}

impl Handler {
    /// Serves one invocation. Every HTTP request gets a response; the response to a batch names the messages
    /// that are not settled.
    pub async fn handle(
        self: Arc<Self>,
        invocation: LambdaEvent<Box<RawValue>>,
    ) -> Result<Response, InvocationFailed> {
        let context = &invocation.context;
        let (request_id, trace_id) = (context.request_id.clone(), context.xray_trace_id.clone());
        // Boxed, because the compiler limits the depth of nested futures.
        let serving = Box::pin(self.serve(&invocation));
        telemetry::with_request_ids(request_id, trace_id, serving).await
    }

    async fn serve(
        &self,
        invocation: &LambdaEvent<Box<RawValue>>,
    ) -> Result<Response, InvocationFailed> {
        let received = clock::instant();
        let context = &invocation.context;
        let is_cold = self.is_cold.swap(false, Ordering::Relaxed);
        let summary = || telemetry::Invocation {
            request_id: &context.request_id,
            trace_id: context.xray_trace_id.as_deref(),
            function: &context.env_config.function_name,
            is_cold,
            secret_age: self.secrets.age(),
            duration: received.elapsed(),
        };
        let messages = match Envelope::read(invocation.payload.get()) {
            Envelope::Request(request) => {
                let budget = Budget::start(received, age(&request));
                let report = AssertUnwindSafe(self.webhook(&request, budget))
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Report::new(Outcome::Failed(Failure::Panicked)));
                telemetry::write(&report, summary());
                return Ok(respond(&request, &report));
            }
            Envelope::UnreadableRequest(request) => {
                let report = Report::new(Outcome::UnreadableRequest);
                telemetry::write(&report, summary());
                return Ok(respond(&request, &report));
            }
            Envelope::Batch(messages) => messages,
            Envelope::UnreadableBatch => return Err(failed(InvocationFailed::Unreadable)),
            Envelope::Neither => return Err(failed(InvocationFailed::Neither)),
        };
        let budget = Budget::start(received, Duration::ZERO);
        let (response, reports) = AssertUnwindSafe(self.batch(&messages, budget))
            .catch_unwind()
            .await
            .unwrap_or(Err(InvocationFailed::Panicked))
            .map_err(failed)?;
        telemetry::write_batch(&reports, response.batch_item_failures.len(), summary());
        Ok(Response::Batch(response))
    }

    async fn webhook(&self, request: &Request, budget: Budget) -> Report {
        if request.method != Method::POST {
            return Report::new(Outcome::MethodNotAllowed);
        }
        let is_too_large = request.body.len() > MAX_BODY_BYTES;
        if is_too_large && self.signature == SignaturePolicy::Off {
            return Report::new(Outcome::PayloadTooLarge);
        }
        let (verified, secret) = match self.verify(request, budget).await {
            Ok(verified) => verified,
            Err(outcome) => return Report::new(outcome),
        };
        let is_kept = !is_too_large || queues::fits_a_letter(verified.bytes());
        let forwarded = match self.forward(request, budget).await {
            Ok(forwarded) => forwarded,
            // It is parsed for the log alone: whoever repairs the backend wants to know whose events wait.
            Err(failure) => {
                return delivery_of_request(request, verified)
                    .report(Outcome::Failed(failure), Some(&secret));
            }
        };
        let mut report = if is_kept {
            self.hand_over(&delivery_of_request(request, verified), secret, budget).await
        } else {
            Report::new(Outcome::PayloadTooLarge)
        };
        report.forwarded = forwarded;
        report
    }

    /// Sends a verified webhook to the operator's backend, if there is one and an operator's tool did not send it.
    async fn forward(
        &self,
        request: &Request,
        budget: Budget,
    ) -> Result<Option<Duration>, Failure> {
        let headers = &request.headers;
        let is_marked =
            headers.contains_key(REPLAYED_HEADER) || headers.contains_key(NOT_FORWARDED);
        let Some(backend) = self.backend.as_ref().filter(|_| !is_marked) else {
            return Ok(None);
        };
        let forwarded = backend.forward(headers, &request.body, budget.forwarding_ends).await;
        forwarded.map(Some).map_err(|why| match why {
            NotForwarded::TooLate => Failure::Upload(UploadFailure::TooLate),
            why => Failure::ForwardFailed(why),
        })
    }

    /// Relays it at once, or puts it into the queue.
    async fn hand_over(
        &self,
        delivery: &Delivery<'_>,
        secret: Arc<Secret>,
        budget: Budget,
    ) -> Report {
        match &self.webhook_queue {
            Some(queue) => self.relay.enqueue(delivery, &secret, queue).await,
            None => self.relay.relay(delivery, secret, budget).await,
        }
    }

    /// Verifies the request's signature. A mismatch may come from a shared secret that was changed a moment
    /// ago, so the secret is then read again.
    async fn verify<'r>(
        &self,
        request: &'r Request,
        budget: Budget,
    ) -> Result<(Verified<'r>, Arc<Secret>), Outcome> {
        let signed = match self.signature {
            SignaturePolicy::Off => None,
            SignaturePolicy::Required { tolerance } => {
                let headers =
                    SignatureHeaders::read(&request.headers).map_err(Outcome::Unauthorized)?;
                Some((headers, tolerance))
            }
        };
        if clock::instant() >= budget.uploads_end {
            return Err(Outcome::Failed(Failure::Upload(UploadFailure::TooLate)));
        }
        let secret =
            self.secret(budget).await.ok_or(Outcome::Failed(Failure::SecretUnavailable))?;
        let Some((headers, tolerance)) = signed else {
            return Ok((Verified::unsigned(&request.body), secret));
        };
        let verify = |secret: &Secret| {
            let now = clock::unix_time().as_secs();
            headers.verify(secret.shared_secrets(), tolerance, now, &request.body)
        };
        match verify(&secret) {
            Ok(verified) => Ok((verified, secret)),
            Err(InvalidSignature::Mismatch) => {
                let refresh = timeout_at(budget.uploads_end, self.secrets.refresh(&secret));
                let changed = refresh.await.ok().flatten();
                let secret = changed.ok_or(Outcome::Unauthorized(InvalidSignature::Mismatch))?;
                let verified = verify(&secret).map_err(Outcome::Unauthorized)?;
                Ok((verified, secret))
            }
            Err(why) => Err(Outcome::Unauthorized(why)),
        }
    }

    async fn secret(&self, budget: Budget) -> Option<Arc<Secret>> {
        timeout_at(budget.uploads_end, self.secrets.get()).await.ok()?
    }

    /// Relays a batch. The response names the messages that are to come again.
    async fn batch(
        &self,
        messages: &[Message],
        budget: Budget,
    ) -> Result<(SqsBatchResponse, Vec<Report>), InvocationFailed> {
        let secret = self.secret(budget).await;
        let bodies: Vec<_> = messages.iter().map(body_of).collect();
        let deliveries = messages.iter().zip(&bodies);
        let deliveries: Vec<_> = deliveries
            .map(|(message, body)| delivery_of_message(message, body.as_deref()))
            .collect();
        let relayed = self.relay.relay_batch(&deliveries, secret, budget).await;
        let (again, settled): (Vec<_>, Vec<_>) =
            messages.iter().zip(&relayed).partition(|(_, relayed)| relayed.comes_again);
        let has_panicked = |(_, relayed): &(_, &Relayed)| {
            relayed.report.outcome == Outcome::Failed(Failure::Panicked)
        };
        if settled.is_empty() && again.iter().any(has_panicked) {
            return Err(InvocationFailed::Panicked);
        }
        self.delay(&again, budget).await;
        let mut response = SqsBatchResponse::default();
        for (message, _) in &again {
            response.add_failure(&message.id);
        }
        let reports = relayed.into_iter().map(|relayed| relayed.report).collect();
        Ok((response, reports))
    }

    /// Delays the next delivery of what comes again. The messages of a group wait as long as the first of them,
    /// because SQS delivers none of a group while it hides another. What only had no turn comes again at once.
    async fn delay(&self, again: &[(&Message, &Relayed)], budget: Budget) {
        let (Some(queue), false) = (&self.event_queue, again.is_empty()) else {
            return;
        };
        let mut of_group = HashMap::new();
        let delays = again.iter().filter_map(|(message, relayed)| {
            let group = message.group.as_deref().unwrap_or(&message.id);
            let delay = of_group.entry(group).or_insert_with(|| match relayed.report.outcome {
                Outcome::Failed(why) if why.may_be_stored() => {
                    queues::delay_after(message.receive_count, WAIT_AFTER_UNKNOWN)
                }
                _ if relayed.is_after_profile => queues::delay_after(1, WAIT_AFTER_UNKNOWN),
                Outcome::Waiting => Duration::ZERO,
                // It did not fail itself.
                Outcome::Failed(Failure::Upload(UploadFailure::TooLate)) => {
                    queues::delay_after(1, Duration::ZERO)
                }
                _ => queues::delay_after(message.receive_count, Duration::ZERO),
            });
            Some((message.receipt_handle.as_deref()?, *delay))
        });
        // Without it the queue's own visibility timeout applies, so it may be cut short.
        let _ = timeout_at(budget.ends, queue.delay(delays)).await;
    }
}

/// An invocation that fails says why.
fn failed(why: InvocationFailed) -> InvocationFailed {
    tracing::error!("{why}");
    why
}

fn respond(request: &Request, report: &Report) -> Response {
    #[derive(Serialize)]
    struct Body<'r> {
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
    let is_settled = report.outcome.is_settled();
    let body = Body {
        status: is_settled.then_some(row.word),
        error: (!is_settled).then_some(row.word),
        // The log says why something failed; the sender does not learn it.
        reason: row.reason.filter(|_| is_settled),
        event_id: report.event_id.as_deref(),
    };
    let mut headers = json_headers();
    if report.outcome == Outcome::MethodNotAllowed {
        headers.insert(ALLOW, HeaderValue::from_static("POST"));
    }
    let body = serde_json::to_string(&body).unwrap_or_default();
    request.response(row.http_status, headers, body)
}

/// Parses a verified webhook, unless it is too large to be one.
fn parse(webhook: Verified<'_>) -> Result<Event<'_>, Undeliverable> {
    if webhook.bytes().len() > MAX_BODY_BYTES {
        return Err(Permanent::TooLarge.into());
    }
    match catch_panic(|| Event::parse(webhook)) {
        Ok(parsed) => parsed.map_err(|why| Permanent::Unreadable(why).into()),
        Err(place) => Err(Undeliverable::panicked(place)),
    }
}

/// How long the request took to get here, as far as its time is plausible.
fn age(request: &Request) -> Duration {
    clock::unix_time()
        .checked_sub(request.received_at)
        .filter(|age| *age <= MAX_AGE)
        .unwrap_or_default()
}

/// The raw webhook in a message; `None` if its encoding is broken.
fn body_of(message: &Message) -> Option<Cow<'_, [u8]>> {
    queues::webhook_of(&message.body, message.attribute(queues::ENCODING))
}

fn delivery_of_request<'r>(request: &Request, webhook: Verified<'r>) -> Delivery<'r> {
    let replayed = request.headers.get(REPLAYED_HEADER);
    Delivery {
        body: webhook.bytes(),
        event: parse(webhook),
        origin: if replayed.is_some() {
            Origin::Redelivered
        } else {
            Origin::Purchasely
        },
        records: replayed.and_then(|value| Role::read_list(value.to_str().ok()?)),
        queued: None,
    }
}

fn delivery_of_message<'m>(message: &'m Message, body: Option<&'m [u8]>) -> Delivery<'m> {
    let is_redelivered = is_moved(message.attribute(queues::RECEIVED_AT), message.sent_at)
        || [queues::REASON, queues::REPLAYED]
            .iter()
            .any(|name| message.attribute(name).is_some());
    Delivery {
        body: body.unwrap_or(message.body.as_bytes()),
        // Only the function and its operator can write to the queue, so messages need no signature.
        event: body.map_or_else(
            || Err(Permanent::Unreadable(Unreadable::NotJson).into()),
            |body| parse(Verified::unsigned(body)),
        ),
        origin: if is_redelivered {
            Origin::Redelivered
        } else {
            Origin::Purchasely
        },
        // A text that names none says nothing: all records are sent rather than none.
        records: message.attribute(queues::RECORDS).and_then(Role::read_list),
        queued: Some(Queued {
            group: message.group.as_deref(),
            sent_at: message.sent_at,
        }),
    }
}

/// Whether SQS itself moved a message to the dead-letter queue and somebody redrove it: both start its
/// timestamp again.
fn is_moved(received_at: Option<&str>, sent_at: Option<Duration>) -> bool {
    let received_at = received_at.and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
    let received_at = received_at.and_then(|time| u64::try_from(time.unix_timestamp()).ok());
    let times = sent_at.zip(received_at.map(Duration::from_secs));
    times.is_some_and(|(sent, received)| sent.saturating_sub(received) > MAX_TIME_TO_QUEUE)
}

#[cfg(test)]
mod tests;
