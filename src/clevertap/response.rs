//! Reads CleverTap's answer to an upload: a verdict for each record, or one for the whole upload.
//!
//! It does not know what a verdict means for an event. The HTTP status alone decides nothing: a 200 may
//! refuse every record (<https://developer.clevertap.com/docs/upload-events-api>, "Example Response").

use serde::Deserialize;

/// "Miscellaneous server error": the one transient record code.
pub const TRANSIENT_CODE: u16 = 555;

/// CleverTap's answer to one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// Refused with this code; sending it again changes nothing.
    Refused(u16),
    /// Refused for now.
    Transient(u16),
}

/// CleverTap's answer to an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// One verdict per record, in the order sent.
    Verdicts(Vec<Verdict>),
    /// The request as a whole is refused: 400, 413, 422, or `fail` without a reason (as 200).
    Refused(u16),
    /// The account id, the passcode or the region is wrong: 401, 403, 404.
    Unauthorized(u16),
    /// Too many concurrent uploads or a server error: 429, 5xx.
    Busy(u16),
    /// Transient, but the upload may have been stored: 408, 425.
    RetryLater(u16),
    /// A 200 without the documented JSON.
    Unreadable,
    /// A status that is not expected here, such as a redirect.
    Unexpected(u16),
}

/// Reads the answer to an upload of `records` records.
pub fn read(status: u16, body: &[u8], records: usize) -> Response {
    match status {
        200 => read_body(body, records),
        400 | 413 | 422 => Response::Refused(status),
        401 | 403 | 404 => Response::Unauthorized(status),
        429 | 500..=599 => Response::Busy(status),
        408 | 425 => Response::RetryLater(status),
        _ => Response::Unexpected(status),
    }
}

/// What a record code means (<https://developer.clevertap.com/docs/api-errors>).
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
        525 => "the time is not in Unix seconds",
        526 => "the objectId is not valid",
        528 => "the event was discarded in the dashboard",
        TRANSIENT_CODE => "a transient server error",
        200 => "refused without a reason",
        _ => "a code that CleverTap does not document",
    }
}

