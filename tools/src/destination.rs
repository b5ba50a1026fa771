//! Where events are sent to: the function's URL, as signed webhooks, or its event queue, as messages.
//! It does not know what was sent before, nor whether an attempt is repeated.

use crate::saved::Saved;
use crate::{Unusable, ask, http_client};
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::types::MessageAttributeValue;
use purchasely_clevertap::aws::queues::{self, ENCODING, RECORDS, REPLAYED};
use purchasely_clevertap::forward::NOT_FORWARDED;
use purchasely_clevertap::handler::REPLAYED_HEADER;
use purchasely_clevertap::http::SharedHttp;
use purchasely_clevertap::mapping::Ignored;
use purchasely_clevertap::outcome::{Outcome, Permanent};
use reqwest::Url;
use serde_json::Value;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use testkit::harness::now_seconds;
use testkit::webhook::{SAMPLE_SHARED_SECRET, Webhook};

/// Purchasely waits this long for an answer; API Gateway answers within 9.5 s.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The part of a receiver's answer that is printed.
const MAX_DETAIL_CHARACTERS: usize = 200;
/// SQS takes no more attributes.
const MAX_ATTRIBUTES: usize = 10;
/// What the function answers with 200, whatever the reasons. Another answer 200 comes from a wrong URL.
const SETTLED: [Outcome; 6] = [
    Outcome::Relayed,
    Outcome::Queued,
    Outcome::Duplicate,
    Outcome::DryRun,
    Outcome::Ignored(Ignored::Anonymous),
    Outcome::DeadLettered(Permanent::TooLarge),
];
/// SQS's error codes that the next attempt may not get.
#[rustfmt::skip]
const TRANSIENT: [&str; 4] = ["InternalFailure", "InternalError", "ServiceUnavailable", "OverLimit"];

/// The function's URL, to which webhooks are posted as Purchasely does.
pub struct Endpoint {
    http: reqwest::Client,
    url: Url,
    secret: String,
}

/// The function's event queue, to which messages are sent as the function does.
pub struct Queue {
    client: aws_sdk_sqs::Client,
    url: Url,
    /// Different in each run: SQS drops a copy for five minutes, also if the first became a dead letter.
    run: u128,
}

pub enum Destination {
    Endpoint(Endpoint),
    Queue(Queue),
}

/// How the receiver settled the event: `relayed`, `ignored (sandbox)`, …; `queued` for a queue.
pub struct Settled(pub String);

pub type Attempt = Result<Settled, Failure>;

/// The event is not settled.
pub struct Failure {
    pub scope: Scope,
    /// The HTTP status or SQS's error code.
    pub status: String,
    pub detail: String,
}

#[derive(PartialEq)]
pub enum Scope {
    /// Another attempt may succeed.
    Attempt,
    /// Only this event cannot succeed.
    Event,
    /// No event can succeed.
    AllEvents,
}

impl Destination {
    /// `is_queue` is for a queue whose URL does not look like one.
    pub async fn new(url: Url, is_queue: bool) -> Result<Self, Unusable> {
        Ok(if is_queue || is_queue_url(&url)? {
            Self::Queue(Queue {
                client: sqs(http_client(TIMEOUT)?, &url).await,
                url,
                run: fastrand::u128(..),
            })
        } else {
            Self::Endpoint(Endpoint::new(url)?)
        })
    }

    /// Sends an event once. With `profiles` it updates profiles, too; otherwise it is marked as replayed.
    pub async fn send(&self, event: &Saved, profiles: bool) -> Attempt {
        let endpoint = match self {
            Self::Endpoint(endpoint) => endpoint,
            Self::Queue(queue) => return queue.send(event, profiles).await,
        };
        let mark = event.records().or((!profiles).then_some("true"));
        match endpoint.post(event.body.clone(), now_seconds(), mark).await {
            Ok((status, body)) => judge(status, &body),
            Err(error) => {
                let scope = if error.is_builder() {
                    Scope::Event
                } else {
                    Scope::Attempt
                };
                Err(Failure::new(scope, "no answer", &with_causes(&error)))
            }
        }
    }
}

impl Endpoint {
    pub fn new(url: Url) -> Result<Self, Unusable> {
        let secret = secret_for(Some(&url))?;
        Ok(Self { http: http_client(TIMEOUT)?, url, secret })
    }

