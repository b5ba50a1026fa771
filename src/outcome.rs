//! What the end of an event means: the one table from outcome to HTTP status, word, metric and severity.
//!
//! It does not know how an outcome came about. Purchasely counts only 200 as received, so every
//! status here decides whether an event is kept, lost or sent again.

use crate::clevertap::{UploadFailure, response};
use crate::forward::NotForwarded;
use crate::mapping::{Ignored, Unmappable};
use crate::purchasely::{Unreadable, signature::InvalidSignature};
use strum::IntoStaticStr;

/// How an event, or a request that is not an event, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// CleverTap accepted it.
    Relayed,
    /// The event queue has it; the function relays it from there.
    Queued,
    /// CleverTap would accept it; nothing was stored (`CLEVERTAP_DRY_RUN`).
    DryRun,
    /// CleverTap accepted it before.
    Duplicate,
    /// It can never be relayed as it is; the dead-letter queue has it.
    DeadLettered(Permanent),
    /// There is nothing to send.
    Ignored(Ignored),
    /// Only a profile was to be written, and CleverTap does not take it. A dead letter could not write it later.
    ProfileRefused,
    /// Its turn in a batch has not come, so nothing was done for it; the queue delivers it again.
    Waiting,
    Unauthorized(InvalidSignature),
    /// A request in which no signature can be looked for.
    UnreadableRequest,
    MethodNotAllowed,
    PayloadTooLarge,
    /// Not relayed; the sender keeps it and sends it again.
    Failed(Failure),
}

/// Why an event can never be relayed as it is, however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Permanent {
    #[error("{0}")]
    Unreadable(Unreadable),
    #[error("{0}")]
    Unmappable(Unmappable),
    /// Purchasely's webhooks have about 1.5 kB.
    #[error("the body is over 256 KiB")]
    TooLarge,
    /// CleverTap refused it, with this code.
    #[error("CleverTap refused the event with code {0}: {meaning}", meaning = response::meaning(*.0))]
    Refused(u16),
    /// CleverTap stored some of the upload's records and did not say which.
    #[error(
        "CleverTap's answer does not say whether it stored the event: look for the event in CleverTap before you redrive it"
    )]
    Unclear,
    /// It failed in the event queue for so long that SQS would soon delete it.
    #[error(
        "relaying it has failed for 13 days, and the event queue loses it after 14: fix what the line before this one names, then redrive"
    )]
    RetriesExhausted,
    /// Parsing or mapping panicked, and would panic again.
    #[error(
        "the function panicked while it read the event: the line before this one has the place, please report it"
    )]
    Panicked,
}

/// Why an event was not relayed this time, grouped by who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Failure {
    // The event: it can never be relayed, and nothing keeps it.
    #[error(
        "{0}; no dead-letter queue is configured, so Purchasely sends the event again and sends no later event of its user"
    )]
    NoDeadLetterQueue(Permanent),

    // A queue.
    #[error("{0}; the dead-letter queue did not store the event, which is sent again")]
    DeadLetterFailed(Permanent),
    #[error("the event queue did not store the event, which is sent again")]
    QueueFailed,

    /// The upload: who must act depends on why.
    #[error("{0}")]
    Upload(UploadFailure),

    // The operator.
    #[error("the secret is unavailable: see the line before this one")]
    SecretUnavailable,

    // The operator's backend.
    #[error(
        "the backend in FORWARD_URL does not have the event: {0}; nothing was written, and the event is sent again"
    )]
    ForwardFailed(NotForwarded),

    // Nobody: a retry is enough.
    #[error("another invocation is relaying the same event; it is sent again")]
    InProgress,

    // A developer: this should not happen.
    #[error("the function panicked; the line before this one has the place, please report it")]
    Panicked,
}

/// How an outcome is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "UPPERCASE", const_into_str)]
pub enum Severity {
    Info,
    /// The sender's fault, or transient.
    Warn,
    /// Somebody must act.
    Error,
}

/// Who must act before a failed event can be relayed: the one dimension of the metric `Failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Class {
    /// The event can never be relayed and no dead-letter queue is configured, so its user's later events wait.
    Event,
    /// A queue is unavailable or the function may not write to it.
    Queue,
    /// CleverTap rejects the account id or the passcode.
    Credentials,
    /// There is no usable secret.
    Secret,
    /// The operator's backend does not take the event.
    Forward,
    /// Nobody: a retry is enough.
    Transient,
    /// Something that should not happen.
    Unexpected,
}

/// What an outcome means to the sender, the log and the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The status of the HTTP endpoint.
    pub http_status: u16,
    /// The word in the response's body: under `status` for 200, otherwise under `error`.
    pub word: &'static str,
    /// A more exact word for the log; the sender sees it only with 200.
    pub reason: Option<&'static str>,
    /// The metric that counts it. Each outcome has one, so their sum is the number of events.
    pub metric: &'static str,
    /// Who must act, for a failure.
    pub class: Option<Class>,
    pub severity: Severity,
}

