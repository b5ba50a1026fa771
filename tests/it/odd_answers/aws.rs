//! The rows for the answers of Secrets Manager, DynamoDB and SQS. It does not know how a row is delivered.

use super::clevertap::named;
use super::{
    AGAIN, ALWAYS, AT_ONCE, Answer, BATCH, EVENT, EXPIRED, Given, NO_QUEUE, OLD_DONE,
    OLD_IN_PROGRESS, REDRIVEN, Row, SECRET, UNMAPPABLE, WITH_REVENUE, row,
};
use testkit::world::faulty::Fault::{
    self, Closed, CutShort, DoneThenClosed, DoneThenSilent, DoneThenStatus, Error, Html, Reset,
    Silent,
};

/// How a call is named in the table, and the texts by which its requests are known.
type Call = (&'static str, &'static [&'static str]);

const CLAIM: Call = ("claim", &["UpdateItem", ":owner"]);
const COMPLETE: Call = ("completion", &["UpdateItem", ":done"]);
const ACCEPT: Call = ("`accepted`", &["UpdateItem", ":accepted"]);
const SEND: Call = ("SendMessage", &["SendMessage"]);
const DELAY: Call = ("ChangeMessageVisibility", &["ChangeMessageVisibility"]);
const READ: Call = ("GetSecretValue", &["GetSecretValue"]);

fn fails((call, texts): Call, fault: Fault) -> Answer {
    let what = match &fault {
        Error { status, code } => format!("{status} `{code}`"),
        DoneThenStatus(status) => format!("done, but {status}"),
        DoneThenClosed => "done, but closed".to_owned(),
        DoneThenSilent => "done, but no answer".to_owned(),
        Closed => "closed".to_owned(),
        Reset => "reset".to_owned(),
        Silent => "no answer".to_owned(),
        Html => "200 `<html>`".to_owned(),
        CutShort => "200, cut short".to_owned(),
    };
    Answer::new(format!("{call}: {what}"), Given::ByAws(texts, fault))
}

fn always(call: Call, fault: Fault) -> Answer {
    fails(call, fault).times(ALWAYS)
}

fn secret(text: &'static str) -> Answer {
    Answer::new(format!("the secret is `{text}`"), Given::Secret(text))
}

#[rustfmt::skip]
pub fn rows() -> Vec<Row> {
    const INTERNAL: Fault = Error { status: 500, code: "InternalServerError" };
    const THROTTLED: Fault = Error { status: 400, code: "ThrottlingException" };
    const DENIED: Fault = Error { status: 400, code: "AccessDeniedException" };
    const MISSING: Fault = Error { status: 400, code: "ResourceNotFoundException" };
    const NO_QUEUE_THERE: Fault = Error { status: 400, code: "AWS.SimpleQueueService.NonExistentQueue" };
    let relayed = |answers: &[Answer]| {
        row(EVENT, answers.to_vec(), "event", "200 relayed", "relayed", "")
    };
    let unclaimed = |answer| {
        row(EVENT, [answer], "event", "200 relayed", "relayed, ClaimsUnavailable", "")
    };
    let stored = |answer| {
        row(UNMAPPABLE, [answer], "", "200 dead_lettered", "unusable_name", "unusable_name")
    };
    let not_stored = |answer| {
        row(UNMAPPABLE, [answer], "", "503", "dead_letter_failed", "")
    };
    let read = |answer| row(SECRET, [answer], "event", "200 relayed", "relayed", "");
    let unread = |answer| row(SECRET, [answer], "", "503", "secret_unavailable", "");
    let duplicate = || row(AT_ONCE, [], "", "200 duplicate", "duplicate", "");
    let revenue_refused = || named("partial", &[(2, 512)]);
    let revenue_later = || [named("partial", &[(2, 555)]), named("fail", &[(1, 555)]).times(ALWAYS)];
    let with = |answers: &[Answer], more: Answer| [answers, &[more]].concat();
    vec![
        // DynamoDB: taking a claim.
        relayed(&[fails(CLAIM, DoneThenStatus(500))]),
        duplicate(),
        relayed(&[fails(CLAIM, DoneThenClosed)]),
        row(EXPIRED, [fails(CLAIM, DoneThenStatus(500))], "event", "200 relayed", "relayed", ""),
        row(EXPIRED, [fails(CLAIM, DoneThenClosed)], "event", "200 relayed", "relayed", ""),
        relayed(&[fails(CLAIM, INTERNAL).times(2)]),
        relayed(&[fails(CLAIM, THROTTLED)]),
        relayed(&[fails(CLAIM, Silent)]),
        relayed(&[fails(CLAIM, Closed)]),
        relayed(&[fails(CLAIM, Reset)]),
        relayed(&[fails(CLAIM, CutShort)]),
        unclaimed(always(CLAIM, INTERNAL)),
        unclaimed(always(CLAIM, THROTTLED)),
        unclaimed(always(CLAIM, Silent)),
        unclaimed(always(CLAIM, Reset)),
        unclaimed(fails(CLAIM, DENIED)),
        unclaimed(fails(CLAIM, MISSING)),
        unclaimed(fails(CLAIM, Html)),
        row(EXPIRED, [], "event", "200 relayed", "relayed", ""),
        duplicate(),
        row(OLD_IN_PROGRESS, [], "", "503", "in_progress", ""),
        row(OLD_DONE, [], "", "200 duplicate", "duplicate", ""),
        // DynamoDB: completing it.
        relayed(&[fails(COMPLETE, Silent)]),
        duplicate(),
        relayed(&[fails(COMPLETE, DoneThenStatus(500))]),
        duplicate(),
        relayed(&[fails(COMPLETE, Reset)]),
        duplicate(),
        row(EVENT, [always(COMPLETE, INTERNAL)], "event", "200 relayed", "relayed, ClaimsUnavailable", ""),
        row(AT_ONCE, [], "", "503", "in_progress", ""),
        row(AGAIN, [], "event", "200 relayed", "relayed", ""),
        // DynamoDB: remembering what was accepted.
        row(WITH_REVENUE, with(&revenue_later(), fails(ACCEPT, Reset)), "event+revenue, revenue ×3", "503", "busy", ""),
        row(AGAIN, [], "revenue", "200 relayed", "relayed", ""),
        row(WITH_REVENUE, with(&revenue_later(), fails(ACCEPT, Silent)), "event+revenue, revenue ×3", "503", "busy", ""),
        row(AGAIN, [], "revenue", "200 relayed", "relayed", ""),
        row(WITH_REVENUE, with(&revenue_later(), always(ACCEPT, INTERNAL)), "event+revenue, revenue ×3", "503", "busy, ClaimsUnavailable", ""),
        row(AGAIN, [], "event+revenue", "200 relayed", "relayed", ""),
        // SQS: storing a dead letter.
        stored(fails(SEND, Silent)),
        stored(fails(SEND, Closed)),
        stored(fails(SEND, Reset)),
        stored(fails(SEND, INTERNAL).times(2)),
        stored(fails(SEND, THROTTLED)),
        stored(fails(SEND, DoneThenStatus(500))),
        stored(fails(SEND, DoneThenClosed)),
        not_stored(always(SEND, Silent)),
        not_stored(always(SEND, INTERNAL)),
        not_stored(always(SEND, Reset)),
        not_stored(fails(SEND, DENIED)),
        not_stored(fails(SEND, NO_QUEUE_THERE)),
        not_stored(fails(SEND, Html)),
        row(AGAIN, [], "", "200 dead_lettered", "unusable_name", "unusable_name"),
        // Both at once.
        row(WITH_REVENUE, [revenue_refused(), fails(ACCEPT, Silent), fails(SEND, Silent)], "event+revenue", "200 dead_lettered", "refused", "refused 512, records revenue"),
        row(REDRIVEN, [], "revenue", "none again", "relayed", ""),
        row(WITH_REVENUE, [revenue_refused(), always(ACCEPT, Silent)], "event+revenue", "200 dead_lettered", "refused, ClaimsUnavailable", "refused 512, records revenue"),
        row(WITH_REVENUE, [revenue_refused(), always(SEND, Silent)], "event+revenue", "503", "dead_letter_failed", ""),
        row(AGAIN, [], "revenue", "200 relayed", "relayed", ""),
        // SQS: delaying a message.
        row(BATCH, [super::clevertap::status(500), fails(DELAY, INTERNAL).times(ALWAYS)], "1+2+3", "all again", "busy ×3", ""),
        row(BATCH, [super::clevertap::status(500), always(DELAY, Silent)], "1+2+3", "all again", "busy ×3", ""),
        row(NO_QUEUE, [super::clevertap::status(400)], "event", "503", "refused", ""),
        row(NO_QUEUE, [named("partial", &[])], "event", "503", "unclear", ""),
        // Secrets Manager.
        read(fails(READ, INTERNAL).times(2)),
        read(fails(READ, THROTTLED)),
        read(fails(READ, Silent)),
        read(fails(READ, Closed)),
        read(fails(READ, Reset)),
        read(fails(READ, CutShort)),
        unread(always(READ, INTERNAL)),
        unread(always(READ, DENIED)),
        unread(always(READ, MISSING)),
        unread(always(READ, Html)),
        unread(always(READ, Silent)),
        unread(secret("no JSON")),
        unread(secret(r#"{"clevertap_passcode":"p"}"#)),
    ]
}
