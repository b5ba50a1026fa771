//! Reads CleverTap's answer to an upload: a verdict for each record, or one for the whole upload.
//!
//! It does not know what a verdict means for an event. The HTTP status alone decides nothing: a 200 may
//! refuse every record (<https://developer.clevertap.com/docs/upload-events-api>, "Example Response"), and
//! what that page leaves open is read tolerantly.

use super::Role;
use crate::json::{self, Value};
use std::ops::RangeInclusive;

/// "Miscellaneous server error": the documented transient record code.
pub const TRANSIENT_CODE: u16 = 555;
/// Stands for a refusal that has no code: the status of the answer that contains it.
pub const NO_CODE: u16 = 200;
/// Codes about system fields of a profile.
const PROFILE_CODES: RangeInclusive<u16> = 514..=520;
/// All documented codes of refused records but [`TRANSIENT_CODE`]. They look like HTTP statuses.
const RECORD_CODES: RangeInclusive<u16> = 509..=528;
/// What stands before the number of a refused record.
const RECORD_NUMBER: &str = "record number";
/// Of which one is in the text of an upload that was refused because of its rate.
const BUSY_WORDS: [&str; 2] = ["too many", "concurrent"];

/// CleverTap's answer to one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// Refused with this code; sending it again changes nothing.
    Refused(u16),
    /// Refused for now.
    Transient(u16),
    /// Not stored, because the upload failed; whether this record is a cause is not said.
    Unnamed,
}

/// CleverTap's answer to an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Response {
    /// One verdict per record, in the order sent.
    Verdicts(Vec<Verdict>),
    /// Nothing was stored, and no record is named: 400, 413, 422, or a `fail` (with its code).
    Refused(u16),
    /// Nothing was stored, and neither a code nor a record says why.
    Unexplained,
    /// The account id, the passcode or the region is wrong: 401, 403, 404.
    Unauthorized(u16),
    /// Too many concurrent uploads, or a server error: 408, 425, 429, 5xx.
    Transient(u16),
    /// Some records were stored, and it is not said which.
    Unclear,
    /// A 200 whose body was cut short: the records may be stored.
    CutShort,
    /// Not an answer of CleverTap's upload API: a redirect, or a 200 without its JSON.
    Unexpected(u16),
}

/// Whether an upload may be sent again in the same invocation.
#[derive(Debug, Clone, Copy)]
pub enum Repeat {
    /// It was surely not stored.
    Yes,
    /// It was probably not stored.
    Once,
    /// It may have been stored: the sender's own retry is the next attempt.
    No,
}

/// Reads the answer to an upload of records with these roles. The body is `None` if it was cut short.
pub fn read(status: u16, body: Option<&[u8]>, roles: &[Role]) -> Response {
    match (status, body) {
        (200, None) => Response::CutShort,
        (200, Some(body)) => read_body(body, roles),
        (400 | 413 | 422, _) => Response::Refused(status),
        _ => by_code(status).unwrap_or(Response::Unexpected(status)),
    }
}

/// Statuses that ask to send the same again, of an upload or of a record.
const AGAIN: [u16; 3] = [408, 425, 429];

/// What a status means, also as the `code` of a `fail`: a gateway may put its refusal into a 200.
pub fn by_code(code: u16) -> Option<Response> {
    match code {
        401 | 403 | 404 => Some(Response::Unauthorized(code)),
        _ if AGAIN.contains(&code) => Some(Response::Transient(code)),
        500..=599 => Some(Response::Transient(code)),
        _ => None,
    }
}

/// Whether the function itself sends an upload again after it was refused for now. CleverTap rejects 429 and 555
/// before it stores anything, and usually 503; it does not document what the others mean for the records.
pub fn repeat_after(code: u16) -> Repeat {
    match code {
        429 | TRANSIENT_CODE => Repeat::Yes,
        503 => Repeat::Once,
        _ => Repeat::No,
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
        NO_CODE => "refused without a reason",
        _ => "a code that CleverTap does not document",
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "lowercase", ascii_case_insensitive)]
enum Status {
    Success,
    Partial,
    Fail,
}

/// An entry of `unprocessed`, or the answer as a whole, as far as it can be read.
struct Refusal {
    code: Option<u16>,
    /// Counted from 1.
    record_number: Option<usize>,
    /// Whether its text blames the rate of uploads.
    is_busy: bool,
}

impl Refusal {
    fn read(entry: &Value<'_>) -> Self {
        let text = entry.get("error").and_then(Value::as_text);
        let text = text.unwrap_or_default().to_ascii_lowercase();
        Self {
            code: entry.get("code").and_then(Value::parse),
            record_number: record_number(&text),
            is_busy: BUSY_WORDS.iter().any(|words| text.contains(words)),
        }
    }

