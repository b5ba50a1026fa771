//! The rows for CleverTap's answers. It does not know how a row is delivered.

use super::{
    AGAIN, ALWAYS, AT_ONCE, Answer, BATCH, EVENT, Given, ONE_USER, PROFILE, REDRIVEN, Row,
    WITH_PROFILE, WITH_REVENUE, row,
};
use std::time::Duration;
use testkit::world::clevertap::Reply;

fn reply(text: impl Into<String>, reply: Reply) -> Answer {
    Answer::new(text, Given::ByCleverTap(reply))
}

pub fn status(status: u16) -> Answer {
    reply(status.to_string(), Reply::Status(status))
}

fn body_with(status: u16, body: &str) -> Answer {
    reply(format!("{status} `{body}`"), Reply::Answer { status, body: body.to_owned() })
}

fn ok(body: &str) -> Answer {
    body_with(200, body)
}

/// A `fail` with a code and nothing else.
fn fail(code: &str) -> Answer {
    ok(&format!(r#"{{"status":"fail","code":{code}}}"#))
}

/// An answer whose refusals name a record by its number, or none (0).
pub fn named(status: &str, refusals: &[(usize, u16)]) -> Answer {
    let refusal = |(number, code): &(usize, u16)| match number {
        0 => format!(r#"{{"code":{code},"error":null}}"#),
        _ => format!(r#"{{"code":{code},"error":"Skipped record number : {number}"}}"#),
    };
    let refusals: Vec<_> = refusals.iter().map(refusal).collect();
    ok(&format!(r#"{{"status":"{status}","unprocessed":[{}]}}"#, refusals.join(",")))
}

fn closed() -> Answer {
    reply("closed", Reply::CloseBeforeAnswer)
}

fn reset() -> Answer {
    reply("reset", Reply::ResetBeforeAnswer)
}

fn silent() -> Answer {
    reply("no answer", Reply::Silent)
}

fn accepted() -> Answer {
    reply("accepted", Reply::Normal)
}

fn redirect(status: u16) -> Answer {
    let location = "http://127.0.0.1:9/1/upload".to_owned();
    reply(format!("{status} with a `Location`"), Reply::Redirect { status, location })
}

pub fn rows() -> Vec<Row> {
    let parts = [repeated(), not_repeated(), refused(), profiles(), revenue(), batches()];
    parts.into_iter().flatten().collect()
}

#[rustfmt::skip]
fn repeated() -> Vec<Row> {
    let relayed = |answers: &[Answer], uploads| {
        row(EVENT, answers.to_vec(), uploads, "200 relayed", "relayed", "")
    };
    let failed = |answers: &[Answer], uploads, reason| {
        row(EVENT, answers.to_vec(), uploads, "503", reason, "")
    };
    let slow = reply("accepted after 2 s", Reply::Slow(Duration::from_secs(2)));
    vec![
        // Accepted.
        relayed(&[ok(r#"{"status":"success","processed":1,"unprocessed":[]}"#)], "event"),
        relayed(&[ok(r#"{"status":"success","unprocessed":null}"#)], "event"),
        relayed(&[ok(r#"{"status":"Success"}"#)], "event"),
        relayed(std::slice::from_ref(&slow), "event"),
        // Surely not stored: sent again, up to four times in all.
        relayed(&[status(429)], "event ×2"),
        relayed(&[status(429).times(3)], "event ×4"),
        failed(&[status(429).times(ALWAYS)], "event ×4", "busy"),
        relayed(&[named("fail", &[(1, 555)])], "event ×2"),
        failed(&[named("fail", &[(1, 555)]).times(ALWAYS)], "event ×4", "busy"),
        relayed(&[ok(r#"{"status":"fail","unprocessed":[{"code":"555","error":null}]}"#)], "event ×2"),
        relayed(&[named("fail", &[(1, 429)]), named("fail", &[(1, 500)]), named("fail", &[(0, 503)])], "event ×4"),
        // Probably not stored: sent again once.
        relayed(&[status(503)], "event ×2"),
        failed(&[status(503).times(ALWAYS)], "event ×2", "busy"),
        relayed(&[closed()], "event ×2"),
        failed(&[closed().times(ALWAYS)], "event ×2", "connection_lost"),
        relayed(&[reset()], "event ×2"),
        failed(&[reset().times(ALWAYS)], "event ×2", "connection_lost"),
        failed(&[status(503), closed().times(ALWAYS)], "event ×2", "connection_lost"),
        failed(&[closed(), status(503).times(ALWAYS)], "event ×2", "busy"),
        relayed(&[status(429), closed(), named("fail", &[(1, 555)])], "event ×4"),
    ]
}

#[rustfmt::skip]
fn not_repeated() -> Vec<Row> {
    let relayed = |answers: &[Answer], uploads| {
        row(EVENT, answers.to_vec(), uploads, "200 relayed", "relayed", "")
    };
    let failed = |answers: &[Answer], uploads, reason| {
        row(EVENT, answers.to_vec(), uploads, "503", reason, "")
    };
    let long = "x".repeat(3 * 1024 * 1024);
    let long = reply("200 with 3 MB", Reply::Answer { status: 200, body: long });
    let cut_short = reply("200, cut short", Reply::CutShort);
    vec![
        // Perhaps stored: not sent again in this invocation.
        failed(&[status(500)], "event", "busy"),
        failed(&[status(502)], "event", "busy"),
        failed(&[status(504)], "event", "busy"),
        failed(&[status(520)], "event", "busy"),
        failed(&[status(408)], "event", "busy"),
        failed(&[status(425)], "event", "busy"),
        failed(&[status(429), status(500)], "event ×2", "busy"),
        failed(&[silent()], "event", "timed_out"),
        failed(&[cut_short], "event", "timed_out"),
        failed(&[long], "event", "timed_out"),
        // A `fail` without records means what the status of its code means.
        failed(&[fail("500")], "event", "busy"),
        failed(&[fail("502")], "event", "busy"),
        failed(&[fail("504")], "event", "busy"),
        failed(&[fail("408")], "event", "busy"),
        failed(&[fail(r#""500""#)], "event", "busy"),
        relayed(&[fail("503")], "event ×2"),
        relayed(&[fail(r#""503""#)], "event ×2"),
        failed(&[fail("503").times(ALWAYS)], "event ×2", "busy"),
        relayed(&[fail("429")], "event ×2"),
        failed(&[fail("429").times(ALWAYS)], "event ×4", "busy"),
        relayed(&[fail("555")], "event ×2"),
        failed(&[fail("555").times(ALWAYS)], "event ×4", "busy"),
        failed(&[fail("401")], "event", "credentials_rejected"),
        failed(&[fail("403")], "event", "credentials_rejected"),
        failed(&[fail("404")], "event", "credentials_rejected"),
        // Too many uploads, in words.
        relayed(&[ok(r#"{"status":"fail","error":"Too many concurrent requests"}"#)], "event ×2"),
        // Neither a code nor a record: sent again as it was, and later for a day.
        relayed(&[ok(r#"{"status":"fail","processed":0,"unprocessed":[]}"#)], "event ×2"),
        failed(&[ok(r#"{"status":"fail","unprocessed":[{}]}"#).times(ALWAYS)], "event ×2", "unexplained"),
        failed(&[ok(r#"{"status":"fail","unprocessed":["no"]}"#).times(ALWAYS)], "event ×2", "unexplained"),
        failed(&[ok(r#"{"status":"fail","error":null,"code":null}"#).times(ALWAYS)], "event ×2", "unexplained"),
        // The operator must act.
        failed(&[status(401)], "event", "credentials_rejected"),
        failed(&[status(403)], "event", "credentials_rejected"),
        failed(&[status(404)], "event", "credentials_rejected"),
        // Not an answer of the upload API.
        failed(&[ok("<html>")], "event", "unexpected_response"),
        failed(&[ok("")], "event", "unexpected_response"),
        failed(&[ok("OK")], "event", "unexpected_response"),
        failed(&[ok("[]")], "event", "unexpected_response"),
        failed(&[ok("{}")], "event", "unexpected_response"),
        failed(&[ok(r#"{"status":"maybe"}"#)], "event", "unexpected_response"),
        failed(&[body_with(202, r#"{"status":"success"}"#)], "event", "unexpected_response"),
        failed(&[body_with(204, "")], "event", "unexpected_response"),
        failed(&[redirect(302)], "event", "unexpected_response"),
        failed(&[redirect(307)], "event", "unexpected_response"),
        failed(&[status(418)], "event", "unexpected_response"),
    ]
}

#[rustfmt::skip]
fn refused() -> Vec<Row> {
    let refused = |answer: Answer, letter| {
        row(EVENT, [answer], "event", "200 dead_lettered", "refused", letter)
    };
    vec![
        // Refused.
        refused(status(400), "refused 400"),
        refused(status(413), "refused 413"),
        refused(status(422), "refused 422"),
        refused(named("fail", &[(1, 513)]), "refused 513"),
        refused(named("fail", &[(1, 999)]), "refused 999"),
        refused(named("success", &[(1, 513)]), "refused 513"),
        refused(named("fail", &[(0, 513)]), "refused 513"),
        refused(named("partial", &[(0, 512)]), "refused 512"),
        refused(named("fail", &[(9, 513)]), "refused 513"),
        refused(ok(r#"{"status":"fail","unprocessed":[{"code":"513"}]}"#), "refused 513"),
        refused(ok(r#"{"status":"fail","unprocessed":{"code":513}}"#), "refused 513"),
        refused(ok(r#"{"status":"fail","unprocessed":[{"error":"Skipped record number : 1"}]}"#), "refused 200"),
        refused(fail("512"), "refused 512"),
        // Some were stored, and it is not said which.
        row(EVENT, [ok(r#"{"status":"partial"}"#)], "event", "200 dead_lettered", "unclear", "unclear"),
        row(EVENT, [named("partial", &[(9, 512)])], "event", "200 dead_lettered", "unclear", "unclear"),
    ]
}

#[rustfmt::skip]
fn profiles() -> Vec<Row> {
    let profile = |answers: &[Answer], uploads, outcome| {
        row(WITH_PROFILE, answers.to_vec(), uploads, "200 relayed", outcome, "")
    };
    vec![
        // A profile beside an event.
        profile(&[named("partial", &[(1, 516)])], "profile+event", "relayed, profile 516"),
        profile(&[named("partial", &[(0, 514)])], "profile+event", "relayed, profile 514"),
        profile(&[named("partial", &[(0, 520)])], "profile+event", "relayed, profile 520"),
        profile(&[named("partial", &[(1, 555)])], "profile+event, profile", "relayed"),
        profile(&[named("partial", &[(1, 555)]), named("fail", &[(1, 555)])], "profile+event, profile", "relayed, profile 555"),
        profile(&[named("partial", &[(1, 555)]), status(503)], "profile+event, profile", "relayed, profile 555"),
        profile(&[named("partial", &[(1, 555)]), silent()], "profile+event, profile", "relayed, profile 555"),
        profile(&[named("partial", &[(2, 555)])], "profile+event, event", "relayed"),
        profile(&[status(429)], "profile+event ×2", "relayed"),
        profile(&[named("fail", &[(1, 555)])], "profile+event ×2", "relayed"),
        profile(&[named("fail", &[(1, 516)])], "profile+event, event", "relayed, profile 516"),
        profile(&[named("fail", &[(0, 515)])], "profile+event, event", "relayed, profile 515"),
        profile(&[fail("null")], "profile+event ×2", "relayed"),
        profile(&[fail("null").times(2)], "profile+event ×2, event", "relayed, profile 200"),
        row(WITH_PROFILE, [fail("null").times(ALWAYS)], "profile+event ×2, event", "503", "unexplained, profile 200", ""),
        profile(&[status(400)], "profile+event, event", "relayed, profile 400"),
        row(WITH_PROFILE, [status(400), status(400)], "profile+event, event", "200 dead_lettered", "refused, profile 400", "refused 400"),
        row(WITH_PROFILE, [named("partial", &[(2, 513)])], "profile+event", "200 dead_lettered", "refused", "refused 513"),
        row(WITH_PROFILE, [named("partial", &[(0, 512)])], "profile+event, profile", "200 dead_lettered", "unclear", "unclear"),
        row(WITH_PROFILE, [named("partial", &[(0, 512)]), status(503)], "profile+event, profile", "200 dead_lettered", "unclear, profile 200", "unclear"),
        row(WITH_PROFILE, [named("fail", &[(2, 513)])], "profile+event, profile", "200 dead_lettered", "refused", "refused 513"),
        row(WITH_PROFILE, [named("fail", &[(1, 516), (2, 513)])], "profile+event", "200 dead_lettered", "refused, profile 516", "refused 513"),
        // A profile without its event is required.
        row(PROFILE, [], "profile", "200 relayed", "relayed", ""),
        row(PROFILE, [named("fail", &[(0, 515)])], "profile", "200 ignored", "profile_refused, profile 515", ""),
        row(PROFILE, [status(400)], "profile", "200 ignored", "profile_refused, profile 400", ""),
        row(PROFILE, [ok(r#"{"status":"partial"}"#)], "profile", "200 ignored", "profile_refused", ""),
        row(PROFILE, [named("fail", &[(1, 555)]).times(ALWAYS)], "profile ×4", "503", "busy", ""),
    ]
}

#[rustfmt::skip]
fn revenue() -> Vec<Row> {
    vec![
        // An event and its revenue.
        row(WITH_REVENUE, [], "event+revenue", "200 relayed", "relayed", ""),
        row(AT_ONCE, [], "", "200 duplicate", "duplicate", ""),
        row(WITH_REVENUE, [named("partial", &[(2, 512)])], "event+revenue", "200 dead_lettered", "refused", "refused 512, records revenue"),
        row("… redriven, records revenue", [named("fail", &[(1, 512)])], "revenue", "none again", "refused", "refused 512, records revenue"),
        row("… redriven, records revenue", [], "revenue", "none again", "relayed", ""),
        row(REDRIVEN, [], "", "none again", "duplicate", ""),
        row(WITH_REVENUE, [named("partial", &[(1, 513)])], "event+revenue", "200 dead_lettered", "refused", "refused 513, records event"),
        row(REDRIVEN, [], "event", "none again", "relayed", ""),
        row(WITH_REVENUE, [named("partial", &[(2, 555)])], "event+revenue, revenue", "200 relayed", "relayed", ""),
        row(WITH_REVENUE, [named("partial", &[(2, 555)]), named("fail", &[(1, 555)]).times(ALWAYS)], "event+revenue, revenue ×3", "503", "busy", ""),
        row(AGAIN, [], "revenue", "200 relayed", "relayed", ""),
        row(WITH_REVENUE, [named("partial", &[(1, 555)]), status(500)], "event+revenue, event", "503", "busy", ""),
        row(AGAIN, [named("fail", &[(1, 513)])], "event", "200 dead_lettered", "refused", "refused 513, records event"),
        row(REDRIVEN, [], "event", "none again", "relayed", ""),
        row(WITH_REVENUE, [named("partial", &[(1, 513), (2, 555)])], "event+revenue, revenue", "200 dead_lettered", "refused", "refused 513, records event"),
        row(WITH_REVENUE, [named("fail", &[(2, 555)])], "event+revenue ×2", "200 relayed", "relayed", ""),
        row(WITH_REVENUE, [named("fail", &[(2, 513)])], "event+revenue", "200 dead_lettered", "refused", "refused 513"),
        row(WITH_REVENUE, [named("partial", &[(0, 512)])], "event+revenue", "200 dead_lettered", "unclear", "unclear"),
    ]
}

#[rustfmt::skip]
fn batches() -> Vec<Row> {
    vec![
        // Several events.
        row(BATCH, [], "1+2+3", "none again", "relayed ×3", ""),
        row(BATCH, [named("partial", &[(2, 513)])], "1+2+3", "none again", "relayed, refused, relayed", "2: refused 513"),
        row(BATCH, [named("partial", &[(2, 555)])], "1+2+3, 2", "none again", "relayed ×3", ""),
        row(BATCH, [named("partial", &[(2, 512), (3, 555)])], "1+2+3, 3", "none again", "relayed, refused, relayed", "2: refused 512"),
        row(BATCH, [named("fail", &[(2, 513)])], "1+2+3, 1, 3", "none again", "relayed, refused, relayed", "2: refused 513"),
        row(BATCH, [named("fail", &[(2, 513)]), status(500)], "1+2+3, 1, 3", "1 again", "busy, refused, relayed", "2: refused 513"),
        row(BATCH, [named("fail", &[(2, 555)])], "1+2+3 ×2", "none again", "relayed ×3", ""),
        row(BATCH, [named("fail", &[(0, 513)])], "1+2+3, 1, 2, 3", "none again", "relayed ×3", ""),
        row(BATCH, [fail("null").times(2), accepted(), fail("null")], "1+2+3 ×2, 1, 2, 3", "2 again", "relayed, unexplained, relayed", ""),
        row(BATCH, [status(400), accepted(), status(400)], "1+2+3, 1, 2, 3", "none again", "relayed, refused, relayed", "2: refused 400"),
        row(BATCH, [status(413)], "1+2+3, 1, 2, 3", "none again", "relayed ×3", ""),
        row(BATCH, [ok(r#"{"status":"partial"}"#)], "1+2+3", "none again", "unclear ×3", "1: unclear, 2: unclear, 3: unclear"),
        row(BATCH, [status(500)], "1+2+3", "all again", "busy ×3", ""),
        row(BATCH, [status(503)], "1+2+3 ×2", "none again", "relayed ×3", ""),
        row(BATCH, [status(429).times(ALWAYS)], "1+2+3 ×4", "all again", "busy ×3", ""),
        row(BATCH, [fail("500")], "1+2+3", "all again", "busy ×3", ""),
        row(BATCH, [closed().times(ALWAYS)], "1+2+3 ×2", "all again", "connection_lost ×3", ""),
        row(BATCH, [silent()], "1+2+3", "all again", "timed_out ×3", ""),
        row(BATCH, [ok("<html>")], "1+2+3", "all again", "unexpected_response ×3", ""),
        row(BATCH, [status(401)], "1+2+3", "all again", "credentials_rejected ×3", ""),
        // Several events of one user, one after another.
        row(ONE_USER, [], "1, 2, 3", "none again", "relayed ×3", ""),
        row(ONE_USER, [status(400), status(500)], "1, 2", "2, 3 again", "refused, busy, waiting", "1: refused 400"),
        row(ONE_USER, [named("partial", &[(1, 513)])], "1, 2, 3", "none again", "refused, relayed ×2", "1: refused 513"),
        row(ONE_USER, [named("partial", &[(1, 555)]), status(500)], "1 ×2", "all again", "busy, waiting ×2", ""),
    ]
}
