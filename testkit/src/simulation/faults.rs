//! What can go wrong with one exchange, drawn from the seed.
//! It does not know what the exchange is about, except which answers its service may give.

use Meaning::{Final, ForNow, ProbablyNothing, Unclear, Unknown};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
    CleverTap,
    SecretsManager,
    DynamoDb,
    Sqs,
    /// The team's own.
    Backend,
}

/// What happens to a request or to its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Refused,
    /// The connection closes before the request has an effect.
    LostBefore,
    /// The connection closes after it.
    LostAfter,
    /// The answer's body ends early, after the effect.
    CutShort,
    /// The request arrives this much later, whether or not anybody still waits.
    Late(Duration),
    /// The request has its effect at once, and the answer arrives this much later.
    LateAnswer(Duration),
    /// CleverTap refuses the record with this number, counted from 1, and takes the others.
    Record {
        number: usize,
        code: u16,
    },
    /// One of the service's own answers instead.
    Odd(usize),
}

/// An answer other than the usual one.
#[derive(Clone, Copy, Debug)]
pub struct Odd {
    pub status: u16,
    pub body: &'static str,
    /// Whether the request had its effect nevertheless.
    pub has_effect: bool,
    /// What CleverTap documents that it means for the records, or what has to be assumed.
    pub meaning: Meaning,
}

/// What an answer of CleverTap means for the records of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// Sending them again changes nothing.
    Final,
    /// Some were stored, and nobody knows which.
    Unclear,
    /// Nothing was stored.
    ForNow,
    /// Probably nothing was stored.
    ProbablyNothing,
    /// They may be stored, so only the sender repeats them.
    Unknown,
}

/// Delays around each of the function's time limits.
const DELAYS: [u64; 8] = [250, 401, 1210, 1501, 3300, 6400, 8100, 45_000];

const fn odd(status: u16, body: &'static str, has_effect: bool, meaning: Meaning) -> Odd {
    Odd { status, body, has_effect, meaning }
}

const FAIL: &str = r#"{"status":"fail","error":"odd"}"#;
const FAIL_429: &str = r#"{"status":"fail","processed":0,"unprocessed":[],"code":429}"#;
const FAIL_555: &str = r#"{"status":"fail","processed":0,"unprocessed":[{"status":"fail","code":555,"error":"Miscellaneous server error. Skipped record number : 1","record":{}}]}"#;
const FAIL_528: &str = r#"{"status":"fail","processed":0,"unprocessed":[{"status":"fail","code":528,"error":"Discarded event is raised. Skipped record number : 1","record":{}}]}"#;
const PARTIAL: &str = r#"{"status":"partial","processed":1,"unprocessed":[]}"#;
const PARTIAL_555: &str =
    r#"{"status":"partial","processed":1,"unprocessed":[{"code":555,"error":null}]}"#;
const NO_REASONS: &str = r#"{"status":"fail","processed":0,"unprocessed":[]}"#;

