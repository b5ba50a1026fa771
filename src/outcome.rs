//! What the end of an event means: the one table from outcome to HTTP status, word, metric and severity.
//!
//! It does not know how an outcome came about. Purchasely counts only 200 as received, so every
//! status here decides whether an event is kept, lost or sent again.

use crate::clevertap::answer;
use crate::mapping::{Ignored, Unmappable};
use crate::purchasely::{Unreadable, signature::InvalidSignature};

/// How an event, or a request that was none, ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// CleverTap has it.
    Relayed,
    /// CleverTap would take it; nothing was stored (`CLEVERTAP_DRY_RUN`).
    DryRun,
    /// CleverTap had it before.
    Duplicate,
    /// Can never be relayed as it is; the dead-letter queue keeps it.
    DeadLettered(Permanent),
    /// Rightly nothing to send.
    Ignored(Ignored),
    /// Not shown to come from Purchasely.
    Unauthorized(InvalidSignature),
    /// Not a POST.
    MethodNotAllowed,
    /// The body is longer than the door takes.
    PayloadTooLarge,
    /// Not relayed; whoever sent it keeps it and sends it again.
    Failed(Failure),
}

/// Why an event can never be relayed as it is, however often it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Permanent {
    /// Not an event.
    #[error("{0}")]
    Unreadable(Unreadable),
    /// An event that cannot become a record.
    #[error("{0}")]
    Unmappable(Unmappable),
    /// CleverTap refused it for good.
    #[error("CleverTap refused the event with code {0}: {meaning}", meaning = answer::meaning(*.0))]
    Refused(u16),
}

/// Why an event was not relayed, grouped by who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The event itself is the trouble, and nothing keeps it: there is no dead-letter queue, or it did not take it.
    #[error(
        "{0}; no dead-letter queue keeps the event, so it is sent again and its user's later events wait"
    )]
    NotKept(Permanent),

    // The owner: settings and secrets.
    /// CleverTap does not accept the passcode, the account id or their region.
    #[error(
        "CleverTap answered {0}: check that clevertap_passcode in the secret, CLEVERTAP_ACCOUNT_ID and CLEVERTAP_REGION belong to one account"
    )]
    NotAccepted(u16),
    /// A tester's purchase for an account whose passcode the secret does not hold.
    #[error(
        "the secret has no clevertap_sandbox_passcode, which CLEVERTAP_SANDBOX_ACCOUNT_ID needs: add it"
    )]
    NoSandboxPasscode,
    /// No usable secret.
    #[error("the secret could not be read: see the line before this one")]
    SecretUnavailable,

    // Nobody: it passes.
    /// The same event is being relayed by another invocation.
    #[error("the same event is being relayed by another invocation; it is sent again")]
    InProgress,
    /// An earlier event of the same user is not settled.
    #[error("an earlier event of the same user is not settled; it is sent again after that one")]
    Held,
    /// Too many concurrent uploads (429), a fault of CleverTap's (5xx), or a record refused for now (555).
    #[error("CleverTap is busy or faulty ({0}); the event is sent again")]
    Busy(u16),
    /// No connection to CleverTap.
    #[error("CleverTap could not be reached; the event is sent again")]
    Unreachable,
    /// The connection closed before an answer, twice.
    #[error("CleverTap closed the connection without an answer; the event is sent again")]
    ConnectionLost,
    /// The time that Purchasely waits was used up.
    #[error("CleverTap did not answer in time; the event is sent again")]
    TimedOut,

    // Somebody has to look: it should not happen.
    /// An answer of CleverTap's that is not documented.
    #[error("CleverTap's answer ({0}) was not understood; the event is sent again")]
    NotUnderstood(u16),
    /// A bug: the line before names the place.
    #[error("the function panicked; the line before this one names the place, please report it")]
    Panicked,
    /// An invocation that is neither an HTTP request nor a batch of messages.
    #[error(
        "the invocation is neither an HTTP request of API Gateway or of a Function URL nor a batch of SQS messages"
    )]
    UnknownInvocation,
}

/// How loud an outcome is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// As it should be.
    Info,
    /// Somebody else's doing, or passing.
    Warn,
    /// Somebody must act.
    Error,
}

/// Who must act before a failed event can be relayed: the one dimension of the metric `Failed`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Nobody keeps an event that can never be relayed, so its user waits for it.
    Event,
    /// CleverTap does not let the function in.
    Credentials,
    /// There is no usable secret.
    Secret,
    /// Nobody: it passes.
    Passing,
    /// Something that should not happen.
    Unexpected,
}

impl Class {
    /// The class as the value of the dimension.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Credentials => "credentials",
            Self::Secret => "secret",
            Self::Passing => "passing",
            Self::Unexpected => "unexpected",
        }
    }
}

/// What an outcome means outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The answer of the HTTP door.
    pub http_status: u16,
    /// The word in the answer's body: under `status` for 200, else under `error`.
    pub word: &'static str,
    /// The more exact word, for the log; told to the sender only where the answer is 200.
    pub reason: Option<&'static str>,
    /// The metric that counts it. Each outcome has one, so their sum is the number of events.
    pub metric: &'static str,
    /// Who must act, if it failed.
    pub class: Option<Class>,
    /// How loud the log is.
    pub severity: Severity,
}

