//! Where events go: the function's HTTP door, or its event queue. One attempt at a time.
//! It does not know what was sent before, nor whether an attempt is repeated.

use super::saved::Saved;
use super::summary::Outcome;
use crate::webhook::Webhook;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_sqs::config::retry::RetryConfig;
use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sqs::operation::send_message::SendMessageError;
use aws_sdk_sqs::types::MessageAttributeValue;
use purchasely_clevertap::aws::queues::{self, ENCODING, REPLAYED};
use purchasely_clevertap::handler::REPLAYED_HEADER;
use reqwest::Url;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use std::error::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// API Gateway answers within 9.5 s, so that an answer that comes is seen.
const PATIENCE: Duration = Duration::from_secs(15);
/// Of a receiver's answer, as much is shown.
const LONGEST_DETAIL: usize = 200;
/// The value of the mark that says that an event was sent before.
const MARK: &str = "true";

/// Which kind of receiver an address names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Takes signed webhooks.
    Door,
    /// Takes messages.
    Queue,
}

/// Whether CleverTap's profiles are touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profiles {
    /// The events are marked as replayed: what they say of the user may be older than what CleverTap knows.
    Untouched,
    /// As if each event came for the first time.
    Updated,
}

/// Why an address is none to send to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAddress {
    /// Not a URL of HTTP.
    #[error("--to takes an http or https URL")]
    NotHttp,
    /// A queue that keeps no order.
    #[error("--to names a queue that is not FIFO: that of the function ends in .fifo")]
    NotFifo,
}

/// Where events go.
#[derive(Debug)]
pub enum Destination {
    /// Signed anew, by HTTP.
    Door(Door),
    /// Straight to the event queue; only its owner may write there, so nothing is signed.
    Queue(Queue),
}

/// The function's URL.
#[derive(Debug)]
pub struct Door {
    /// Sends; follows no redirect.
    pub http: reqwest::Client,
    /// Where to.
    pub url: Url,
    /// Purchasely's client shared secret.
    pub secret: SecretString,
    /// Whether events are marked.
    pub profiles: Profiles,
}

/// The event queue.
#[derive(Debug)]
pub struct Queue {
    client: aws_sdk_sqs::Client,
    url: Url,
    profiles: Profiles,
}

/// What came of one attempt.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing more is to be done for the event.
    Acknowledged {
        /// In the receiver's words.
        outcome: Outcome,
        /// Whether the event went anywhere: a function in a dry run only looks at it.
        kept: bool,
    },
    /// Another attempt may succeed.
    Busy(Trouble),
    /// This event never will; others may.
    Refused(Trouble),
    /// Nothing that is sent will.
    Closed(Trouble),
}

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// The status or code, to be counted by.
    pub status: String,
    /// What the receiver or the network said of it.
    pub detail: String,
}

/// Reads an address.
pub fn address(text: &str) -> Result<Url, BadAddress> {
    let url = Url::parse(text).map_err(|_| BadAddress::NotHttp)?;
    if matches!(url.scheme(), "http" | "https") {
        Ok(url)
    } else {
        Err(BadAddress::NotHttp)
    }
}

/// A queue shows by its path, `/<12 digits>/<name>.fifo`.
pub fn kind(url: &Url) -> Result<Kind, BadAddress> {
    let path: Vec<_> = url.path_segments().into_iter().flatten().collect();
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit());
    match path[..] {
        [account, name] if is_account(account) && !name.is_empty() => {
            let named = name.strip_suffix(".fifo");
            named.map(|_| Kind::Queue).ok_or(BadAddress::NotFifo)
        }
        _ => Ok(Kind::Door),
    }
}