    fn explains(&self) -> bool {
        self.code.is_some() || self.record_number.is_some()
    }

    fn verdict(&self) -> Verdict {
        match self.code {
            // A refused record was not stored.
            Some(code) if AGAIN.contains(&code) => Verdict::Transient(code),
            Some(code @ (500..=504 | TRANSIENT_CODE)) => Verdict::Transient(code),
            code => Verdict::Refused(code.unwrap_or(NO_CODE)),
        }
    }
}

fn read_body(body: &[u8], roles: &[Role]) -> Response {
    // An echoed record can contain anything.
    let body = String::from_utf8_lossy(body);
    let Ok(body) = json::read(body.as_bytes()) else {
        return Response::Unexpected(200);
    };
    let status = body.get("status").and_then(Value::as_text);
    let Some(status) = status.and_then(|status| status.trim().parse().ok()) else {
        return Response::Unexpected(200);
    };
    let mut refusals: Vec<_> = match body.get("unprocessed") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::List(entries)) => entries.iter().map(Refusal::read).collect(),
        Some(other) => vec![Refusal::read(other)],
    };
    if status == Status::Fail {
        let whole = Refusal::read(&body);
        if !refusals.iter().any(Refusal::explains) {
            if whole.record_number.is_none() {
                return whole_failure(
                    whole.code,
                    whole.is_busy || refusals.iter().any(|it| it.is_busy),
                );
            }
            refusals = vec![whole];
        }
        refusals.retain(Refusal::explains);
    }
    let response = match (verdicts(status, &refusals, roles), status) {
        (Some(_), Status::Partial) if refusals.is_empty() => Response::Unclear,
        (Some(verdicts), _) => Response::Verdicts(verdicts),
        (None, Status::Fail) => unplaced(&refusals, roles),
        (None, Status::Success | Status::Partial) => Response::Unclear,
    };
    let processed = body.get("processed").and_then(Value::parse::<usize>);
    if let (Response::Verdicts(verdicts), Some(processed)) = (&response, processed) {
        let accepted = verdicts.iter().filter(|verdict| **verdict == Verdict::Accepted).count();
        if accepted != processed {
            tracing::warn!(
                processed,
                accepted,
                "CleverTap's answer disagrees with itself: it processed more or fewer records than it did not refuse"
            );
        }
    }
    response
}

/// A `fail` that names no record.
fn whole_failure(code: Option<u16>, is_busy: bool) -> Response {
    match code {
        None if is_busy => Response::Transient(429),
        None => Response::Unexplained,
        Some(code) if RECORD_CODES.contains(&code) => Response::Refused(code),
        Some(code) => by_code(code).unwrap_or(Response::Refused(code)),
    }
}

/// A `fail` whose refusals are about records that cannot be told.
fn unplaced(refusals: &[Refusal], roles: &[Role]) -> Response {
    let mut verdicts = refusals.iter().map(Refusal::verdict);
    match verdicts.find(|verdict| matches!(verdict, Verdict::Transient(_))) {
        Some(transient) => Response::Verdicts(vec![transient; roles.len()]),
        None => Response::Refused(refusals.iter().find_map(|it| it.code).unwrap_or(NO_CODE)),
    }
}

/// The verdicts on all records; `None` if it is unclear which record a refusal is about.
fn verdicts(status: Status, refusals: &[Refusal], roles: &[Role]) -> Option<Vec<Verdict>> {
    let mut named = refusals.iter().map(Refusal::verdict);
    let unnamed = match status {
        Status::Success | Status::Partial => Verdict::Accepted,
        Status::Fail => named
            .find(|verdict| matches!(verdict, Verdict::Transient(_)))
            .unwrap_or(Verdict::Unnamed),
    };
    let mut verdicts = vec![unnamed; roles.len()];
    for refusal in refusals {
        *verdicts.get_mut(record_of(refusal, roles)?)? = refusal.verdict();
    }
    Some(verdicts)
}

/// The position of the record that a refusal is about: by the number in its text (the echoed record may
/// differ from what was sent), or by its code where only one record of the upload can have it.
fn record_of(refusal: &Refusal, roles: &[Role]) -> Option<usize> {
    if let Some(number) = refusal.record_number {
        return number.checked_sub(1);
    }
    let can_have = |role: Role| match refusal.code {
        Some(code) if PROFILE_CODES.contains(&code) => role == Role::Profile,
        _ => true,
    };
    let mut candidates = (0..roles.len()).filter(|&position| can_have(roles[position]));
    let first = candidates.next()?;
    candidates.next().is_none().then_some(first)
}

