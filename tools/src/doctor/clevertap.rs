//! Asks CleverTap whether region, account and passcode belong together, by an upload that it only
//! checks. It does not know where the passcode comes from.

use crate::finding::{Check, Findings};
use http::HeaderValue;
use purchasely_clevertap::clevertap::answer::{Answer, Verdict, meaning};
use purchasely_clevertap::clevertap::client::Attempt;
use purchasely_clevertap::clevertap::{
    Client, Content, Credentials, Record, Role, UnixSeconds, User, upload_body,
};
use secrecy::SecretString;
use std::time::Duration;
use tokio::time::Instant;

/// Nobody waits for the answer as Purchasely does.
const PATIENCE: Duration = Duration::from_secs(20);
/// The user and the event that would appear if CleverTap did store it.
const USER: &str = "purchasely-clevertap-doctor";
const EVENT: &str = "Doctor Check";

const BELONG_TOGETHER: &str = "compare all three with Settings, Project of CleverTap's dashboard: the region is in the dashboard's address, and a wrong region is answered like a wrong passcode";

/// One account of CleverTap's.
pub struct Account<'a> {
    /// Which check it is.
    pub check: Check,
    /// Where it is asked, for people.
    pub host: &'a str,
    pub id: &'a HeaderValue,
    pub passcode: &'a SecretString,
}

/// Uploads one harmless record; `client` is in its dry mode.
pub async fn check(
    client: &Client,
    account: Account<'_>,
    now: UnixSeconds,
    findings: &mut Findings,
) {
    let record = Record {
        role: Role::Event,
        user: User::Identity(USER.into()),
        at: Some(now),
        content: Content::Event {
            name: EVENT.into(),
            properties: Vec::new(),
        },
    };
    let credentials = Credentials {
        account_id: account.id,
        passcode: account.passcode,
    };
    let deadline = Instant::now() + PATIENCE;
    let attempt = client
        .upload(credentials, upload_body(&[&record]), 1, deadline)
        .await;
    judge(&account, &attempt, findings);
}

fn judge(account: &Account<'_>, attempt: &Attempt, findings: &mut Findings) {
    let Account { check, host, .. } = *account;
    let id = String::from_utf8_lossy(account.id.as_bytes());
    let (status, answer) = match attempt {
        Attempt::Answered { status, answer } => (status, answer),
        Attempt::NotConnected => {
            return findings.error(
                check,
                format!("no connection to {host}"),
                "check this machine's network, DNS and proxy, and CLEVERTAP_API_URL and SSL_CERT_FILE if they are set; from the function's side the same is the log's reason `unreachable`",
            );
        }
        Attempt::ConnectionLost | Attempt::TimedOut => {
            return findings.error(
                check,
                format!("{host} took the request and did not answer"),
                "run it again; if it stays, a firewall or proxy in between holds the answer, or CleverTap has trouble",
            );
        }
    };
    match answer {
        Answer::Verdicts(verdicts) => match verdicts.first() {
            Some(Verdict::Refused(code)) => findings.warning(
                check,
                format!("{host} knows account {id} and the passcode, but refused the record: {code}, {}", meaning(*code)),
                "nothing to do for region, account and passcode; if the log's reason `refused` names the same code, see Answers in the README",
            ),
            Some(Verdict::Passing(code)) => findings.warning(
                check,
                format!("{host} knows account {id} and the passcode, but has trouble: {code}, {}", meaning(*code)),
                "run it again in a while",
            ),
            Some(Verdict::Accepted) | None => findings.ok(
                check,
                format!("{host} knows account {id} and the passcode; nothing was stored"),
            ),
        },
        Answer::Unauthorized(code) => findings.error(
            check,
            format!("{host} answered {code}: passcode, account {id} and region do not belong together"),
            BELONG_TOGETHER,
        ),
        Answer::Busy(429) => findings.warning(
            check,
            format!("{host} answered 429: something else uploads to account {id} right now"),
            "run it again; if it stays, find what uploads: CleverTap takes 15 uploads at once per account",
        ),
        Answer::Busy(code) | Answer::NotNow(code) => findings.warning(
            check,
            format!("{host} answered {code}, a fault of CleverTap's that passes"),
            "run it again in a while; Purchasely keeps the events meanwhile",
        ),
        Answer::Refused(_) | Answer::Unreadable | Answer::Unexpected(_) => findings.error(
            check,
            format!("{host} answered {status} in a way that CleverTap does not document"),
            "check CLEVERTAP_API_URL and any proxy in between: this may not be CleverTap",
        ),
    }
}
