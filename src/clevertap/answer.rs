//! Reads what CleverTap answered to an upload: a verdict for each record, or one for the whole.
//!
//! It does not know what a verdict means for an event, nor what is done about it.
//! The HTTP status alone decides nothing: a 200 may refuse every record
//! (<https://developer.clevertap.com/docs/upload-events-api>, "Example Response").

use serde::Deserialize;

/// Miscellaneous server error: the one record code that passes.
const PASSING_CODE: u16 = 555;

/// What became of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// CleverTap has it.
    Accepted,
    /// Refused; sending it again changes nothing.
    Refused(u16),
    /// Refused for now.
    Passing(u16),
}

/// What an answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// One verdict per record, in the order sent.
    Verdicts(Vec<Verdict>),
    /// The request as a whole is wrong: 400, 413, 422, or `fail` without a reason.
    Refused(u16),
    /// Passcode, account id or region: 401, 403, 404.
    Unauthorized(u16),
    /// Too many concurrent uploads, or a fault of CleverTap's: 429, 5xx.
    Busy(u16),
    /// Passing, but not so clearly without effect that the upload may be repeated at once: 408, 425.
    NotNow(u16),
    /// A 200 that is not the documented JSON.
    Unreadable,
    /// A status that is not expected here; redirects are among these.
    Unexpected(u16),
}

/// Reads the answer to an upload of `records` records.
#[must_use]
pub fn read(status: u16, body: &[u8], records: usize) -> Answer {
    match status {
        200 => read_body(body, records),
        400 | 413 | 422 => Answer::Refused(status),
        401 | 403 | 404 => Answer::Unauthorized(status),
        429 | 500..=599 => Answer::Busy(status),
        408 | 425 => Answer::NotNow(status),
        _ => Answer::Unexpected(status),
    }
}

/// CleverTap's words for a record code, for people.
#[must_use]
pub fn meaning(code: u16) -> &'static str {
    match code {
        400 | 413 | 422 => "the request as a whole was refused",
        509 => "the event name is missing",
        512 => "the record's structure is wrong",
        513 => "the event name is reserved",
        514..=520 => "a system field of the profile has a value that is not allowed",
        522 => "too many properties",
        523 => "no identity",
        524 => "neither an event nor a profile",
        525 => "the time is not Unix seconds",
        526 => "the objectId is not valid",
        528 => "the event was discarded in the dashboard",
        PASSING_CODE => "a passing fault of CleverTap",
        200 => "refused without a reason",
        _ => "a code that CleverTap does not document",
    }
}

#[derive(Deserialize)]
struct Wire {
    status: String,
    #[serde(default)]
    code: Option<u16>,
    #[serde(default)]
    unprocessed: Vec<Unprocessed>,
}

#[derive(Deserialize)]
struct Unprocessed {
    #[serde(default)]
    code: Option<u16>,
    #[serde(default)]
    error: String,
}

fn read_body(body: &[u8], records: usize) -> Answer {
    let Ok(wire) = serde_json::from_slice::<Wire>(body) else {
        return Answer::Unreadable;
    };
    match (wire.status.as_str(), wire.unprocessed.as_slice()) {
        ("success", []) => Answer::Verdicts(vec![Verdict::Accepted; records]),
        ("success" | "partial" | "fail", [_, ..]) => match verdicts(&wire, records) {
            Some(verdicts) => Answer::Verdicts(verdicts),
            None => Answer::Unreadable,
        },
        // A gateway in front may wrap its refusal of the caller in a 200.
        ("fail", []) => match wire.code {
            Some(code @ (401 | 403 | 404)) => Answer::Unauthorized(code),
            Some(429) => Answer::Busy(429),
            _ => Answer::Refused(200),
        },
        _ => Answer::Unreadable,
    }
}

/// Matches refusals to records by the number in their text: the echoed record may be normalised.
/// `None` if it is unclear which record a refusal means.
fn verdicts(wire: &Wire, records: usize) -> Option<Vec<Verdict>> {
    let all_failed = wire.status == "fail" && wire.unprocessed.len() == records;
    let mut verdicts = vec![Verdict::Accepted; records];
    for (position, refusal) in wire.unprocessed.iter().enumerate() {
        let index = match record_number(&refusal.error) {
            Some(number) => number.checked_sub(1)?,
            None if records == 1 || all_failed => position,
            None => return None,
        };
        *verdicts.get_mut(index)? = match refusal.code {
            Some(PASSING_CODE) => Verdict::Passing(PASSING_CODE),
            code => Verdict::Refused(code.unwrap_or(200)),
        };
    }
    // `fail` means that nothing was taken: an unnamed record was refused without a reason.
    if wire.status == "fail" {
        for verdict in &mut verdicts {
            if *verdict == Verdict::Accepted {
                *verdict = Verdict::Refused(200);
            }
        }
    }
    Some(verdicts)
}