/// The 1-based number in "… Skipped record number : 2", wherever that stands in the text, which is in lower
/// case. Nothing else is a record's number.
fn record_number(text: &str) -> Option<usize> {
    let mut places = text.rmatch_indices(RECORD_NUMBER);
    places.find_map(|(place, words)| {
        let number = text[place + words.len()..].trim_start().strip_prefix(':')?.trim_start();
        let digits = &number[..number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len())];
        // No upload has so many records that the number does not fit.
        (!digits.is_empty()).then(|| digits.parse().unwrap_or(usize::MAX))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Role::{Event, Profile, Revenue};
    use Verdict::{Accepted, Refused, Transient, Unnamed};

    #[track_caller]
    fn check(roles: &[Role], body: &str, expected: &Response) {
        assert_eq!(&read(200, Some(body.as_bytes()), roles), expected, "{body}");
    }

    fn answer(status: &str, refusals: &[(u16, &str)]) -> String {
        let refusals: Vec<_> = refusals
            .iter()
            .map(|(code, text)| {
                format!(r#"{{"status":"fail","code":{code},"error":"{text}","record":{{}}}}"#)
            })
            .collect();
        format!(r#"{{"status":"{status}","unprocessed":[{}]}}"#, refusals.join(","))
    }

    const FIRST: &str = "No.Skipped record number : 1";
    const SECOND: &str = "No. Skipped record number : 2";
    const BOTH: &[Role] = &[Profile, Event];

    #[test]
    fn each_documented_code_has_a_meaning() {
        let whole = [400, 413, 422];
        let records = [509, 512, 513, 514, 520, 522, 523, 524, 525, 526, 528];
        for code in whole.into_iter().chain(records).chain([TRANSIENT_CODE, NO_CODE]) {
            assert_ne!(meaning(code), meaning(1), "{code}");
        }
    }

    #[test]
    fn success_accepts_every_record_however_nothing_is_written() {
        let all = Response::Verdicts(vec![Accepted, Accepted]);
        for unprocessed in [r#","unprocessed":[]"#, r#","unprocessed":null"#, ""] {
            check(BOTH, &format!(r#"{{"status":"success"{unprocessed}}}"#), &all);
        }
    }

    #[test]
    fn a_refusal_is_matched_by_its_record_number() {
        let three = &[Profile, Event, Revenue];
        let body = answer("partial", &[(555, "No.Skipped record number : 3"), (509, FIRST)]);
        let expected = Response::Verdicts(vec![Refused(509), Accepted, Transient(555)]);
        check(three, &body, &expected);
    }

    #[test]
    fn a_refusal_without_a_number_is_matched_by_its_code_or_where_there_is_one_record() {
        let body = answer("partial", &[(515, "Email is not valid")]);
        check(BOTH, &body, &Response::Verdicts(vec![Refused(515), Accepted]));
        check(
            &[Event],
            &answer("fail", &[(525, "x")]),
            &Response::Verdicts(vec![Refused(525)]),
        );
        let null = r#"{"status":"fail","unprocessed":[{"code":999,"error":null}]}"#;
        check(&[Event], null, &Response::Verdicts(vec![Refused(999)]));
        check(
            &[Event],
            &answer("fail", &[]).replace("[]", r#"[{"error":"Skipped record number : 1"}]"#),
            &Response::Verdicts(vec![Refused(200)]),
        );
        check(
            &[Event],
            r#"{"status":"fail","unprocessed":{"code":"513"}}"#,
            &Response::Verdicts(vec![Refused(513)]),
        );
    }

    #[test]
    fn what_a_fail_does_not_name_was_not_stored() {
        let body = answer("fail", &[(513, SECOND)]);
        check(BOTH, &body, &Response::Verdicts(vec![Unnamed, Refused(513)]));
        let body = answer("fail", &[(555, SECOND)]);
        check(BOTH, &body, &Response::Verdicts(vec![Transient(555), Transient(555)]));
    }

    #[test]
    fn a_fail_that_names_no_record_refuses_the_upload() {
        check(BOTH, r#"{"status":"fail","code":512}"#, &Response::Refused(512));
        check(BOTH, &answer("fail", &[(512, "which?")]), &Response::Refused(512));
        let transient = Response::Verdicts(vec![Transient(555), Transient(555)]);
        check(BOTH, &answer("fail", &[(512, "which?"), (555, "which?")]), &transient);
    }

    #[test]
    fn a_record_is_named_by_the_digits_after_record_number_and_a_colon_alone() {
        for (error, number) in [
            ("not valid.skipped record number : 2", Some(2)),
            ("skipped record number:2, see documentation", Some(2)),
            ("skipped record number : 2.", Some(2)),
            ("record number : 1 is a copy of record number : 2", Some(2)),
            ("record number : 2, see what a record number is", Some(2)),
            ("record number : 99999999999999999999999", Some(usize::MAX)),
            ("over the limit by : 1", None),
            ("record number", None),
            ("record number : two", None),
            ("1", None),
        ] {
            assert_eq!(record_number(error), number, "{error}");
        }
        let error = "No. SKIPPED RECORD NUMBER : 2, see documentation";
        let body = answer("partial", &[(509, error)]);
        check(BOTH, &body, &Response::Verdicts(vec![Accepted, Refused(509)]));
        check(BOTH, &answer("partial", &[(512, "over the limit by : 1")]), &Response::Unclear);
    }

    #[test]
    fn a_fail_without_a_code_or_a_record_number_explains_nothing_unless_it_blames_the_rate() {
        for body in [
            r#"{"status":"fail"}"#,
            r#"{"status":"fail","unprocessed":[{}]}"#,
            r#"{"status":"fail","unprocessed":["no"]}"#,
            r#"{"status":"fail","code":null,"unprocessed":[{"error":"not now"}]}"#,
        ] {
            check(&[Event], body, &Response::Unexplained);
            check(BOTH, body, &Response::Unexplained);
        }
        for body in [
            r#"{"status":"fail","error":"Too Many Concurrent requests"}"#,
            r#"{"status":"fail","unprocessed":[{"error":"concurrent uploads"}]}"#,
        ] {
            check(BOTH, body, &Response::Transient(429));
        }
        let named = r#"{"status":"fail","error":"Skipped record number : 1"}"#;
        check(BOTH, named, &Response::Verdicts(vec![Refused(200), Unnamed]));
    }

    #[test]
    fn an_echoed_record_can_contain_anything() {
        for echoed in [r#"{"plan":"gold \ud83c"}"#, r#"{"x":1e400}"#, r#"{"\udc00":1}"#] {
            let body = answer("partial", &[(514, FIRST)]).replace("{}", echoed);
            check(BOTH, &body, &Response::Verdicts(vec![Refused(514), Accepted]));
        }
        let body = answer("partial", &[(514, FIRST)]).replace("{}", "\"?\"");
        let body = body
            .into_bytes()
            .iter()
            .map(|&byte| if byte == b'?' { 0xff } else { byte })
            .collect::<Vec<_>>();
        let expected = Response::Verdicts(vec![Refused(514), Accepted]);
        assert_eq!(read(200, Some(&body), BOTH), expected);
    }

    #[test]
    fn a_status_has_any_case() {
        check(&[Event], r#"{"status":"Success"}"#, &Response::Verdicts(vec![Accepted]));
        check(BOTH, r#"{"status":"PARTIAL"}"#, &Response::Unclear);
    }

    #[test]
    fn a_record_code_is_transient_or_permanent() {
        for code in [408, 425, 429, 500, 501, 502, 503, 504, 555] {
            let expected = Response::Verdicts(vec![Accepted, Transient(code)]);
            check(BOTH, &answer("partial", &[(code, SECOND)]), &expected);
        }
        for code in [400, 401, 404, 505, 509, 528, 599] {
            let expected = Response::Verdicts(vec![Accepted, Refused(code)]);
            check(BOTH, &answer("partial", &[(code, SECOND)]), &expected);
        }
    }

    #[test]
    fn the_code_of_a_fail_means_what_the_status_means() {
        for (code, expected) in [
            (401, Response::Unauthorized(401)),
            (403, Response::Unauthorized(403)),
            (408, Response::Transient(408)),
            (429, Response::Transient(429)),
            (500, Response::Transient(500)),
            (503, Response::Transient(503)),
            (555, Response::Transient(555)),
        ] {
            check(BOTH, &format!(r#"{{"status":"fail","code":{code},"error":null}}"#), &expected);
        }
    }

    #[test]
    fn a_partial_answer_that_names_no_record_is_unclear() {
        check(BOTH, r#"{"status":"partial"}"#, &Response::Unclear);
        for text in ["no number", "Skipped record number : 9", "Skipped record number : 0"] {
            check(BOTH, &answer("partial", &[(512, text)]), &Response::Unclear);
        }
    }

    #[test]
    fn a_200_without_a_known_status_is_not_clevertaps() {
        for body in ["", "OK", "<html>", "[]", "{}", r#"{"status":"maybe"}"#, r#"{"status":null}"#]
        {
            check(&[Event], body, &Response::Unexpected(200));
        }
        assert_eq!(read(200, None, &[Event]), Response::CutShort);
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
            (408, Response::Transient(408)),
            (425, Response::Transient(425)),
            (429, Response::Transient(429)),
            (500, Response::Transient(500)),
            (503, Response::Transient(503)),
            (302, Response::Unexpected(302)),
            (204, Response::Unexpected(204)),
        ] {
            assert_eq!(read(status, None, &[Event]), expected);
            assert_eq!(read(status, Some(b"<html>"), &[Event]), expected);
        }
    }
}