impl Outcome {
    /// Whether nothing more is to be done for the event.
    pub fn is_settled(&self) -> bool {
        self.row().http_status == 200
    }

    /// The outcome's row of the table.
    pub fn row(&self) -> Row {
        use Severity::{Error, Info, Warn};
        let (http_status, word, reason, metric, severity) = match *self {
            Self::Relayed => (200, "relayed", None, "Relayed", Info),
            Self::Queued => (200, "queued", None, "Queued", Info),
            Self::DryRun => (200, "dry_run", None, "DryRun", Info),
            Self::Duplicate => (200, "duplicate", None, "Duplicate", Info),
            Self::DeadLettered(why) => {
                let reason = Some(why.reason());
                (200, "dead_lettered", reason, "DeadLettered", Error)
            }
            Self::Ignored(why) => (200, "ignored", Some(why.into_str()), "Ignored", Info),
            Self::ProfileRefused => (200, "ignored", Some("profile_refused"), "Ignored", Warn),
            Self::Waiting => (503, "waiting", None, "Waiting", Info),
            Self::Unauthorized(why) => {
                (401, "unauthorized", Some(why.into_str()), "Unauthorized", Warn)
            }
            Self::UnreadableRequest => {
                (401, "unauthorized", Some("unreadable_request"), "Unauthorized", Warn)
            }
            Self::MethodNotAllowed => (405, "method_not_allowed", None, "Rejected", Warn),
            Self::PayloadTooLarge => (413, "payload_too_large", None, "Rejected", Warn),
            Self::Failed(why) => {
                let severity = match why.class() {
                    Class::Transient => Warn,
                    _ => Error,
                };
                (503, "unavailable", Some(why.reason()), "Failed", severity)
            }
        };
        let class = match self {
            Self::Failed(why) => Some(why.class()),
            _ => None,
        };
        Row { http_status, word, reason, metric, class, severity }
    }

    /// The outcome as a sentence, for the log.
    pub fn message(&self) -> String {
        match self {
            Self::Relayed => "relayed to CleverTap".to_owned(),
            Self::Queued => "stored in the event queue".to_owned(),
            Self::DryRun => "CleverTap would accept it; nothing was stored".to_owned(),
            Self::Duplicate => "nothing to send: CleverTap accepted it before".to_owned(),
            Self::DeadLettered(why) => format!("sent to the dead-letter queue: {why}"),
            Self::Ignored(Ignored::EventDisabled) => {
                "nothing to send: the event is switched off".to_owned()
            }
            Self::Ignored(Ignored::Sandbox) => {
                "nothing to send: a sandbox purchase, and SANDBOX_EVENTS is drop".to_owned()
            }
            Self::Ignored(Ignored::Anonymous) => {
                "nothing to send: the buyer is not signed in, and ANONYMOUS_USER_ID_AS is ignore"
                    .to_owned()
            }
            Self::Ignored(Ignored::AnonymousStore) => {
                "nothing to send: the buyer is not signed in, and the store does not tell the device's platform"
                    .to_owned()
            }
            Self::Ignored(Ignored::NoUser) => {
                "nothing to send: the event is switched off, and its other records have no user"
                    .to_owned()
            }
            Self::ProfileRefused => {
                "CleverTap does not take the profile, and the event itself is switched off".to_owned()
            }
            Self::Waiting => {
                "not sent: an earlier event of the user comes first, or the time is up; SQS delivers it again"
                    .to_owned()
            }
            Self::Unauthorized(why) => format!("refused: {why}"),
            Self::UnreadableRequest => {
                "refused: the request is not one of API Gateway or of a Function URL, so it has no signature that could be verified"
                    .to_owned()
            }
            Self::MethodNotAllowed => "refused: only POST is served".to_owned(),
            Self::PayloadTooLarge => "refused: the body is too large to be relayed or kept".to_owned(),
            Self::Failed(failure) => format!("not relayed: {failure}"),
        }
    }
}

impl Failure {
    /// Who must act.
    pub fn class(self) -> Class {
        match self {
            Self::NoDeadLetterQueue(_) => Class::Event,
            Self::DeadLetterFailed(_) | Self::QueueFailed => Class::Queue,
            Self::SecretUnavailable => Class::Secret,
            Self::ForwardFailed(_) => Class::Forward,
            Self::InProgress => Class::Transient,
            Self::Panicked => Class::Unexpected,
            Self::Upload(why) => match why {
                UploadFailure::CredentialsRejected(_) | UploadFailure::NoSandboxPasscode => {
                    Class::Credentials
                }
                UploadFailure::TooLate
                | UploadFailure::Busy(_)
                | UploadFailure::RefusedForNow(_)
                | UploadFailure::Unreachable
                | UploadFailure::ConnectionLost
                | UploadFailure::TimedOut => Class::Transient,
                UploadFailure::UnexpectedResponse(_) | UploadFailure::Unexplained => {
                    Class::Unexpected
                }
            },
        }
    }