#[derive(Deserialize)]
struct Body {
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

fn read_body(body: &[u8], records: usize) -> Response {
    let Ok(body) = serde_json::from_slice::<Body>(body) else {
        return Response::Unreadable;
    };
    match (body.status.as_str(), body.unprocessed.as_slice()) {
        ("success", []) => Response::Verdicts(vec![Verdict::Accepted; records]),
        ("success" | "partial" | "fail", [_, ..]) => match verdicts(&body, records) {
            Some(verdicts) => Response::Verdicts(verdicts),
            None => Response::Unreadable,
        },
        // A gateway in front of CleverTap may put its refusal into a 200.
        ("fail", []) => match body.code {
            Some(code @ (401 | 403 | 404)) => Response::Unauthorized(code),
            Some(429) => Response::Busy(429),
            _ => Response::Refused(200),
        },
        _ => Response::Unreadable,
    }
}

/// Matches refusals to records by the number in their text, because the echoed record may differ from
/// what was sent. `None` if it is unclear which record a refusal is about.
fn verdicts(body: &Body, records: usize) -> Option<Vec<Verdict>> {
    let all_failed = body.status == "fail" && body.unprocessed.len() == records;
    let mut verdicts = vec![Verdict::Accepted; records];
    for (position, refusal) in body.unprocessed.iter().enumerate() {
        let index = match record_number(&refusal.error) {
            Some(number) => number.checked_sub(1)?,
            None if records == 1 || all_failed => position,
            None => return None,
        };
        *verdicts.get_mut(index)? = match refusal.code {
            Some(TRANSIENT_CODE) => Verdict::Transient(TRANSIENT_CODE),
            code => Verdict::Refused(code.unwrap_or(200)),
        };
    }
    // `fail` accepts nothing: a record that it does not name was refused without a reason.
    if body.status == "fail" {
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
    use Verdict::{Accepted, Refused, Transient};

    #[track_caller]
    fn check(status: u16, body: &str, records: usize, expected: &Response) {
        assert_eq!(&read(status, body.as_bytes(), records), expected, "{body}");
    }

    fn refusal(code: u16, text: &str) -> String {
        format!(r#"{{"status":"fail","code":{code},"error":"{text}","record":{{"a":1}}}}"#)
    }

    #[test]
    fn success_accepts_every_record() {
        let body = r#"{"status":"success","processed":2,"unprocessed":[]}"#;
        check(200, body, 2, &Response::Verdicts(vec![Accepted, Accepted]));
        check(200, r#"{"status":"success"}"#, 1, &Response::Verdicts(vec![Accepted]));
    }

    #[test]
    fn a_refusal_is_matched_by_its_record_number() {
        let body = format!(
            r#"{{"status":"partial","processed":1,"unprocessed":[{},{}]}}"#,
            refusal(555, "Miscellaneous.Skipped record number : 3"),
            refusal(509, "Event name is mandatory. Skipped record number : 1"),
        );
        let expected = Response::Verdicts(vec![Refused(509), Accepted, Transient(555)]);
        check(200, &body, 3, &expected);
    }

    #[test]
    fn fail_refuses_every_record() {
        let lone = format!(
            r#"{{"status":"fail","processed":0,"unprocessed":[{}]}}"#,
            refusal(525, "no number here")
        );
        check(200, &lone, 1, &Response::Verdicts(vec![Refused(525)]));
        let two = format!(
            r#"{{"status":"fail","processed":0,"unprocessed":[{}]}}"#,
            refusal(525, "Skipped record number : 2")
        );
        check(200, &two, 2, &Response::Verdicts(vec![Refused(200), Refused(525)]));
    }

    #[test]
    fn an_unknown_code_is_permanent() {
        let body = format!(
            r#"{{"status":"fail","unprocessed":[{}]}}"#,
            refusal(999, "New rule. Skipped record number : 1")
        );
        check(200, &body, 1, &Response::Verdicts(vec![Refused(999)]));
    }

    #[test]
    fn fail_without_a_reason_refuses_the_request() {
        let body = r#"{"status":"fail","processed":0,"unprocessed":[]}"#;
        check(200, body, 1, &Response::Refused(200));
    }

    #[test]
    fn a_refusal_of_an_unclear_record_is_unreadable() {
        for text in ["no number", "Skipped record number : 9", "Skipped record number : 0"] {
            let body = format!(
                r#"{{"status":"partial","processed":1,"unprocessed":[{}]}}"#,
                refusal(512, text)
            );
            check(200, &body, 2, &Response::Unreadable);
        }
    }

    #[test]
    fn a_200_of_another_shape_is_unreadable() {
        for body in
            ["", "OK", "<html>", "[]", "{}", r#"{"status":"maybe"}"#, r#"{"status":"partial"}"#]
        {
            check(200, body, 1, &Response::Unreadable);
        }
    }

    #[test]
    fn wrong_credentials_inside_a_200_are_recognised() {
        let body = r#"{"status":"fail","error":"Account ID is not valid","code":401}"#;
        check(200, body, 1, &Response::Unauthorized(401));
    }

    #[test]
    fn other_statuses_are_grouped_by_what_helps() {
        for (status, expected) in [
            (400, Response::Refused(400)),
            (413, Response::Refused(413)),
            (422, Response::Refused(422)),
            (401, Response::Unauthorized(401)),
            (403, Response::Unauthorized(403)),
            (404, Response::Unauthorized(404)),
            (429, Response::Busy(429)),
            (500, Response::Busy(500)),
            (503, Response::Busy(503)),
            (302, Response::Unexpected(302)),
            (204, Response::Unexpected(204)),
            (408, Response::RetryLater(408)),
            (425, Response::RetryLater(425)),
        ] {
            check(status, "", 1, &expected);
        }
    }
}
