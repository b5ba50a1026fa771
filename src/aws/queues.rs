//! The dead-letter queue and the event queue, with the rules of SQS that a message must obey.
//!
//! It does not know why an event is a dead letter, nor what is in one.
//! Source: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>.

use super::{OPERATION, told};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::MessageAttributeValue;
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::time::Duration;

/// Attribute: how the body is written, where it is not the raw webhook itself.
pub const ENCODING: &str = "encoding";
/// The body in base64, because SQS takes XML characters only.
pub const BASE64: &str = "base64";
/// The body is empty, which SQS does not take.
pub const EMPTY: &str = "empty";
/// Attribute of a dead letter: why it is one.
pub const REASON: &str = "reason";
/// Attribute: which of the event's records are still to be sent, where it is not all of them.
pub const RECORDS: &str = "records";
/// Attribute of a message that was sent again by its owner.
pub const REPLAYED: &str = "replayed";

/// SQS takes at most this many attributes.
const MOST_ATTRIBUTES: usize = 10;
/// Attribute values are cut to this; a reason or a name needs far less, and the body counts towards
/// the same megabyte.
const LONGEST_ATTRIBUTE: usize = 512;
/// The longest time that a message is held back before it is tried again.
const LONGEST_WAIT: Duration = Duration::from_mins(20);
const FIRST_WAIT: Duration = Duration::from_mins(1);

/// Keeps what can never be relayed as it is.
#[derive(Debug, Clone)]
pub struct DeadLetterQueue {
    client: Client,
    url: String,
}

/// One message to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter<'l> {
    /// The raw webhook.
    pub body: &'l [u8],
    /// Name and value; those with an empty value are left out.
    pub attributes: Vec<(&'static str, Cow<'l, str>)>,
    /// What the events of one user have in common: the order among them is kept. Never shown to SQS as it is.
    pub group: &'l [u8],
}

/// The letter is not kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the dead-letter queue did not take the event ({0}): check DEAD_LETTER_QUEUE_URL and the permission sqs:SendMessage"
)]
pub struct NotKept(String);

impl DeadLetterQueue {
    /// `url` is that of a FIFO queue.
    #[must_use]
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// Stores a letter.
    pub async fn keep(&self, letter: &Letter<'_>) -> Result<(), NotKept> {
        let (body, encoding) = message_body(letter.body);
        let mut send = self
            .client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .message_group_id(group_id(letter.group))
            // SQS remembers an id for five minutes even after deletion; a letter that comes back and
            // is refused again must not vanish.
            .message_deduplication_id(format!("{:032x}", fastrand::u128(..)));
        let encoding = encoding.map(|encoding| (ENCODING, Cow::Borrowed(encoding)));
        let attributes = encoding
            .into_iter()
            .chain(letter.attributes.iter().cloned());
        for (name, value) in attributes.filter_map(fit_attribute).take(MOST_ATTRIBUTES) {
            send = send.message_attributes(name, text_attribute(value));
        }
        match tokio::time::timeout(OPERATION, send.send()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(NotKept(told(&error))),
            Err(_) => Err(NotKept("no answer in time".to_owned())),
        }
    }
}

/// The queue whose messages the function relays.
#[derive(Debug, Clone)]
pub struct EventQueue {
    client: Client,
    url: String,
}