/// The name under which a receiver is kept in the state file: its address without a password.
pub fn receiver(url: &Url) -> String {
    let mut url = url.clone();
    // Both fail only for an address without a host, which HTTP does not have.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// The region that a queue's host names: `sqs.<region>.…` or, of old, `<region>.queue.…`.
pub fn region(queue: &Url) -> Option<&str> {
    let labels: Vec<_> = queue.host_str()?.split('.').collect();
    let position = |wanted: &[&str]| labels.iter().position(|label| wanted.contains(label));
    if !labels.contains(&"amazonaws") {
        return None;
    }
    let label = match position(&["sqs", "sqs-fips"]) {
        Some(service) => service + 1,
        None => position(&["queue"])?.checked_sub(1)?,
    };
    labels.get(label).copied()
}

impl Destination {
    /// Sends an event once.
    pub async fn send(&self, event: &Saved) -> Answer {
        match self {
            Self::Door(door) => door.send(event).await,
            Self::Queue(queue) => queue.send(event).await,
        }
    }
}

impl Door {
    async fn send(&self, event: &Saved) -> Answer {
        let secret = self.secret.expose_secret();
        let webhook = Webhook::new(event.body.clone(), secret, now_seconds());
        let mut request = self
            .http
            .post(self.url.clone())
            .timeout(PATIENCE)
            .body(event.body.clone());
        for (name, value) in webhook.headers() {
            request = request.header(name, value);
        }
        if self.profiles == Profiles::Untouched {
            request = request.header(REPLAYED_HEADER, MARK);
        }
        let answered = async {
            let response = request.send().await?;
            Ok((response.status().as_u16(), response.text().await?))
        };
        match answered.await {
            Ok((status, body)) => judge(status, &body),
            Err(error) => no_answer(error),
        }
    }
}

fn no_answer(error: reqwest::Error) -> Answer {
    Answer::Busy(Trouble {
        status: "no answer".to_owned(),
        detail: chain(&error.without_url()),
    })
}

/// What an answer of the HTTP door means.
pub fn judge(status: u16, body: &str) -> Answer {
    #[derive(Default, Deserialize)]
    struct Told {
        status: Option<String>,
        reason: Option<String>,
    }
    if status == 200 {
        let told: Told = serde_json::from_str(body).unwrap_or_default();
        let word = told.status.filter(|word| is_word(word));
        let word = word.unwrap_or_else(|| "acknowledged".to_owned());
        let reason = told.reason.filter(|reason| is_word(reason));
        return Answer::Acknowledged {
            kept: word != "dry_run",
            outcome: Outcome::Acknowledged { word, reason },
        };
    }
    let trouble = Trouble {
        status: status.to_string(),
        detail: shown(body),
    };
    match status {
        // Whatever is sent there, it is signed with the wrong secret, or to the wrong place.
        401 | 404 | 405 => Answer::Closed(trouble),
        408 | 425 | 429 => Answer::Busy(trouble),
        400..500 => Answer::Refused(trouble),
        _ => Answer::Busy(trouble),
    }
}

impl Queue {
    /// `config` has the credentials and the region. The queue's own host is asked, so that an emulator
    /// needs no further setting.
    pub fn new(config: &aws_config::SdkConfig, url: Url, profiles: Profiles) -> Self {
        let timeouts = TimeoutConfig::builder()
            .operation_attempt_timeout(PATIENCE)
            .build();
        let config = aws_sdk_sqs::config::Builder::from(config)
            .endpoint_url(url.origin().ascii_serialization())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .build();
        Self {
            client: aws_sdk_sqs::Client::from_conf(config),
            url,
            profiles,
        }
    }

    async fn send(&self, event: &Saved) -> Answer {
        let (body, encoding) = queues::message_body(&event.body);
        let group = event
            .user
            .as_ref()
            .map_or(&event.body[..], String::as_bytes);
        let mut send = self
            .client
            .send_message()
            .queue_url(self.url.as_str())
            .message_body(body)
            .message_group_id(queues::group_id(group))
            .message_deduplication_id(deduplication_id(event));
        if let Some(encoding) = encoding {
            send = send.message_attributes(ENCODING, text_attribute(encoding));
        }
        if self.profiles == Profiles::Untouched {
            send = send.message_attributes(REPLAYED, text_attribute(MARK));
        }
        match send.send().await {
            Ok(_) => Answer::Acknowledged {
                outcome: Outcome::Acknowledged {
                    word: "queued".to_owned(),
                    reason: None,
                },
                kept: true,
            },
            Err(error) => judge_error(&error),
        }
    }
}

/// As the HTTP door writes it, so that an event that is sent twice within five minutes is queued once.
fn deduplication_id(event: &Saved) -> String {
    let of = event.id.as_ref().map_or(&event.body[..], String::as_bytes);
    hex::encode(Sha256::digest(of))
}

fn text_attribute(value: &str) -> MessageAttributeValue {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value)
        .build()
        .expect("it has a data type")
}

fn judge_error<R: std::fmt::Debug + 'static>(error: &SdkError<SendMessageError, R>) -> Answer {
    let SdkError::ServiceError(answer) = error else {
        let never_left = match error {
            SdkError::ConstructionFailure(_) => true,
            // Without credentials there is nothing to send with.
            SdkError::DispatchFailure(failure) => failure.is_user() || failure.is_other(),
            _ => false,
        };
        let detail = chain(error);
        return if never_left {
            let status = "no request".to_owned();
            Answer::Closed(Trouble { status, detail })
        } else {
            let status = "no answer".to_owned();
            Answer::Busy(Trouble { status, detail })
        };
    };
    let code = answer.err().code().unwrap_or("no error code").to_owned();
    let trouble = Trouble {
        detail: shown(answer.err().message().unwrap_or_default()),
        status: code
            .rsplit(['.', '#'])
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    match trouble.status.as_str() {
        code if code.contains("Throttl") || code == "OverLimit" => Answer::Busy(trouble),
        "InternalFailure" | "InternalError" | "ServiceUnavailable" | "no error code" => {
            Answer::Busy(trouble)
        }
        "InvalidMessageContents" | "InvalidParameterValue" => Answer::Refused(trouble),
        // Permissions, credentials, keys, no such queue: the same for every event.
        _ => Answer::Closed(trouble),
    }
}

/// An error with all its causes: where a request got stuck is mostly in the last of them.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    let mut told: Vec<_> = causes.map(ToString::to_string).collect();
    told.dedup();
    shown(&told.join(": "))
}

/// Text from elsewhere, made fit for a terminal.
fn shown(text: &str) -> String {
    let plain = text.trim().chars().filter(|c| !c.is_control());
    plain.take(LONGEST_DETAIL).collect()
}

fn is_word(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(fits)
}

fn now_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