    /// The status and the body of the answer. `mark` tells the function that the webhook is replayed. No webhook of a
    /// tool is forwarded to the operator's backend.
    pub async fn post(
        &self,
        body: Vec<u8>,
        signed_at: u64,
        mark: Option<&str>,
    ) -> reqwest::Result<(u16, String)> {
        let webhook = Webhook::new(body.clone(), &self.secret, signed_at);
        let mut request = self.http.post(self.url.clone()).body(body);
        for (name, value) in webhook.headers() {
            request = request.header(name, value);
        }
        request = request.header(NOT_FORWARDED, "true");
        if let Some(mark) = mark {
            request = request.header(REPLAYED_HEADER, mark);
        }
        let answered = async {
            let response = request.send().await?;
            Ok((response.status().as_u16(), response.text().await?))
        };
        answered.await.map_err(reqwest::Error::without_url)
    }
}

impl Queue {
    async fn send(&self, event: &Saved, profiles: bool) -> Attempt {
        let (body, encoding) = queues::message_body(&event.body);
        // The function uses the same group, so that a user's order is kept.
        let group = event.user.as_ref().map_or(&event.body[..], String::as_bytes);
        let copy = format!("{} {}", self.run, event.key());
        let mut send = self
            .client
            .send_message()
            .queue_url(self.url.as_str())
            .message_body(body)
            .message_group_id(queues::group_id(group))
            .message_deduplication_id(queues::group_id(copy.as_bytes()));
        let replayed = (!profiles).then_some("true");
        let own = [(ENCODING, encoding), (REPLAYED, replayed), (RECORDS, event.records())];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        // The others of a dead letter say that it is one, and then no profile is written.
        let others = event.attributes.iter().filter(|_| !profiles);
        let others = others.map(|(name, value)| (&**name, &**value));
        let others = others.filter(|(name, _)| *name != RECORDS);
        for (name, value) in own.chain(others).take(MAX_ATTRIBUTES) {
            let attribute = MessageAttributeValue::builder().data_type("String");
            let attribute = attribute.string_value(value).build();
            send = send.message_attributes(name, attribute.expect("it has a data type"));
        }
        match send.send().await {
            Ok(answer) if answer.message_id().is_some() => {
                Ok(Settled(Outcome::Queued.row().word.to_owned()))
            }
            Ok(_) => Err(Failure::new(Scope::AllEvents, "200", "not an answer of SQS")),
            Err(error) => Err(judge_sqs(&error)),
        }
    }
}

impl Settled {
    /// The outcome, but for its reason.
    pub fn outcome(&self) -> Option<Outcome> {
        outcome(self.0.split(' ').next()?)
    }
}

/// The outcome that the function answers with 200 and this word, but for its reason.
fn outcome(word: &str) -> Option<Outcome> {
    SETTLED.into_iter().find(|outcome| outcome.row().word == word)
}

/// The secret to sign webhooks for this address with. The sample secret is public, so it is the default for this
/// machine only.
pub fn secret_for(to: Option<&Url>) -> Result<String, Unusable> {
    match ask::shared_secret_from_environment() {
        None if to.is_none_or(is_loopback) => Ok(SAMPLE_SHARED_SECRET.to_owned()),
        Some(secret) => Ok(secret),
        None => ask::shared_secret(),
    }
}

/// An address that real events may be sent to: only TLS protects what they say about a user.
pub fn endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| error.to_string())?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("must be https, or http on a loopback address such as localhost".to_owned()),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// reqwest's own message does not say why.
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A queue is recognized by its path, `/<12 digits>/<name>.fifo`.
fn is_queue_url(url: &Url) -> Result<bool, String> {
    let path: Vec<_> = url.path_segments().into_iter().flatten().collect();
    let &[account, name] = &path[..] else {
        return Ok(false);
    };
    let is_account = account.len() == 12 && account.parse::<u64>().is_ok();
    if is_account && name.strip_suffix(".fifo").is_none() {
        let problem = "--to is not a FIFO queue; the function's event queue ends in .fifo";
        return Err(problem.to_owned());
    }
    Ok(is_account)
}

async fn sqs(http: reqwest::Client, queue: &Url) -> aws_sdk_sqs::Client {
    let variables = ["AWS_REGION", "AWS_DEFAULT_REGION"];
    let variable = || variables.iter().find_map(|name| std::env::var(name).ok());
    let region = region(queue).or_else(variable);
    let config = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(SharedHttp(Arc::new(http)))
        // An emulator accepts any region.
        .region(Region::new(region.unwrap_or("us-east-1".to_owned())))
        .load()
        .await;
    let timeout = TimeoutConfig::builder().operation_attempt_timeout(TIMEOUT);
    let config = aws_sdk_sqs::config::Builder::from(&config)
        .endpoint_url(queue.origin().ascii_serialization())
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeout.build());
    aws_sdk_sqs::Client::from_conf(config.build())
}