/// The 1-based number at the end of "… Skipped record number : 2".
fn record_number(error: &str) -> Option<usize> {
    let (_, number) = error.rsplit_once(':')?;
    number.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Verdict::{Accepted, Passing, Refused};

    #[track_caller]
    fn check(status: u16, body: &str, records: usize, expected: &Answer) {
        assert_eq!(&read(status, body.as_bytes(), records), expected, "{body}");
    }

    fn refusal(code: u16, text: &str) -> String {
        format!(r#"{{"status":"fail","code":{code},"error":"{text}","record":{{"a":1}}}}"#)
    }

    #[test]
    fn success_accepts_every_record() {
        let body = r#"{"status":"success","processed":2,"unprocessed":[]}"#;
        check(200, body, 2, &Answer::Verdicts(vec![Accepted, Accepted]));
        check(
            200,
            r#"{"status":"success"}"#,
            1,
            &Answer::Verdicts(vec![Accepted]),
        );
    }

    #[test]
    fn a_refusal_is_matched_by_its_record_number() {
        let body = format!(
            r#"{{"status":"partial","processed":1,"unprocessed":[{},{}]}}"#,
            refusal(555, "Miscellaneous.Skipped record number : 3"),
            refusal(509, "Event name is mandatory. Skipped record number : 1"),
        );
        let expected = Answer::Verdicts(vec![Refused(509), Accepted, Passing(555)]);
        check(200, &body, 3, &expected);
    }

    #[test]
    fn fail_refuses_every_record() {
        let lone = format!(
            r#"{{"status":"fail","processed":0,"unprocessed":[{}]}}"#,
            refusal(525, "no number here")
        );
        check(200, &lone, 1, &Answer::Verdicts(vec![Refused(525)]));
        let two = format!(
            r#"{{"status":"fail","processed":0,"unprocessed":[{}]}}"#,
            refusal(525, "Skipped record number : 2")
        );
        check(
            200,
            &two,
            2,
            &Answer::Verdicts(vec![Refused(200), Refused(525)]),
        );
    }

    #[test]
    fn an_unknown_code_is_permanent() {
        let body = format!(
            r#"{{"status":"fail","unprocessed":[{}]}}"#,
            refusal(999, "New rule. Skipped record number : 1")
        );
        check(200, &body, 1, &Answer::Verdicts(vec![Refused(999)]));
    }

    #[test]
    fn fail_without_a_reason_refuses_the_request() {
        let body = r#"{"status":"fail","processed":0,"unprocessed":[]}"#;
        check(200, body, 1, &Answer::Refused(200));
    }

    #[test]
    fn a_refusal_of_an_unclear_record_is_unreadable() {
        for text in [
            "no number",
            "Skipped record number : 9",
            "Skipped record number : 0",
        ] {
            let body = format!(
                r#"{{"status":"partial","processed":1,"unprocessed":[{}]}}"#,
                refusal(512, text)
            );
            check(200, &body, 2, &Answer::Unreadable);
        }
    }

    #[test]
    fn a_200_of_another_shape_is_unreadable() {
        for body in [
            "",
            "OK",
            "<html>",
            "[]",
            "{}",
            r#"{"status":"maybe"}"#,
            r#"{"status":"partial"}"#,
        ] {
            check(200, body, 1, &Answer::Unreadable);
        }
    }

    #[test]
    fn a_refused_caller_inside_a_200_is_recognised() {
        let body = r#"{"status":"fail","error":"Account ID is not valid","code":401}"#;
        check(200, body, 1, &Answer::Unauthorized(401));
    }

    #[test]
    fn other_statuses_are_grouped_by_what_helps() {
        for (status, expected) in [
            (400, Answer::Refused(400)),
            (413, Answer::Refused(413)),
            (422, Answer::Refused(422)),
            (401, Answer::Unauthorized(401)),
            (403, Answer::Unauthorized(403)),
            (404, Answer::Unauthorized(404)),
            (429, Answer::Busy(429)),
            (500, Answer::Busy(500)),
            (503, Answer::Busy(503)),
            (302, Answer::Unexpected(302)),
            (204, Answer::Unexpected(204)),
            (408, Answer::NotNow(408)),
            (425, Answer::NotNow(425)),
        ] {
            check(status, "", 1, &expected);
        }
    }
}
