//! Remembers which events CleverTap has accepted, so that none is relayed twice.
//!
//! It does not know what an event is: a claim is a key. One item per key goes from absent to in
//! progress to done; a claim in progress is never released, it expires.

use super::{OPERATION, unix_time};
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValuesOnConditionCheckFailure};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::time::Duration;

/// The table's partition key, a string.
pub const KEY: &str = "event_id";
const STATE: &str = "state";
/// Unix milliseconds at which a claim in progress may be taken over.
const UNTIL_MS: &str = "until_ms";
/// Unix seconds at which DynamoDB may delete the item (its TTL attribute).
pub const EXPIRES_AT: &str = "expires_at";
const IN_PROGRESS: &str = "in_progress";
const DONE: &str = "done";

/// Less than Purchasely's first retry (20 s) and than the queue's visibility timeout, and more than an
/// invocation may take.
const PROGRESS: Duration = Duration::from_secs(10);
/// Purchasely retries for 20 days and 10 hours; a claim must outlive that.
const KEPT: Duration = Duration::from_hours(30 * 24);
/// Longer ids are told by their digest: DynamoDB takes a key of at most 2,048 bytes.
const LONGEST_ID: usize = 512;

/// The table of claims.
#[derive(Debug, Clone)]
pub struct Claims {
    client: Client,
    table: String,
}

/// What a claim found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nobody else's: go on.
    Taken,
    /// Somebody is relaying the event at this moment.
    InProgress,
    /// CleverTap has it.
    Done,
    /// The table could not be asked. Relaying is better than holding the user.
    Unknown,
}

/// The key of an event: its id, or the digest of its body where it has none.
#[must_use]
pub fn key(event_id: Option<&str>, body: &[u8]) -> String {
    match event_id {
        Some(id) if id.len() <= LONGEST_ID => format!("id:{id}"),
        Some(id) => format!("id-sha256:{}", hex::encode(Sha256::digest(id))),
        None => format!("body-sha256:{}", hex::encode(Sha256::digest(body))),
    }
}

impl Claims {
    /// `table` has the string partition key [`KEY`] and the TTL attribute [`EXPIRES_AT`].
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Claims a key with one conditional put, which gives the other's item back where it fails.
    pub async fn claim(&self, key: &str) -> Claim {
        let now = unix_time();
        let until = (now + PROGRESS).as_millis();
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(KEY, AttributeValue::S(key.to_owned()))
            .item(STATE, AttributeValue::S(IN_PROGRESS.to_owned()))
            .item(UNTIL_MS, AttributeValue::N(until.to_string()))
            .item(EXPIRES_AT, seconds(now + KEPT))
            .condition_expression(
                "attribute_not_exists(#key) OR (#state = :in_progress AND #until < :now)",
            )
            .expression_attribute_names("#key", KEY)
            .expression_attribute_names("#state", STATE)
            .expression_attribute_names("#until", UNTIL_MS)
            .expression_attribute_values(":in_progress", AttributeValue::S(IN_PROGRESS.to_owned()))
            .expression_attribute_values(":now", AttributeValue::N(now.as_millis().to_string()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .send();
        match tokio::time::timeout(OPERATION, put).await {
            Ok(Ok(_)) => Claim::Taken,
            Ok(Err(error)) => held(&error).unwrap_or_else(|| {
                tracing::warn!(
                    "the claims table could not be asked: {}",
                    super::told(&error)
                );
                Claim::Unknown
            }),
            Err(_) => {
                tracing::warn!("the claims table could not be asked: no answer in time");
                Claim::Unknown
            }
        }
    }

    /// Marks a key as done, and tells whether that worked. Failing changes nothing for the event,
    /// which CleverTap has.
    pub async fn complete(&self, key: &str) -> bool {
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item(KEY, AttributeValue::S(key.to_owned()))
            .item(STATE, AttributeValue::S(DONE.to_owned()))
            .item(EXPIRES_AT, seconds(unix_time() + KEPT))
            .send();
        let failed = match tokio::time::timeout(OPERATION, put).await {
            Ok(Ok(_)) => return true,
            Ok(Err(error)) => super::told(&error),
            Err(_) => "no answer in time".to_owned(),
        };
        tracing::warn!(
            "the claim of a relayed event could not be completed ({failed}): if its answer is lost too, it is relayed twice"
        );
        false
    }
}

/// What the item that stands in the way says; `None` if that is not why the put failed.
fn held<R>(error: &SdkError<PutItemError, R>) -> Option<Claim> {
    let PutItemError::ConditionalCheckFailedException(failed) = error.as_service_error()? else {
        return None;
    };
    Some(state(failed.item()))
}

fn state(item: Option<&HashMap<String, AttributeValue>>) -> Claim {
    let state = item.and_then(|item| item.get(STATE)?.as_s().ok());
    match state.map(String::as_str) {
        Some(DONE) => Claim::Done,
        // Without the item it is safer to wait than to double.
        _ => Claim::InProgress,
    }
}

fn seconds(time: Duration) -> AttributeValue {
    AttributeValue::N(time.as_secs().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_id_or_a_digest() {
        assert_eq!(key(Some("e-1"), b"x"), "id:e-1");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(key(None, b""), format!("body-sha256:{empty}"));
        let long = "x".repeat(3000);
        assert!(key(Some(&long), b"").len() < 100);
        assert_ne!(key(Some(&long), b""), key(Some(&"y".repeat(3000)), b""));
    }

    #[test]
    fn an_id_cannot_pass_for_a_digest() {
        assert_ne!(key(Some("body-sha256:x"), b""), "body-sha256:x");
    }

    #[test]
    fn another_item_is_done_only_if_it_says_so() {
        let item = |state: &str| {
            let state = AttributeValue::S(state.to_owned());
            HashMap::from([(STATE.to_owned(), state)])
        };
        assert_eq!(state(Some(&item("done"))), Claim::Done);
        assert_eq!(state(Some(&item("in_progress"))), Claim::InProgress);
        assert_eq!(state(Some(&item("other"))), Claim::InProgress);
        assert_eq!(state(None), Claim::InProgress);
    }

    #[test]
    fn a_claim_outlives_every_retry_and_progress_outlives_no_retry() {
        assert!(KEPT >= Duration::from_hours(21 * 24));
        assert!(PROGRESS < Duration::from_secs(20));
        assert!(PROGRESS > Duration::from_secs(9));
    }
}