impl EventQueue {
    /// `url` is that of a FIFO queue.
    #[must_use]
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// Holds a message back after its `received`th failure. Failing changes nothing: the queue's own
    /// visibility timeout then applies.
    pub async fn hold_back(&self, receipt_handle: &str, received: u32) {
        let wait = wait_after(received).as_secs();
        let change = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt_handle)
            .visibility_timeout(i32::try_from(wait).unwrap_or(i32::MAX))
            .send();
        let failed = match tokio::time::timeout(OPERATION, change).await {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => told(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!("a message could not be held back ({failed})");
    }
}

/// Doubles from a minute to twenty.
fn wait_after(received: u32) -> Duration {
    let doublings = received.saturating_sub(1).min(10);
    (FIRST_WAIT * 2_u32.pow(doublings)).min(LONGEST_WAIT)
}

/// A body that SQS takes, and how it is written if that is not the webhook itself.
#[must_use]
pub fn message_body(raw: &[u8]) -> (String, Option<&'static str>) {
    if raw.is_empty() {
        return ("-".to_owned(), Some(EMPTY));
    }
    match std::str::from_utf8(raw) {
        Ok(text) if text.chars().all(is_xml) => (text.to_owned(), None),
        _ => (STANDARD.encode(raw), Some(BASE64)),
    }
}

/// The raw webhook in a message; `None` if the message was not written by [`message_body`].
#[must_use]
pub fn webhook_of<'m>(body: &'m str, encoding: Option<&str>) -> Option<Cow<'m, [u8]>> {
    match encoding {
        None => Some(Cow::Borrowed(body.as_bytes())),
        Some(EMPTY) => Some(Cow::Borrowed(b"")),
        Some(BASE64) => STANDARD.decode(body).ok().map(Cow::Owned),
        Some(_) => None,
    }
}

/// A message group: 64 hex digits, since a user's id may hold what SQS does not take and is nobody's
/// business.
#[must_use]
pub fn group_id(of: &[u8]) -> String {
    hex::encode(Sha256::digest(of))
}

fn fit_attribute((name, value): (&'static str, Cow<'_, str>)) -> Option<(&'static str, String)> {
    let mut value: String = value.chars().filter(|&c| is_xml(c)).collect();
    value.truncate(value.floor_char_boundary(LONGEST_ATTRIBUTE));
    (!value.is_empty()).then_some((name, value))
}

fn text_attribute(value: String) -> MessageAttributeValue {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value)
        .build()
        .expect("it has a data type")
}

/// What SQS takes in a message: the characters of XML 1.0.
fn is_xml(c: char) -> bool {
    matches!(c,
        '\u{9}' | '\u{a}' | '\u{d}' | '\u{20}'..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_is_not_xml_text_is_base64_and_comes_back_whole() {
        for (raw, encoding) in [
            (&b"{\"a\":\"\xc3\xa9\"}\n"[..], None),
            (b"", Some(EMPTY)),
            (b"\xff\xfe", Some(BASE64)),
            (b"{\"a\":\"\x00\"}", Some(BASE64)),
            ("\u{fffe}".as_bytes(), Some(BASE64)),
        ] {
            let (body, told) = message_body(raw);
            assert_eq!(told, encoding, "{raw:?}");
            assert!(!body.is_empty() && body.chars().all(is_xml), "{raw:?}");
            assert_eq!(webhook_of(&body, told).unwrap(), raw);
        }
        assert_eq!(webhook_of("x", Some("rot13")), None);
        assert_eq!(webhook_of("***", Some(BASE64)), None);
    }

    #[test]
    fn an_attribute_is_never_empty_and_holds_xml_characters_only() {
        let fit = |value: &'static str| fit_attribute((REASON, Cow::Borrowed(value)));
        assert_eq!(fit(""), None);
        assert_eq!(fit("\u{0}\u{1}"), None);
        assert_eq!(fit("a\u{0}b"), Some((REASON, "ab".to_owned())));
        let long = fit_attribute((REASON, "é".repeat(400).into())).unwrap().1;
        assert_eq!(long.len(), LONGEST_ATTRIBUTE);
    }

    #[test]
    fn a_group_id_is_one_that_sqs_takes_and_shows_no_user() {
        let id = group_id("user@example.com / 1".as_bytes());
        assert_eq!(id.len(), 64);
        assert!(id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn waits_grow_to_twenty_minutes() {
        let seconds = [0, 1, 2, 3, 5, 6, 1000].map(|n| wait_after(n).as_secs());
        assert_eq!(seconds, [60, 60, 120, 240, 960, 1200, 1200]);
    }
}