/// The region in a queue's host: `sqs.<region>.amazonaws.com`, formerly `<region>.queue.amazonaws.com`.
fn region(queue: &Url) -> Option<String> {
    let labels: Vec<_> = queue.host_str()?.split('.').collect();
    let region = labels.windows(2).find_map(|pair| match pair {
        ["sqs" | "sqs-fips", region] | [region, "queue"] => Some((*region).to_owned()),
        _ => None,
    });
    region.filter(|_| labels.contains(&"amazonaws"))
}

/// What an HTTP answer means.
fn judge(status: u16, body: &str) -> Attempt {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let word = answer["status"].as_str().unwrap_or_default();
    let scope = match status {
        200 if outcome(word).is_some() => {
            let reason = answer["reason"].as_str();
            let reason = reason.map(|reason| format!(" ({})", printable(reason)));
            return Ok(Settled(word.to_owned() + &reason.unwrap_or_default()));
        }
        200 | 401 | 404 | 405 => Scope::AllEvents,
        408 | 425 | 429 => Scope::Attempt,
        400..500 => Scope::Event,
        _ => Scope::Attempt,
    };
    Err(Failure::new(scope, &status.to_string(), body))
}

fn judge_sqs<R: Debug + 'static>(error: &SdkError<SendMessageError, R>) -> Failure {
    // For instance `com.amazonaws.sqs#RequestThrottled`.
    let code = error.code().and_then(|code| code.rsplit(['.', '#']).next());
    let scope = match (code, error) {
        // Nothing was sent, because of missing credentials for instance.
        (None, SdkError::ConstructionFailure(_)) => Scope::AllEvents,
        (None, SdkError::DispatchFailure(failure)) if failure.is_user() || failure.is_other() => {
            Scope::AllEvents
        }
        (None, _) => Scope::Attempt,
        (Some(code), _) if code.contains("Throttl") || TRANSIENT.contains(&code) => Scope::Attempt,
        (Some("InvalidMessageContents" | "InvalidParameterValue"), _) => Scope::Event,
        // Permissions, credentials, keys, no such queue.
        (Some(_), _) => Scope::AllEvents,
    };
    let cause = || with_causes(error);
    let detail = error.message().map_or_else(cause, str::to_owned);
    Failure::new(scope, code.unwrap_or("no answer"), &detail)
}

impl Failure {
    fn new(scope: Scope, status: &str, detail: &str) -> Self {
        Self {
            scope,
            status: status.to_owned(),
            detail: printable(detail),
        }
    }
}

/// Text from elsewhere, without control characters for the terminal.
pub fn printable(text: &str) -> String {
    let characters = text.trim().chars().filter(|c| !c.is_control());
    characters.take(MAX_DETAIL_CHARACTERS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_and_its_region_are_recognized_by_the_url() {
        let aws = "amazonaws.com/123456789012";
        #[rustfmt::skip]
        let cases = [
            (format!("https://sqs.eu-west-1.{aws}/e.fifo"), Ok(true), Some("eu-west-1")),
            (format!("https://sqs-fips.us-east-1.{aws}/e.fifo"), Ok(true), Some("us-east-1")),
            (format!("https://eu-west-1.queue.{aws}/e.fifo"), Ok(true), Some("eu-west-1")),
            (format!("https://vpce-1.sqs.eu-west-1.vpce.{aws}/e.fifo"), Ok(true), Some("eu-west-1")),
            ("http://localhost:5000/123456789012/e.fifo".to_owned(), Ok(true), None),
            (format!("https://sqs.eu-west-1.{aws}/e"), Err(()), Some("eu-west-1")),
            ("https://relay.example/prod/e.fifo".to_owned(), Ok(false), None),
            ("https://sqs.internal.example/".to_owned(), Ok(false), None),
        ];
        for (url, queue, expected) in cases {
            let parsed = Url::parse(&url).unwrap();
            assert_eq!(is_queue_url(&parsed).map_err(|_| ()), queue, "{url}");
            assert_eq!(region(&parsed).as_deref(), expected, "{url}");
        }
    }
}