const CLEVERTAP: [Odd; 25] = [
    odd(200, FAIL_555, false, ForNow),
    odd(200, FAIL_528, false, Final),
    odd(200, FAIL_429, false, ForNow),
    odd(200, NO_REASONS, false, Final),
    odd(200, PARTIAL, true, Unclear),
    odd(200, "<html>", false, Unknown),
    odd(200, "<html>", true, Unknown),
    odd(200, "{}", true, Unknown),
    odd(200, "", false, Unknown),
    odd(204, "", true, Unknown),
    odd(302, "", false, Unknown),
    odd(400, FAIL, false, Final),
    odd(401, FAIL, false, ForNow),
    odd(403, FAIL, false, ForNow),
    odd(404, FAIL, false, ForNow),
    odd(408, FAIL, true, Unknown),
    odd(413, FAIL, false, Final),
    odd(429, FAIL, false, ForNow),
    odd(500, FAIL, false, Unknown),
    odd(500, FAIL, true, Unknown),
    odd(502, "<html>", true, Unknown),
    odd(503, FAIL, false, ProbablyNothing),
    odd(503, FAIL, true, ProbablyNothing),
    odd(504, "", true, Unknown),
    odd(200, PARTIAL_555, true, Unclear),
];
const AWS: [Odd; 9] = [
    odd(400, r#"{"__type":"ThrottlingException"}"#, false, ForNow),
    odd(400, r#"{"__type":"ProvisionedThroughputExceededException"}"#, false, ForNow),
    odd(400, r#"{"__type":"AccessDeniedException"}"#, false, ForNow),
    odd(400, r#"{"__type":"ResourceNotFoundException"}"#, false, ForNow),
    odd(500, r#"{"__type":"InternalServerError"}"#, false, Unknown),
    odd(500, r#"{"__type":"InternalServerError"}"#, true, Unknown),
    odd(503, "", true, Unknown),
    odd(200, "<html>", true, Unknown),
    odd(403, "{}", false, ForNow),
];

/// Only a 2xx means that the backend has the event, whatever it did with it.
const BACKEND: [Odd; 5] = [
    odd(204, "", true, Final),
    odd(302, "", false, Unknown),
    odd(409, "", true, Unknown),
    odd(500, "", true, Unknown),
    odd(503, "", false, Unknown),
];

impl Service {
    pub fn odd(self) -> &'static [Odd] {
        match self {
            Self::CleverTap => &CLEVERTAP,
            Self::Backend => &BACKEND,
            Self::SecretsManager | Self::DynamoDb | Self::Sqs => &AWS,
        }
    }

    /// Every kind of fault once, for enumerations.
    pub fn faults(self) -> Vec<Fault> {
        let delays = [401, 1501, 8100].map(Duration::from_millis);
        let mut faults = vec![Fault::LostAfter, Fault::Refused, Fault::LostBefore, Fault::CutShort];
        faults.extend(delays.map(Fault::LateAnswer));
        faults.extend(delays.map(Fault::Late));
        if self == Self::CleverTap {
            let records = [(1, 555), (2, 555), (3, 555), (1, 515), (2, 513), (3, 512)];
            faults.extend(records.map(|(number, code)| Fault::Record { number, code }));
        }
        faults.extend((0..self.odd().len()).map(Fault::Odd));
        faults
    }
}

impl Fault {
    /// In the words of a report.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Refused => "connection refused",
            Self::LostBefore => "connection lost before the request took effect",
            Self::LostAfter => "connection lost after the request took effect",
            Self::CutShort => "answer cut short",
            Self::Late(_) => "request late",
            Self::LateAnswer(_) => "answer late",
            Self::Record { .. } => "one record refused",
            Self::Odd(_) => "error or odd answer",
        }
    }

    /// What the function learns about the records of an upload, if it does not wait in vain.
    pub fn meaning(self, service: Service) -> Meaning {
        match self {
            Self::Refused | Self::Record { code: 555, .. } => ForNow,
            Self::Record { .. } => Final,
            Self::LostBefore | Self::LostAfter => ProbablyNothing,
            Self::CutShort | Self::Late(_) | Self::LateAnswer(_) => Unknown,
            Self::Odd(odd) => service.odd()[odd].meaning,
        }
    }

    /// Whether the function gets the service's own answer, if it waits long enough.
    pub fn keeps_answer(self) -> bool {
        matches!(self, Self::Late(_) | Self::LateAnswer(_) | Self::Record { .. })
    }

    pub fn draw(rng: &mut fastrand::Rng, service: Service) -> Self {
        let delay = Duration::from_millis(DELAYS[rng.usize(..DELAYS.len())]);
        match rng.u8(..10) {
            0 | 1 => Self::Refused,
            2 => Self::LostBefore,
            3 => Self::LostAfter,
            4 => Self::CutShort,
            5 => Self::Late(delay),
            6 => Self::LateAnswer(delay),
            7 if service == Service::CleverTap => Self::Record {
                number: rng.usize(1..4),
                code: if rng.u8(..4) > 0 { 555 } else { 513 },
            },
            _ => Self::Odd(rng.usize(..service.odd().len())),
        }
    }
}
