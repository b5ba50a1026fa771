//! The dead-letter queue and the event queue, with the rules of SQS that a message must obey.
//!
//! It does not know why an event is in either of them, nor what is in a webhook.
//! Source: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html>.

use super::describe;
use crate::telemetry;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{ChangeMessageVisibilityBatchRequestEntry, MessageAttributeValue};
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
/// Attribute: when the function got the webhook.
pub const RECEIVED_AT: &str = "received_at";

/// SQS accepts no more.
const MAX_ATTRIBUTES: usize = 10;
/// A reason or a name needs far less, and attributes count towards the message's megabyte.
const MAX_ATTRIBUTE_BYTES: usize = 512;

/// SQS accepts no more in a message, its attributes included. A queue may be set to less.
const MAX_MESSAGE_BYTES: usize = 1_048_576;
/// What the attributes of a letter need whose webhook was not parsed.
const LETTER_ATTRIBUTES_BYTES: usize = 256;

/// A FIFO queue.
#[derive(Debug, Clone)]
pub struct Queue {
    pub client: Client,
    pub url: String,
    /// The setting that has the URL.
    pub setting: &'static str,
}

/// A message to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage<'m> {
    /// The raw webhook.
    pub body: &'m [u8],
    /// Names and values; those without a value are left out.
    pub attributes: Vec<(&'static str, Option<Cow<'m, str>>)>,
    /// Shared by the events of one user, so that their order is kept. SQS sees only its digest.
    pub group: &'m [u8],
    /// For five minutes SQS drops further messages with this key, even once the first is deleted. `None`: a
    /// message that must not vanish. SQS sees only its digest.
    pub once: Option<&'m str>,
}

impl Queue {
    /// Sends a message, and returns whether SQS has it.
    pub async fn send(&self, message: &NewMessage<'_>) -> bool {
        let (body, encoding) = message_body(message.body);
        let once = message.once.map_or_else(|| telemetry::unique_id().into(), Cow::Borrowed);
        let mut send = self
            .client
            .send_message()
            .queue_url(&self.url)
            .message_body(body)
            .message_group_id(group_id(message.group))
            .message_deduplication_id(group_id(once.as_bytes()));
        let encoding = encoding.map(|encoding| (ENCODING, encoding.to_owned()));
        let attributes = message
            .attributes
            .iter()
            .filter_map(|(name, value)| Some((*name, sanitize(value.as_deref()?)?)));
        for (name, value) in encoding.into_iter().chain(attributes).take(MAX_ATTRIBUTES) {
            send = send.message_attributes(name, text_attribute(value));
        }
        // Boxed, because the SDK's future has kilobytes, and each one around it would be moved with them.
        let result = Box::pin(send.send()).await;
        if let Err(error) = &result {
            tracing::error!(
                "SQS did not store the event ({}): check {}, the permission sqs:SendMessage and the queue's MaximumMessageSize, which should be 1048576",
                describe(error),
                self.setting
            );
        }
        result.is_ok()
    }

    /// Sets after which time up to ten messages, known by their receipt handles, are delivered again. Where
    /// this fails, the queue's own visibility timeout applies.
    pub async fn delay(&self, delays: impl Iterator<Item = (&str, Duration)>) {
        let entries = delays.enumerate().map(|(number, (receipt_handle, delay))| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(number.to_string())
                .receipt_handle(receipt_handle)
                .visibility_timeout(i32::try_from(delay.as_secs()).unwrap_or(i32::MAX))
                .build()
                .expect("it has an id and a handle")
        });
        let change = self.client.change_message_visibility_batch().queue_url(&self.url);
        let error = match change.set_entries(Some(entries.collect())).send().await {
            Ok(changed) => changed.failed().first().map(|failed| failed.code().to_owned()),
            Err(error) => Some(describe(&error)),
        };
        if let Some(error) = error {
            tracing::warn!("the visibility of a failed message could not be changed ({error})");
        }
    }
}

/// How long a message waits that failed for the `receive_count`th time: `min` at least, with a tenth more or
/// less, so that messages which failed together do not return together.
pub fn delay_after(receive_count: u32, min: Duration) -> Duration {
    backoff(receive_count).max(min).mul_f64(0.9 + 0.2 * fastrand::f64())
}

/// Doubles from 15 seconds to 5 minutes, which a short outage is worth. A long one lasts for days: with 20
/// minutes a thousand attempts take 13 of them, and at a hundred failures a second the messages that wait
/// are about the 120,000 that SQS allows.
fn backoff(receive_count: u32) -> Duration {
    if receive_count >= 60 {
        return Duration::from_mins(20);
    }
    let doublings = receive_count.saturating_sub(1).min(5);
    (Duration::from_secs(15) * 2_u32.pow(doublings)).min(Duration::from_mins(5))
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

/// Whether a dead letter can have this body, which was not parsed.
pub fn fits_a_letter(raw: &[u8]) -> bool {
    // Not even as text.
    let is_hopeless = raw.len() > MAX_MESSAGE_BYTES;
    !is_hopeless && message_body(raw).0.len() + LETTER_ATTRIBUTES_BYTES <= MAX_MESSAGE_BYTES
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

/// The id of a message group or of a message: 64 hex digits, because a user's id is private and may have
/// characters that SQS does not accept.
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
    fn a_letter_holds_a_mebibyte_with_what_encoding_adds() {
        let most = MAX_MESSAGE_BYTES - LETTER_ATTRIBUTES_BYTES;
        for (byte, length, expected) in [
            (b'x', most, true),
            (b'x', most + 1, false),
            (0, most / 4 * 3, true),
            (0, most / 4 * 3 + 1, false),
            (b'x', 6_000_000, false),
        ] {
            assert_eq!(fits_a_letter(&vec![byte; length]), expected, "{byte} {length}");
        }
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
    fn delays_grow_to_five_minutes_and_from_the_sixtieth_time_are_twenty() {
        let seconds = [0, 1, 2, 3, 5, 6, 59, 60, 1000].map(|n| backoff(n).as_secs());
        assert_eq!(seconds, [15, 15, 30, 60, 240, 300, 300, 1200, 1200]);
        let in_all: Duration = (1..=1000).map(backoff).sum();
        assert_eq!(in_all.as_secs() / (24 * 60 * 60), 13);
    }

    #[test]
    fn a_delay_varies_by_a_tenth() {
        for _ in 0..100 {
            let delay = delay_after(1, Duration::from_secs(70));
            assert!((63..=77).contains(&delay.as_secs()), "{delay:?}");
        }
    }
}
