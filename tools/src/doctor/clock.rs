//! This machine's clock against the `Date` of an answer. It does not know whose answer it is.

use crate::finding::{Check, Findings};
use std::time::{Duration, SystemTime};
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

/// From here on a signature with a tolerance begins to be refused.
const NOTED: Duration = Duration::from_mins(1);
/// From here on AWS refuses what this machine signs.
const REFUSED: Duration = Duration::from_mins(5);

/// When an answer came, by both clocks.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Who answered.
    pub by: String,
    /// The header `Date`, in whole seconds.
    pub date: OffsetDateTime,
    /// When it was asked and answered, by this machine.
    pub asked: OffsetDateTime,
    pub answered: OffsetDateTime,
}

impl Reading {
    /// Reads an answer's `Date`, if it has one.
    pub fn of(by: &str, response: &reqwest::Response, asked: SystemTime) -> Option<Self> {
        let date = response.headers().get(http::header::DATE)?.to_str().ok()?;
        Some(Self {
            by: by.to_owned(),
            date: OffsetDateTime::parse(date, &Rfc2822).ok()?,
            asked: asked.into(),
            answered: SystemTime::now().into(),
        })
    }

    /// How far this machine is ahead; negative if it is behind.
    fn ahead(&self) -> time::Duration {
        // The answer was dated within this second, somewhere between asking and answering.
        let latest = self.date + time::Duration::SECOND;
        if self.asked > latest {
            self.asked - latest
        } else if self.answered < self.date {
            self.answered - self.date
        } else {
            time::Duration::ZERO
        }
    }
}

/// Judges the clock by the first reading there is.
pub fn check(reading: &Reading, findings: &mut Findings) {
    const SET: &str = "let the system set its clock (`timedatectl set-ntp true`, or the settings for date and time)";
    let ahead = reading.ahead();
    let off = ahead.unsigned_abs();
    let side = if ahead.is_negative() {
        "behind"
    } else {
        "ahead of"
    };
    let Reading { by, .. } = reading;
    if off > REFUSED {
        findings.error(
            Check::Clock,
            format!(
                "this machine is {} s {side} {by}: AWS refuses what it signs",
                off.as_secs()
            ),
            SET,
        );
    } else if off > NOTED {
        findings.warning(
            Check::Clock,
            format!("this machine is {} s {side} {by}: what it signs may be refused with PURCHASELY_SIGNATURE_TOLERANCE_SECONDS", off.as_secs()),
            SET,
        );
    } else {
        findings.ok(Check::Clock, format!("agrees with {by}"));
    }
}
