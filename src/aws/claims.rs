//! Claims: which events CleverTap has accepted, so that none is relayed twice.
//!
//! It does not know what an event is: a claim is a key. The item of a key goes from absent to in
//! progress to done; a claim in progress is never released, it expires.

use crate::clock::unix_time;
use crate::http::WarmUp;
use crate::telemetry;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::operation::update_item::{UpdateItemError, UpdateItemOutput};
use aws_sdk_dynamodb::types::{
    AttributeValue, ReturnValue, ReturnValuesOnConditionCheckFailure as ReturnOnFailure,
};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

/// The table's partition key, a string.
pub const KEY: &str = "event_id";
/// The table's TTL attribute: the Unix seconds from which DynamoDB may delete the item.
pub const EXPIRES_AT: &str = "expires_at";
const STATE: &str = "state";
/// The Unix milliseconds from which a claim in progress may be taken over.
const UNTIL_MS: &str = "until_ms";
/// Unique per claim, so that a repeated call recognizes what its first attempt wrote.
const OWNER: &str = "owner";
/// The Unix seconds of the first claim.
const FIRST_AT: &str = "first_at";
/// The names of the parts that CleverTap accepted, a string set.
const ACCEPTED: &str = "accepted";
const IN_PROGRESS: &str = "in_progress";
const DONE: &str = "done";

/// Longer than an invocation, shorter than Purchasely's first retry (20 s) and the queue's visibility
/// timeout.
const PROGRESS_TTL: Duration = Duration::from_secs(10);
/// Longer than Purchasely retries (20 days and 10 hours).
const ITEM_TTL: Duration = Duration::from_hours(30 * 24);
/// The digest stands in for a longer id: a DynamoDB key has at most 2,048 bytes.
const MAX_ID_BYTES: usize = 512;

/// The table of claims.
#[derive(Debug, Clone)]
pub struct Claims {
    client: Client,
    table: String,
    warm_up: WarmUp,
}

/// What an attempt to claim a key found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The key is ours.
    Taken {
        /// The parts of it that were accepted in an earlier invocation.
        accepted: Vec<String>,
        /// When it was first claimed, as time since 1970.
        first_at: Option<Duration>,
    },
    /// Another invocation is relaying the event.
    InProgress,
    /// CleverTap accepted the event before.
    Done,
    /// The table is unavailable. Relaying is better than blocking the user.
    Unavailable,
}

/// The key of an event: its id, or the digest of its body where it has none.
pub fn key(event_id: Option<&str>, body: &[u8]) -> String {
    match event_id {
        Some(id) if id.len() <= MAX_ID_BYTES => format!("id:{id}"),
        Some(id) => format!("id-sha256:{}", hex::encode(Sha256::digest(id))),
        None => format!("body-sha256:{}", hex::encode(Sha256::digest(body))),
    }
}

type Updated = Result<UpdateItemOutput, SdkError<UpdateItemError>>;

