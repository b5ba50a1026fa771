//! What was found: one word for each kind of check, how bad it is, what it means and how to mend it.
//! It does not know how anything is checked.

#![allow(
    dead_code,
    reason = "each program that includes this file uses another part of it"
)]

use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write;

/// A kind of check. Its word is stable; the README lists all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    Rustc,
    RustTarget,
    CargoLambda,
    Zig,
    Sam,
    AwsCli,
    Python,
    EnvFile,
    Setting,
    UnknownVariable,
    Promise,
    Settings,
    RootCertificates,
    Secret,
    SandboxPasscode,
    Clevertap,
    ClevertapSandbox,
    Clock,
    AwsAccess,
    Stack,
    Template,
    Function,
    EventSource,
    Queue,
    ClaimsTable,
    Webhook,
    WebhookSecret,
}

/// Every check with its word, under the heading that it is told under. In the order of the answer.
#[rustfmt::skip]
pub const CHECKS: &[(Check, &str, &str)] = &[
    (Check::Rustc, "rustc", "Tools"),
    (Check::RustTarget, "rust_target", "Tools"),
    (Check::CargoLambda, "cargo_lambda", "Tools"),
    (Check::Zig, "zig", "Tools"),
    (Check::Sam, "sam", "Tools"),
    (Check::AwsCli, "aws_cli", "Tools"),
    (Check::Python, "python3", "Tools"),
    (Check::AwsAccess, "aws_access", "Deployed"),
    (Check::Stack, "stack", "Deployed"),
    (Check::Template, "template", "Deployed"),
    (Check::Function, "function", "Deployed"),
    (Check::EventSource, "event_source", "Deployed"),
    (Check::Queue, "queue", "Deployed"),
    (Check::ClaimsTable, "claims_table", "Deployed"),
    (Check::EnvFile, "env_file", "Settings"),
    (Check::Setting, "setting", "Settings"),
    (Check::UnknownVariable, "unknown_variable", "Settings"),
    (Check::Promise, "promise", "Settings"),
    (Check::RootCertificates, "root_certificates", "Settings"),
    (Check::Settings, "settings", "Settings"),
    (Check::Secret, "secret", "Secret"),
    (Check::SandboxPasscode, "sandbox_passcode", "Secret"),
    (Check::Clevertap, "clevertap", "CleverTap"),
    (Check::ClevertapSandbox, "clevertap_sandbox", "CleverTap"),
    (Check::Webhook, "webhook", "Webhook"),
    (Check::WebhookSecret, "webhook_secret", "Webhook"),
    (Check::Clock, "clock", "Clock"),
];

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// It works, or it cannot be told from here.
    Warning,
    /// Webhooks are not relayed, or a promise is broken.
    Error,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub check: Check,
    pub level: Level,
    /// What it is, in a sentence.
    pub what: String,
    /// What to do about it; `None` where there is nothing to do.
    pub fix: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Check {
    /// Its word.
    pub fn word(self) -> &'static str {
        row(self).1
    }

    fn heading(self) -> &'static str {
        row(self).2
    }

    fn place(self) -> usize {
        CHECKS
            .iter()
            .position(|(check, ..)| *check == self)
            .unwrap_or(CHECKS.len())
    }
}

fn row(check: Check) -> &'static (Check, &'static str, &'static str) {
    CHECKS
        .iter()
        .find(|(known, ..)| *known == check)
        .expect("every check is listed")
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Findings {
    /// It is as it should be.
    pub fn ok(&mut self, check: Check, what: impl Into<String>) {
        self.add(check, Level::Ok, what.into(), None);
    }

    /// It works, or it cannot be told from here.
    pub fn warning(&mut self, check: Check, what: impl Into<String>, fix: impl Into<String>) {
        self.add(check, Level::Warning, what.into(), Some(fix.into()));
    }

    /// Webhooks are not relayed, or a promise is broken.
    pub fn error(&mut self, check: Check, what: impl Into<String>, fix: impl Into<String>) {
        self.add(check, Level::Error, what.into(), Some(fix.into()));
    }

    fn add(&mut self, check: Check, level: Level, what: String, fix: Option<String>) {
        self.0.push(Finding {
            check,
            level,
            what,
            fix,
        });
    }

    /// Whether nothing of this kind was found to be amiss.
    pub fn is_clean(&self, check: Check) -> bool {
        let mut of = self.0.iter().filter(|finding| finding.check == check);
        of.all(|finding| finding.level == Level::Ok)
    }

    /// The worst level of all.
    pub fn worst(&self) -> Level {
        let levels = self.0.iter().map(|finding| finding.level);
        levels.max().unwrap_or(Level::Ok)
    }

    /// One line per finding, under headings, and one for all.
    pub fn text(&self) -> String {
        let width = CHECKS.iter().map(|(_, word, _)| word.len()).max();
        let width = width.unwrap_or_default();
        let mut text = String::new();
        let mut heading = "";
        for finding in self.ordered() {
            if finding.check.heading() != heading {
                heading = finding.check.heading();
                let _ = writeln!(text, "{heading}");
            }
            let Finding {
                check, level, what, ..
            } = finding;
            let _ = writeln!(
                text,
                "  {:<7}  {:<width$}  {what}",
                level.word(),
                check.word()
            );
            if let Some(fix) = &finding.fix {
                let _ = writeln!(text, "  {:<7}  {:<width$}  → {fix}", "", "");
            }
        }
        let [ok, warnings, errors] = self.counts();
        let _ = writeln!(text, "\n{ok} ok, {warnings} to look at, {errors} wrong");
        text
    }

    /// The same as one object.
    pub fn json(&self) -> Value {
        let [ok, warning, error] = self.counts();
        let findings: Vec<_> = self
            .ordered()
            .iter()
            .map(|finding| {
                json!({
                    "id": finding.check.word(),
                    "level": finding.level,
                    "what": finding.what,
                    "fix": finding.fix,
                })
            })
            .collect();
        json!({
            "findings": findings,
            "summary": { "ok": ok, "warning": warning, "error": error },
        })
    }

    fn ordered(&self) -> Vec<&Finding> {
        let mut findings: Vec<_> = self.0.iter().collect();
        findings.sort_by_key(|finding| finding.check.place());
        findings
    }

    fn counts(&self) -> [usize; 3] {
        [Level::Ok, Level::Warning, Level::Error]
            .map(|level| self.0.iter().filter(|found| found.level == level).count())
    }
}
