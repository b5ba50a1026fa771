//! The dead-letter queue and the event queue, with the rules of SQS that a message must obey.
//!
//! It does not know why an event is a dead letter, nor what is in one.
//! Source: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>.

use super::describe;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::MessageAttributeValue;
use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::time::Duration;

/// Attribute: how the body is encoded, where it is not the raw webhook itself.
pub const ENCODING: &str = "encoding";
/// The body is base64, because SQS accepts only XML characters.
pub const BASE64: &str = "base64";
/// The webhook's body is empty, which SQS does not accept.
pub const EMPTY: &str = "empty";
/// Attribute of a dead letter: why it is one.
pub const REASON: &str = "reason";
/// Attribute: the records that are still to be sent, where it is not all of the event's.
pub const RECORDS: &str = "records";
/// Attribute of a message that an operator sent again.
pub const REPLAYED: &str = "replayed";

/// SQS accepts no more.
const MAX_ATTRIBUTES: usize = 10;
/// A reason or a name needs far less, and attributes count towards the message's megabyte.
const MAX_ATTRIBUTE_BYTES: usize = 512;
const FIRST_DELAY: Duration = Duration::from_mins(1);
const MAX_DELAY: Duration = Duration::from_mins(20);

/// The queue of events that can never be relayed as they are.
#[derive(Debug, Clone)]
pub struct DeadLetterQueue {
    client: Client,
    url: String,
}

/// A message for the dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<'l> {
    /// The raw webhook.
    pub body: &'l [u8],
    /// Names and values; those without a value are left out.
    pub attributes: Vec<(&'static str, Option<Cow<'l, str>>)>,
    /// Shared by the events of one user, so that their order is kept. SQS sees only its digest.
    pub group: &'l [u8],
}

/// The dead-letter queue does not have the event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the dead-letter queue did not store the event ({0}): check DEAD_LETTER_QUEUE_URL and the permission sqs:SendMessage"
)]
pub struct DeadLetterFailed(String);

impl DeadLetterQueue {
    /// `url` is that of a FIFO queue.
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    pub async fn send(&self, letter: &DeadLetter<'_>) -> Result<(), DeadLetterFailed> {
        let (body, encoding) = message_body(letter.body);
        let mut send = self
            .client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .message_group_id(group_id(letter.group))
            // SQS remembers an id for five minutes even after deletion; a letter that is redriven and
            // refused again must not vanish.
            .message_deduplication_id(format!("{:032x}", fastrand::u128(..)));
        let encoding = encoding.map(|encoding| (ENCODING, encoding.to_owned()));
        let attributes = letter
            .attributes
            .iter()
            .filter_map(|(name, value)| Some((*name, sanitize(value.as_deref()?)?)));
        for (name, value) in encoding.into_iter().chain(attributes).take(MAX_ATTRIBUTES) {
            send = send.message_attributes(name, text_attribute(value));
        }
        send.send().await.map(|_| ()).map_err(|error| DeadLetterFailed(describe(&error)))
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
    pub fn new(client: Client, url: String) -> Self {
        Self { client, url }
    }

    /// Delays the next delivery of a message that failed for the `receive_count`th time. If this fails,
    /// the queue's own visibility timeout applies.
    pub async fn delay(&self, receipt_handle: &str, receive_count: u32) {
        let delay = delay_after(receive_count).as_secs();
        let change = self
            .client
            .change_message_visibility()
            .queue_url(&self.url)
            .receipt_handle(receipt_handle)
            .visibility_timeout(i32::try_from(delay).unwrap_or(i32::MAX));
        if let Err(error) = change.send().await {
            let error = describe(&error);
            tracing::warn!("the visibility of a failed message could not be changed ({error})");
        }
    }
}

/// Doubles from one minute to twenty.
fn delay_after(receive_count: u32) -> Duration {
    let doublings = receive_count.saturating_sub(1).min(10);
    (FIRST_DELAY * 2_u32.pow(doublings)).min(MAX_DELAY)
}

/// A body that SQS accepts, and its encoding if it is not the webhook itself.
pub fn message_body(raw: &[u8]) -> (String, Option<&'static str>) {
    if raw.is_empty() {
        return ("-".to_owned(), Some(EMPTY));
    }
    match std::str::from_utf8(raw) {
        Ok(text) if text.chars().all(is_xml) => (text.to_owned(), None),
        _ => (STANDARD.encode(raw), Some(BASE64)),
    }
}

/// The raw webhook in a message; `None` if [`message_body`] did not write the message.
pub fn webhook_of<'m>(body: &'m str, encoding: Option<&str>) -> Option<Cow<'m, [u8]>> {
    match encoding {
        None => Some(Cow::Borrowed(body.as_bytes())),
        Some(EMPTY) => Some(Cow::Borrowed(b"")),
        Some(BASE64) => STANDARD.decode(body).ok().map(Cow::Owned),
        Some(_) => None,
    }
}

/// A message group id: 64 hex digits, because a user's id is private and may have characters that SQS
/// does not accept.
pub fn group_id(of: &[u8]) -> String {
    hex::encode(Sha256::digest(of))
}

/// An attribute's value without what SQS does not accept; `None` if nothing is left.
fn sanitize(value: &str) -> Option<String> {
    let mut value: String = value.chars().filter(|&c| is_xml(c)).collect();
    value.truncate(value.floor_char_boundary(MAX_ATTRIBUTE_BYTES));
    (!value.is_empty()).then_some(value)
}

fn text_attribute(value: String) -> MessageAttributeValue {
    MessageAttributeValue::builder()
        .data_type("String")
        .string_value(value)
        .build()
        .expect("it has a data type")
}

/// Whether SQS accepts the character: those of XML 1.0.
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
            let (body, actual) = message_body(raw);
            assert_eq!(actual, encoding, "{raw:?}");
            assert!(!body.is_empty() && body.chars().all(is_xml), "{raw:?}");
            assert_eq!(webhook_of(&body, actual).unwrap(), raw);
        }
        assert_eq!(webhook_of("x", Some("rot13")), None);
        assert_eq!(webhook_of("***", Some(BASE64)), None);
    }

    #[test]
    fn an_attribute_is_never_empty_and_has_xml_characters_only() {
        assert_eq!(sanitize(""), None);
        assert_eq!(sanitize("\u{0}\u{1}"), None);
        assert_eq!(sanitize("a\u{0}b"), Some("ab".to_owned()));
        let long = sanitize(&"é".repeat(400)).unwrap();
        assert_eq!(long.len(), MAX_ATTRIBUTE_BYTES);
    }

    #[test]
    fn a_group_id_is_valid_and_hides_the_user() {
        let id = group_id("user@example.com / 1".as_bytes());
        assert_eq!(id.len(), 64);
        assert!(id.len() <= 128 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn delays_grow_to_twenty_minutes() {
        let seconds = [0, 1, 2, 3, 5, 6, 1000].map(|n| delay_after(n).as_secs());
        assert_eq!(seconds, [60, 60, 120, 240, 960, 1200, 1200]);
    }
}
