//! Sends one event once: as a signed webhook to the function's URL, or as a message to its event queue.
//! It does not know what was sent before, nor whether the attempt is repeated.

use super::saved::Saved;
use crate::Unusable;
use crate::send::{secret_for, with_causes};
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region};
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::types::MessageAttributeValue;
use purchasely_clevertap::aws::queues::{self, ENCODING, RECORDS, REPLAYED};
use purchasely_clevertap::handler::REPLAYED_HEADER;
use purchasely_clevertap::http::SharedHttp;
use reqwest::Url;
use serde_json::Value;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use testkit::harness::now_seconds;
use testkit::webhook::{Webhook, http_client};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// API Gateway answers within 9.5 s.
const TIMEOUT: Duration = Duration::from_secs(15);
/// The part of a receiver's answer that is printed.
const MAX_DETAIL_CHARACTERS: usize = 200;
/// SQS takes no more attributes.
const MAX_ATTRIBUTES: usize = 10;
/// `status` in the function's answer 200.
#[rustfmt::skip]
const SETTLED: [&str; 6] = ["relayed", "queued", "duplicate", "ignored", "dead_lettered", DRY_RUN];
/// The function has only looked at the event (`CLEVERTAP_DRY_RUN`).
const DRY_RUN: &str = "dry_run";
/// SQS's error codes that the next attempt may not get.
#[rustfmt::skip]
const TRANSIENT: [&str; 4] = ["InternalFailure", "InternalError", "ServiceUnavailable", "OverLimit"];

pub struct Destination {
    transport: Transport,
    url: Url,
    /// Whether events update profiles, too; otherwise they are marked as replayed.
    profiles: bool,
    /// Different in each run: SQS drops a copy for five minutes, also if the first became a dead letter.
    run: u128,
}

enum Transport {
    Http {
        http: reqwest::Client,
        secret: String,
    },
    Queue(aws_sdk_sqs::Client),
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
    pub async fn new(url: Url, queue: bool, profiles: bool) -> Result<Self, Unusable> {
        let http = http_client().map_err(|error| error.to_string())?;
        let http = http.connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
        let http = http.build().map_err(|error| error.to_string())?;
        let transport = if queue || is_queue(&url)? {
            Transport::Queue(sqs(http, &url).await)
        } else {
            let secret = secret_for(Some(&url))?;
            Transport::Http { http, secret }
        };
        Ok(Self { transport, url, profiles, run: fastrand::u128(..) })
    }

    pub async fn send(&self, event: &Saved) -> Attempt {
        match &self.transport {
            Transport::Http { http, secret } => self.post(http, secret, event).await,
            Transport::Queue(client) => self.enqueue(client, event).await,
        }
    }

    async fn post(&self, http: &reqwest::Client, secret: &str, event: &Saved) -> Attempt {
        let webhook = Webhook::new(event.body.clone(), secret, now_seconds());
        let mut request = http.post(self.url.clone()).body(event.body.clone());
        for (name, value) in webhook.headers() {
            request = request.header(name, value);
        }
        if let Some(mark) = event.records().or((!self.profiles).then_some("true")) {
            request = request.header(REPLAYED_HEADER, mark);
        }
        let answer: reqwest::Result<_> = async {
            let response = request.send().await?;
            Ok((response.status().as_u16(), response.text().await?))
        }
        .await;
        match answer {
            Ok((status, body)) => judge(status, &body),
            Err(error) => {
                let scope = if error.is_builder() {
                    Scope::Event
                } else {
                    Scope::Attempt
                };
                Err(Failure::new(scope, "no answer", &with_causes(&error.without_url())))
            }
        }
    }

    async fn enqueue(&self, client: &aws_sdk_sqs::Client, event: &Saved) -> Attempt {
        let (body, encoding) = queues::message_body(&event.body);
        // The function uses the same group, so that a user's order is kept.
        let group = event.user.as_ref().map_or(&event.body[..], String::as_bytes);
        let copy = format!("{} {}", self.run, event.key());
        let mut send = client
            .send_message()
            .queue_url(self.url.as_str())
            .message_body(body)
            .message_group_id(queues::group_id(group))
            .message_deduplication_id(queues::group_id(copy.as_bytes()));
        let replayed = (!self.profiles).then_some("true");
        let own = [(ENCODING, encoding), (REPLAYED, replayed), (RECORDS, event.records())];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        // The others of a dead letter say that it is one, and then no profile is written.
        let others = event.attributes.iter().filter(|_| !self.profiles);
        let others = others.map(|(name, value)| (&**name, &**value));
        let others = others.filter(|(name, _)| *name != RECORDS);
        for (name, value) in own.chain(others).take(MAX_ATTRIBUTES) {
            let attribute = MessageAttributeValue::builder().data_type("String");
            let attribute = attribute.string_value(value).build();
            send = send.message_attributes(name, attribute.expect("it has a data type"));
        }
        match send.send().await {
            Ok(answer) if answer.message_id().is_some() => Ok(Settled("queued".to_owned())),
            Ok(_) => Err(Failure::new(Scope::AllEvents, "200", "not an answer of SQS")),
            Err(error) => Err(judge_sqs(&error)),
        }
    }
}

impl Settled {
    /// Without the reason.
    pub fn word(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }

    /// Whether the event is not in CleverTap yet, although the answer is 200.
    pub fn is_dry_run(&self) -> bool {
        self.word() == DRY_RUN
    }
}

/// A queue is recognized by its path, `/<12 digits>/<name>.fifo`.
fn is_queue(url: &Url) -> Result<bool, String> {
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

/// What an HTTP answer means. An answer 200 that is not the function's comes from a wrong URL.
fn judge(status: u16, body: &str) -> Attempt {
    let answer: Value = serde_json::from_str(body).unwrap_or_default();
    let word = answer["status"].as_str().unwrap_or_default();
    let scope = match status {
        200 if SETTLED.contains(&word) => {
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
fn printable(text: &str) -> String {
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
            assert_eq!(is_queue(&parsed).map_err(|_| ()), queue, "{url}");
            assert_eq!(region(&parsed).as_deref(), expected, "{url}");
        }
    }
}