    /// Whether CleverTap may have stored the event nevertheless.
    pub fn may_be_stored(self) -> bool {
        match self {
            Self::Upload(why) => why.may_be_stored(),
            Self::NoDeadLetterQueue(why) | Self::DeadLetterFailed(why) => why == Permanent::Unclear,
            Self::Panicked => true,
            _ => false,
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::NoDeadLetterQueue(why) => why.reason(),
            Self::Upload(why) => why.into_str(),
            other => other.into_str(),
        }
    }
}

impl Permanent {
    /// In the response, the log and the letter.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Unreadable(why) => why.into_str(),
            Self::Unmappable(why) => why.into_str(),
            Self::TooLarge => "too_large",
            Self::Refused(_) => "refused",
            Self::Unclear => "unclear",
            Self::RetriesExhausted => "retries_exhausted",
            Self::Panicked => "panicked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_settings_to_look_at() {
        let rejected = Failure::Upload(UploadFailure::CredentialsRejected(401));
        for (failure, setting) in [
            (rejected, "CLEVERTAP_REGION"),
            (Failure::ForwardFailed(NotForwarded::LeadsBack), "FORWARD_URL"),
        ] {
            let message = Outcome::Failed(failure).message();
            assert!(message.contains(setting), "{message}");
        }
    }

    #[test]
    fn only_what_needs_no_second_delivery_is_200() {
        let refused = Permanent::Refused(513);
        for (outcome, status, word) in [
            (Outcome::Relayed, 200, "relayed"),
            (Outcome::Queued, 200, "queued"),
            (Outcome::DryRun, 200, "dry_run"),
            (Outcome::Duplicate, 200, "duplicate"),
            (Outcome::Ignored(Ignored::Anonymous), 200, "ignored"),
            (Outcome::DeadLettered(refused), 200, "dead_lettered"),
            (Outcome::Unauthorized(InvalidSignature::Mismatch), 401, "unauthorized"),
            (Outcome::UnreadableRequest, 401, "unauthorized"),
            (Outcome::DeadLettered(Permanent::TooLarge), 200, "dead_lettered"),
            (Outcome::MethodNotAllowed, 405, "method_not_allowed"),
            (Outcome::PayloadTooLarge, 413, "payload_too_large"),
            (Outcome::Failed(Failure::NoDeadLetterQueue(refused)), 503, "unavailable"),
            (Outcome::Failed(Failure::Upload(UploadFailure::Busy(429))), 503, "unavailable"),
            (Outcome::Failed(Failure::QueueFailed), 503, "unavailable"),
            (Outcome::Failed(Failure::Panicked), 503, "unavailable"),
        ] {
            let row = outcome.row();
            assert_eq!((row.http_status, row.word), (status, word), "{outcome:?}");
        }
    }

    #[test]
    fn an_event_may_be_stored_if_no_answer_says_otherwise() {
        let upload = Failure::Upload;
        for (failure, may_be_stored) in [
            (upload(UploadFailure::TimedOut), true),
            (upload(UploadFailure::Busy(500)), true),
            (upload(UploadFailure::Busy(503)), true),
            (upload(UploadFailure::ConnectionLost), true),
            (upload(UploadFailure::Busy(429)), false),
            (upload(UploadFailure::RefusedForNow(500)), false),
            (upload(UploadFailure::TooLate), false),
            (Failure::NoDeadLetterQueue(Permanent::Unclear), true),
            (Failure::DeadLetterFailed(Permanent::Refused(513)), false),
            (Failure::QueueFailed, false),
        ] {
            assert_eq!(failure.may_be_stored(), may_be_stored, "{failure:?}");
        }
    }

    #[test]
    fn a_message_says_what_to_do() {
        let why = Permanent::Unreadable(Unreadable::VersionTwo);
        assert_eq!(
            Outcome::DeadLettered(why).message(),
            "sent to the dead-letter queue: the body is payload version 2: choose version 3 in Purchasely's console, in the settings of the webhook"
        );
        let why = Permanent::Refused(513);
        assert_eq!(
            Outcome::Failed(Failure::NoDeadLetterQueue(why)).message(),
            "not relayed: CleverTap refused the event with code 513: the event name is reserved; no dead-letter queue is configured, so Purchasely sends the event again and sends no later event of its user"
        );
    }
}