impl Outcome {
    /// Whether nothing more is to be done for the event, whoever sent it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.row().http_status == 200
    }

    /// The outcome's row of the table.
    #[must_use]
    pub fn row(&self) -> Row {
        use Severity::{Error, Info, Warn};
        let (http_status, word, reason, metric, severity) = match self {
            Self::Relayed => (200, "relayed", None, "Relayed", Info),
            Self::DryRun => (200, "dry_run", None, "DryRun", Info),
            Self::Duplicate => (200, "duplicate", None, "Duplicate", Info),
            Self::DeadLettered(why) => {
                let reason = Some(permanent(*why));
                (200, "dead_lettered", reason, "DeadLettered", Error)
            }
            Self::Ignored(why) => (200, "ignored", Some(<&str>::from(why)), "Ignored", Info),
            Self::Unauthorized(why) => {
                let reason = Some(<&str>::from(why));
                (401, "unauthorized", reason, "Unauthorized", Warn)
            }
            Self::MethodNotAllowed => (405, "method_not_allowed", None, "Rejected", Warn),
            Self::PayloadTooLarge => (413, "payload_too_large", None, "Rejected", Warn),
            Self::Failed(why) => {
                let severity = match class(*why) {
                    Class::Passing => Warn,
                    _ => Error,
                };
                (503, "unavailable", Some(failed(*why)), "Failed", severity)
            }
        };
        Row {
            http_status,
            word,
            reason,
            metric,
            class: match self {
                Self::Failed(why) => Some(class(*why)),
                _ => None,
            },
            severity,
        }
    }

    /// The outcome in a sentence, for the log.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Relayed => "relayed to CleverTap".to_owned(),
            Self::Duplicate => "nothing to send: CleverTap had it before".to_owned(),
            Self::DeadLettered(why) => format!("kept as a dead letter: {why}"),
            Self::DryRun => "CleverTap would take it; nothing was stored".to_owned(),
            Self::Ignored(Ignored::EventDisabled) => {
                "nothing to send: the event is switched off".to_owned()
            }
            Self::Ignored(Ignored::Sandbox) => {
                "nothing to send: a sandbox purchase, and these are dropped".to_owned()
            }
            Self::Ignored(Ignored::Anonymous) => {
                "nothing to send: the buyer is not signed in, and ANONYMOUS_USER_ID_AS is ignore"
                    .to_owned()
            }
            Self::Unauthorized(why) => format!("refused: {why}"),
            Self::MethodNotAllowed => "refused: only POST is served".to_owned(),
            Self::PayloadTooLarge => "refused: the body is over 256 KiB".to_owned(),
            Self::Failed(failure) => format!("not relayed: {failure}"),
        }
    }
}

fn class(why: Failure) -> Class {
    match why {
        Failure::NotKept(_) => Class::Event,
        Failure::NotAccepted(_) | Failure::NoSandboxPasscode => Class::Credentials,
        Failure::SecretUnavailable => Class::Secret,
        Failure::InProgress
        | Failure::Held
        | Failure::Busy(_)
        | Failure::Unreachable
        | Failure::ConnectionLost
        | Failure::TimedOut => Class::Passing,
        Failure::NotUnderstood(_) | Failure::Panicked | Failure::UnknownInvocation => {
            Class::Unexpected
        }
    }
}

fn failed(why: Failure) -> &'static str {
    match why {
        Failure::NotKept(why) => permanent(why),
        Failure::NotAccepted(_) => "not_accepted",
        Failure::NoSandboxPasscode => "no_sandbox_passcode",
        Failure::SecretUnavailable => "secret_unavailable",
        Failure::InProgress => "in_progress",
        Failure::Held => "held",
        Failure::Busy(_) => "busy",
        Failure::Unreachable => "unreachable",
        Failure::ConnectionLost => "connection_lost",
        Failure::TimedOut => "timed_out",
        Failure::NotUnderstood(_) => "not_understood",
        Failure::Panicked => "panicked",
        Failure::UnknownInvocation => "unknown_invocation",
    }
}

fn permanent(why: Permanent) -> &'static str {
    match why {
        Permanent::Unreadable(why) => why.into(),
        Permanent::Unmappable(why) => why.into(),
        Permanent::Refused(_) => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_needs_no_second_delivery_is_200() {
        for (outcome, status, word) in [
            (Outcome::Relayed, 200, "relayed"),
            (Outcome::DryRun, 200, "dry_run"),
            (Outcome::Ignored(Ignored::Anonymous), 200, "ignored"),
            (
                Outcome::Unauthorized(InvalidSignature::Mismatch),
                401,
                "unauthorized",
            ),
            (Outcome::MethodNotAllowed, 405, "method_not_allowed"),
            (Outcome::PayloadTooLarge, 413, "payload_too_large"),
            (Outcome::Duplicate, 200, "duplicate"),
            (
                Outcome::DeadLettered(Permanent::Refused(513)),
                200,
                "dead_lettered",
            ),
            (
                Outcome::Failed(Failure::NotKept(Permanent::Refused(513))),
                503,
                "unavailable",
            ),
            (Outcome::Failed(Failure::Busy(429)), 503, "unavailable"),
            (Outcome::Failed(Failure::Panicked), 503, "unavailable"),
        ] {
            let row = outcome.row();
            assert_eq!((row.http_status, row.word), (status, word), "{outcome:?}");
        }
    }

    #[test]
    fn a_sentence_says_what_to_do() {
        let why = Permanent::Unreadable(Unreadable::VersionTwo);
        assert_eq!(
            Outcome::DeadLettered(why).sentence(),
            "kept as a dead letter: the body is payload version 2: choose version 3 in Purchasely's console, in the settings of the webhook"
        );
        let why = Permanent::Refused(513);
        assert_eq!(
            Outcome::Failed(Failure::NotKept(why)).sentence(),
            "not relayed: CleverTap refused the event with code 513: the event name is reserved; no dead-letter queue keeps the event, so it is sent again and its user's later events wait"
        );
    }
}
