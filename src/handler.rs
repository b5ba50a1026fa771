//! Serves an invocation: an HTTP request or a batch of messages in, a response out, whatever happens.
//!
//! It verifies and parses webhooks, hands them to the relay, and turns each outcome into a response. It does
//! not know what relaying an event takes.

use crate::aws::queues::{self, Queue};
use crate::aws::secret::{Secret, Secrets};
use crate::clevertap::{Role, UploadFailure};
use crate::clock;
use crate::config::SignaturePolicy;
use crate::envelope::{Envelope, Request, Response, json_headers};
use crate::mapping::Origin;
use crate::outcome::{Failure, Outcome, Permanent};
use crate::purchasely::signature::{InvalidSignature, SignatureHeaders};
use crate::purchasely::{Event, Unreadable, Verified};
use crate::relay::{self, Budget, Delivery, Message, Relay, Relayed, Undeliverable};
use crate::report::Report;
use crate::telemetry;
use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsMessage};
use futures_util::FutureExt;
use http::header::ALLOW;
use http::{HeaderValue, Method};
use lambda_runtime::LambdaEvent;
use serde::Serialize;
use serde_json::value::RawValue;
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
            Envelope::Neither => Err(InvocationFailed::Neither),
            Envelope::Batch(messages) => Ok(messages),
            Envelope::UnreadableBatch => Err(InvocationFailed::Unreadable),
        };
        let batch = async {
            let budget = Budget::start(received, Duration::ZERO);
            self.batch(&messages?, budget).await
        };
        let (response, reports) = AssertUnwindSafe(batch)
            .catch_unwind()
            .await
            .unwrap_or(Err(InvocationFailed::Panicked))
            .inspect_err(|error| tracing::error!("{error}"))?;
        let failed = response.batch_item_failures.len();
        telemetry::write_batch(&reports, failed, summary());
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
        if is_too_large && !queues::fits_a_letter(verified.bytes()) {
            return Report::new(Outcome::PayloadTooLarge);
        }
        let replayed = request.headers.get(REPLAYED_HEADER);
        let delivery = Delivery {
            body: verified.bytes(),
            event: parse(verified),
            origin: if replayed.is_some() {
                Origin::Redelivered
            } else {
                Origin::Purchasely
            },
            records: replayed.and_then(|value| Role::read_list(value.to_str().ok()?)),
            message: None,
        };
        match &self.webhook_queue {
            Some(queue) => self.relay.enqueue(&delivery, &secret, queue).await,
            None => self.relay.relay(&delivery, secret, budget).await,
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
        messages: &[SqsMessage],
        budget: Budget,
    ) -> Result<(SqsBatchResponse, Vec<Report>), InvocationFailed> {
        let mut response = SqsBatchResponse::default();
        let secret = self.secret(budget).await;
        let bodies: Vec<_> = messages.iter().map(body_of).collect();
        let deliveries: Vec<_> = messages
            .iter()
            .zip(&bodies)
            .filter_map(|(message, body)| delivery_of(message, body.as_deref()))
            .collect();
        let relayed = self.relay.relay_batch(&deliveries, secret, budget).await;
        let (failed, settled): (Vec<_>, Vec<_>) =
            relayed.iter().partition(|relayed| relayed.comes_again);
        let has_panicked =
            |failed: &&Relayed<'_>| failed.report.outcome == Outcome::Failed(Failure::Panicked);
        if settled.is_empty() && failed.iter().any(has_panicked) {
            return Err(InvocationFailed::Panicked);
        }
        self.delay(&failed, budget).await;
        for message in failed.iter().filter_map(|failed| failed.delivery.message) {
            response.add_failure(message.id);
        }
        let reports = relayed.into_iter().map(|relayed| relayed.report).collect();
        Ok((response, reports))
    }

    /// Delays the next delivery of what failed. The messages of a group wait as long as the first of them,
    /// because SQS delivers none of a group while it hides another. What only had no turn comes again at once.
    async fn delay(&self, failed: &[&Relayed<'_>], budget: Budget) {
        let (Some(queue), false) = (&self.event_queue, failed.is_empty()) else {
            return;
        };
        let mut of_group = HashMap::new();
        let delays = failed.iter().filter_map(|failed| {
            let message = failed.delivery.message?;
            let delay =
                of_group
                    .entry(message.group.unwrap_or(message.id))
                    .or_insert_with(|| match failed.report.outcome {
                        Outcome::Failed(why) if why.may_be_stored() => {
                            queues::delay_after(message.receive_count, WAIT_AFTER_UNKNOWN)
                        }
                        _ if failed.is_after_profile => queues::delay_after(1, WAIT_AFTER_UNKNOWN),
                        Outcome::Waiting => Duration::ZERO,
                        // It did not fail itself.
                        Outcome::Failed(Failure::Upload(UploadFailure::TooLate)) => {
                            queues::delay_after(1, Duration::ZERO)
                        }
                        _ => queues::delay_after(message.receive_count, Duration::ZERO),
                    });
            Some((message.receipt_handle?, *delay))
        });
        // Without it the queue's own visibility timeout applies, so it may be cut short.
        let _ = timeout_at(budget.ends, queue.delay(delays)).await;
    }
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

/// Parses a webhook, unless it is too large to be one.
fn parse(webhook: Verified<'_>) -> Result<Event<'_>, Undeliverable> {
    if webhook.bytes().len() > MAX_BODY_BYTES {
        return Err(Permanent::TooLarge.into());
    }
    relay::parse(webhook)
}

/// How long the request took to get here, as far as its time is plausible.
fn age(request: &Request) -> Duration {
    clock::unix_time()
        .checked_sub(request.received_at)
        .filter(|age| *age <= MAX_AGE)
        .unwrap_or_default()
}

/// The raw webhook in a message; `None` if its encoding is broken.
fn body_of(message: &SqsMessage) -> Option<std::borrow::Cow<'_, [u8]>> {
    let body = message.body.as_deref().unwrap_or_default();
    queues::webhook_of(body, attribute(message, queues::ENCODING))
}

fn delivery_of<'m>(message: &'m SqsMessage, body: Option<&'m [u8]>) -> Option<Delivery<'m>> {
    let system = |name: &str| message.attributes.get(name).map(String::as_str);
    let sent_at = system("SentTimestamp").and_then(|time| time.parse().ok());
    let sent_at = sent_at.map(Duration::from_millis);
    let is_redelivered = is_moved(attribute(message, queues::RECEIVED_AT), sent_at)
        || [queues::REASON, queues::REPLAYED]
            .iter()
            .any(|name| attribute(message, name).is_some());
    let count = system("ApproximateReceiveCount").and_then(|count| count.parse().ok());
    Some(Delivery {
        body: body.unwrap_or(message.body.as_deref().unwrap_or_default().as_bytes()),
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
        records: attribute(message, queues::RECORDS).and_then(Role::read_list),
        message: Some(Message {
            id: message.message_id.as_deref()?,
            receipt_handle: message.receipt_handle.as_deref(),
            receive_count: count.unwrap_or(1),
            group: system("MessageGroupId"),
            sent_at,
        }),
    })
}

/// Whether SQS itself moved a message to the dead-letter queue and somebody redrove it: both start its
/// timestamp again.
fn is_moved(received_at: Option<&str>, sent_at: Option<Duration>) -> bool {
    let received_at = received_at.and_then(|time| OffsetDateTime::parse(time, &Rfc3339).ok());
    let received_at = received_at.and_then(|time| u64::try_from(time.unix_timestamp()).ok());
    let times = sent_at.zip(received_at.map(Duration::from_secs));
    times.is_some_and(|(sent, received)| sent.saturating_sub(received) > MAX_TIME_TO_QUEUE)
}

fn attribute<'m>(message: &'m SqsMessage, name: &str) -> Option<&'m str> {
    let attribute = message.message_attributes.get(name)?;
    attribute.string_value.as_deref()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app;
    use crate::config::Config;
    use crate::http::{Exchange, Http, SharedHttp};
    use aws_sdk_sqs::config::{Credentials, SharedCredentialsProvider};
    use bytes::Bytes;
    use serde_json::{Value, json};
    use std::sync::Mutex;

    const FIRST_AT: u64 = 1_772_439_330;

    /// CleverTap, Secrets Manager, DynamoDB and SQS, which accept almost everything, and what they received.
    #[derive(Debug, Clone, Default)]
    struct World {
        uploads: Arc<Mutex<Vec<Value>>>,
        letters: Arc<Mutex<Vec<Value>>>,
    }

    impl Http for World {
        fn exchange(&self, request: ::http::Request<Bytes>, _: usize) -> Exchange {
            let body: Value = serde_json::from_slice(request.body()).unwrap_or_default();
            assert!(!body.to_string().contains("PANICS_IN_UPLOADING"));
            let answer = match request.headers().get("x-amz-target") {
                None => {
                    let is_refused = body.to_string().contains("UNEXPLAINED");
                    self.uploads.lock().unwrap().push(body);
                    json!({ "status": if is_refused { "fail" } else { "success" } })
                }
                Some(operation) if operation == "AmazonSQS.SendMessage" => {
                    self.letters.lock().unwrap().push(body);
                    json!({})
                }
                Some(operation) if operation == "DynamoDB_20120810.UpdateItem" => {
                    json!({ "Attributes": { "first_at": { "N": FIRST_AT.to_string() } } })
                }
                Some(_) => json!({ "SecretString": r#"{"clevertap_passcode":"p"}"# }),
            };
            let answer = ::http::Response::new(Some(answer.to_string().into()));
            Box::pin(std::future::ready(Ok(answer)))
        }
    }

    impl World {
        fn handler(&self) -> Arc<Handler> {
            // Through the test harness, which shows the log of a test that fails only.
            telemetry::capture(|line| print!("{}", String::from_utf8_lossy(line)));
            telemetry::note_panics();
            let config = Config::from_env(|name| {
                let value = match name {
                    "CLEVERTAP_REGION" => "in1",
                    "CLEVERTAP_ACCOUNT_ID" => "ABC-123-4567",
                    "SECRET_ID" => "relay",
                    "PURCHASELY_SIGNATURE" => "off",
                    "DEDUPLICATION_TABLE" => "claims",
                    "DEAD_LETTER_QUEUE_URL" => "https://sqs.eu-west-1.amazonaws.com/1/dead.fifo",
                    _ => return None,
                };
                Some(value.to_owned())
            });
            let http = SharedHttp(Arc::new(self.clone()));
            let aws = aws_config::SdkConfig::builder()
                .behavior_version(aws_config::BehaviorVersion::v2026_01_12())
                .region(aws_config::Region::new("eu-west-1"))
                .credentials_provider(SharedCredentialsProvider::new(Credentials::for_tests()))
                .http_client(http.clone())
                .build();
            Arc::new(app::handler(config.unwrap(), http, &aws).unwrap())
        }

        /// Where the function panicked over each dead letter.
        fn panicked_at(&self) -> Vec<String> {
            let letters = self.letters.lock().unwrap();
            let place = |letter: &Value| {
                let attributes = &letter["MessageAttributes"];
                assert_eq!(attributes["reason"]["StringValue"], "panicked");
                attributes["panicked_at"]["StringValue"].as_str().unwrap().to_owned()
            };
            letters.iter().map(place).collect()
        }
    }

    fn webhook(name: &str) -> String {
        json!({ "event_name": name, "event_id": name, "user_id": name }).to_string()
    }

    async fn invoke(handler: &Arc<Handler>, event: Value) -> Result<Value, InvocationFailed> {
        let payload = RawValue::from_string(event.to_string()).unwrap();
        let event = LambdaEvent::new(payload, lambda_runtime::Context::default());
        let response = Arc::clone(handler).handle(event).await?;
        Ok(serde_json::to_value(response).unwrap())
    }

    async fn post(handler: &Arc<Handler>, name: &str) -> (Value, Value) {
        let context = json!({ "http": { "method": "POST" } });
        let event = json!({ "requestContext": context, "headers": {}, "body": webhook(name) });
        let response = invoke(handler, event).await.unwrap();
        let body: Value = serde_json::from_str(response["body"].as_str().unwrap()).unwrap();
        (response["statusCode"].clone(), body["reason"].clone())
    }

    async fn batch(handler: &Arc<Handler>, names: &[&str]) -> Result<Value, InvocationFailed> {
        batch_of(handler, names, |name| name).await
    }

    async fn batch_of<'n>(
        handler: &Arc<Handler>,
        names: &[&'n str],
        group: impl Fn(&'n str) -> &'n str,
    ) -> Result<Value, InvocationFailed> {
        let messages = names.iter().map(|name| {
            let attributes = json!({ "MessageGroupId": group(name) });
            json!({ "messageId": name, "body": webhook(name), "attributes": attributes })
        });
        invoke(handler, json!({ "Records": messages.collect::<Vec<_>>() })).await
    }

    #[tokio::test]
    async fn a_panic_while_parsing_or_mapping_is_a_dead_letter_with_its_place() {
        let world = World::default();
        let handler = world.handler();
        for name in ["PANICS_IN_PARSING", "PANICS_IN_MAPPING"] {
            assert_eq!(post(&handler, name).await, (json!(200), json!("panicked")), "{name}");
        }
        let places = world.panicked_at();
        assert!(places[0].starts_with("src/purchasely/event.rs:"), "{places:?}");
        assert!(places[1].starts_with("src/mapping/identity.rs:"), "{places:?}");
        assert_eq!(world.uploads.lock().unwrap().len(), 0);
    }

    #[tokio::test]
    async fn a_panic_over_one_event_of_a_batch_is_a_dead_letter_of_that_event_only() {
        let world = World::default();
        let names = ["FIRST", "PANICS_IN_PARSING", "PANICS_IN_MAPPING", "LAST"];
        let response = batch(&world.handler(), &names).await;
        assert_eq!(response, Ok(json!({ "batchItemFailures": [] })));
        assert_eq!(world.panicked_at().len(), 2);
        let uploads = world.uploads.lock().unwrap();
        let names = uploads[0]["d"].as_array().unwrap().iter().map(|record| &record["evtName"]);
        assert_eq!(names.collect::<Vec<_>>(), ["FIRST", "LAST"]);
        assert_eq!(uploads.len(), 1);
    }

    #[tokio::test]
    async fn a_panic_anywhere_else_is_503_or_an_error_for_the_batch() {
        let world = World::default();
        let handler = world.handler();
        assert_eq!(post(&handler, "PANICS_IN_UPLOADING").await, (json!(503), Value::Null));
        let response = batch(&handler, &["FIRST", "PANICS_IN_UPLOADING"]).await;
        assert_eq!(response, Err(InvocationFailed::Panicked));
        assert_eq!(world.panicked_at(), [""; 0]);
    }

    #[tokio::test]
    async fn a_panic_ends_the_rounds_and_what_was_settled_before_stays_settled() {
        let names = ["FIRST", "PANICS_IN_UPLOADING", "LAST"];
        let response = batch_of(&World::default().handler(), &names, |_| "one user").await;
        let again = names[1..].iter().map(|name| json!({ "itemIdentifier": name }));
        assert_eq!(response, Ok(json!({ "batchItemFailures": again.collect::<Vec<_>>() })));
    }

    #[tokio::test]
    async fn what_is_refused_without_a_reason_is_a_dead_letter_a_day_after_its_first_claim() {
        let world = World::default();
        let handler = world.handler();
        for (hours, expected) in
            [(23, (json!(503), Value::Null)), (25, (json!(200), json!("refused")))]
        {
            let now = Duration::from_secs(FIRST_AT) + Duration::from_hours(hours);
            clock::simulate(std::time::UNIX_EPOCH + now);
            assert_eq!(post(&handler, "UNEXPLAINED").await, expected);
        }
    }
}