impl Claims {
    /// `table` has the string partition key [`KEY`] and the TTL attribute [`EXPIRES_AT`].
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table, warm_up: WarmUp::default() }
    }

    /// Starts to open a connection for the first claim, with an update whose condition no table meets.
    pub fn warm_up(&self) {
        let update = self
            .update("warm-up")
            .update_expression("SET #expires = :expires")
            .condition_expression("attribute_exists(#key)")
            .expression_attribute_names("#key", KEY);
        self.warm_up.start(update.send());
    }

    /// Claims a key with one conditional update, which returns the item, also where it fails. An item without a
    /// state is no claim: [`Self::add_accepted`] made it after a claim that could not be written.
    pub async fn claim(&self, key: &str) -> Claim {
        self.warm_up.wait().await;
        let (seconds, now) = (unix_time().as_secs(), unix_time().as_millis());
        let until = now + PROGRESS_TTL.as_millis();
        let update = self
            .update(key)
            .update_expression(
                "SET #state = :in_progress, #until = :until, #owner = :owner, #expires = :expires, #first = if_not_exists(#first, :first)",
            )
            .condition_expression(
                "attribute_not_exists(#state) OR (#state = :in_progress AND (#until < :now OR #owner = :owner))",
            )
            .expression_attribute_names("#state", STATE)
            .expression_attribute_names("#until", UNTIL_MS)
            .expression_attribute_names("#owner", OWNER)
            .expression_attribute_names("#first", FIRST_AT)
            .expression_attribute_values(":first", AttributeValue::N(seconds.to_string()))
            .expression_attribute_values(":in_progress", text(IN_PROGRESS))
            .expression_attribute_values(":until", AttributeValue::N(until.to_string()))
            .expression_attribute_values(":owner", AttributeValue::S(telemetry::unique_id()))
            .expression_attribute_values(":now", AttributeValue::N(now.to_string()))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnOnFailure::AllOld);
        match send(update).await {
            Ok(updated) => Claim::Taken {
                accepted: accepted(updated.attributes()),
                first_at: first_at(updated.attributes()),
            },
            Err(error) => existing(&error).unwrap_or_else(|| {
                let error = super::describe(&error);
                tracing::warn!("the claims table is unavailable: {error}");
                Claim::Unavailable
            }),
        }
    }

    /// Marks a key as done, and returns whether that worked. A failure changes nothing for the event,
    /// which CleverTap has.
    pub async fn complete(&self, key: &str) -> bool {
        let update = self
            .update(key)
            .update_expression("SET #state = :done, #expires = :expires")
            .expression_attribute_names("#state", STATE)
            .expression_attribute_values(":done", text(DONE));
        self.write(update).await
    }

    /// Remembers which parts of a key that is not done were accepted, and returns whether that worked.
    pub async fn add_accepted(&self, key: &str, parts: &[&str]) -> bool {
        let parts = parts.iter().map(|part| (*part).to_owned());
        let update = self
            .update(key)
            .update_expression("ADD #accepted :accepted SET #expires = :expires")
            .expression_attribute_names("#accepted", ACCEPTED)
            .expression_attribute_values(":accepted", AttributeValue::Ss(parts.collect()));
        self.write(update).await
    }

    async fn write(&self, update: UpdateItemFluentBuilder) -> bool {
        let written = send(update).await;
        if let Err(error) = &written {
            let error = super::describe(error);
            tracing::warn!(
                "the claim of an uploaded event could not be written ({error}): if the answer to Purchasely is lost too, the event is relayed twice"
            );
        }
        written.is_ok()
    }

    fn update(&self, key: &str) -> UpdateItemFluentBuilder {
        let expires_at = (unix_time() + ITEM_TTL).as_secs();
        self.client
            .update_item()
            .table_name(&self.table)
            .key(KEY, text(key))
            .expression_attribute_names("#expires", EXPIRES_AT)
            .expression_attribute_values(":expires", AttributeValue::N(expires_at.to_string()))
    }
}

/// Boxed, because the SDK's future has kilobytes, and each one around it would be moved with them.
fn send(update: UpdateItemFluentBuilder) -> Pin<Box<dyn Future<Output = Updated> + Send>> {
    Box::pin(update.send())
}

fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

fn accepted(item: Option<&HashMap<String, AttributeValue>>) -> Vec<String> {
    let parts = item.and_then(|item| item.get(ACCEPTED)?.as_ss().ok());
    parts.cloned().unwrap_or_default()
}

fn first_at(item: Option<&HashMap<String, AttributeValue>>) -> Option<Duration> {
    let seconds = item?.get(FIRST_AT)?.as_n().ok()?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// What the existing item says; `None` if the update failed for another reason.
fn existing<R>(error: &SdkError<UpdateItemError, R>) -> Option<Claim> {
    let UpdateItemError::ConditionalCheckFailedException(failed) = error.as_service_error()? else {
        return None;
    };
    Some(state(failed.item()))
}

fn state(item: Option<&HashMap<String, AttributeValue>>) -> Claim {
    let state = item.and_then(|item| item.get(STATE)?.as_s().ok());
    match state.map(String::as_str) {
        Some(DONE) => Claim::Done,
        // Without the item, a wait is safer than a second upload.
        _ => Claim::InProgress,
    }
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
    fn an_item_is_done_only_if_its_state_is() {
        let item = |state: &str| {
            let state = AttributeValue::S(state.to_owned());
            HashMap::from([(STATE.to_owned(), state)])
        };
        assert_eq!(state(Some(&item("done"))), Claim::Done);
        assert_eq!(state(Some(&item("in_progress"))), Claim::InProgress);
        assert_eq!(state(Some(&item("other"))), Claim::InProgress);
        assert_eq!(state(None), Claim::InProgress);
    }
}
