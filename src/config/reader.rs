//! Reads single variables: required ones, choices, lists, renames, addresses.
//!
//! It does not know the rules that relate one variable to another; errors and warnings are collected.

use super::{ConfigError, SignaturePolicy, default_of};
use crate::clevertap::{REGIONS, Region, limits::NameProblem};
use crate::http;
use ::http::HeaderValue;
use reqwest::Url;
use rustls::RootCertStore;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

/// 21 days: Purchasely retries for 20 days and 10 hours, and may not sign a retry again.
const MIN_TOLERANCE_SECONDS: u64 = 21 * 86_400;
/// How long a claim is kept: after that, a recorded webhook could be sent again.
const MAX_TOLERANCE_SECONDS: u64 = 30 * 86_400;

pub struct Reader<'l> {
    lookup: &'l dyn Fn(&str) -> Option<String>,
    pub errors: Vec<ConfigError>,
    pub warnings: Vec<String>,
}

impl<'l> Reader<'l> {
    pub fn new(lookup: &'l dyn Fn(&str) -> Option<String>) -> Self {
        Self { lookup, errors: Vec::new(), warnings: Vec::new() }
    }

    /// A variable's value without surrounding white space, if there is one.
    pub fn value(&self, variable: &str) -> Option<String> {
        let value = (self.lookup)(variable)?;
        let trimmed = value.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }

    pub fn error(&mut self, variable: &'static str, problem: impl Into<String>) {
        self.errors.push(ConfigError { variable, problem: problem.into() });
    }

    /// Reports an error in place of a value.
    fn invalid<T>(&mut self, variable: &'static str, problem: impl Into<String>) -> Option<T> {
        self.error(variable, problem);
        None
    }

    pub fn required(&mut self, variable: &'static str, allowed: &str) -> Option<String> {
        let value = self.value(variable);
        value.or_else(|| self.invalid(variable, format!("is not set; set it to {allowed}")))
    }

    /// The value of a variable, or its default.
    pub fn value_or_default(&self, variable: &str) -> String {
        self.value(variable).unwrap_or_else(|| default_of(variable).to_owned())
    }

    /// The value of the allowed word.
    pub fn choice<T: Copy>(&mut self, variable: &'static str, allowed: &[(&str, T)]) -> T {
        let value = self.value_or_default(variable);
        let mut choices = allowed.iter();
        if let Some((_, choice)) = choices.find(|(word, _)| word.eq_ignore_ascii_case(&value)) {
            return *choice;
        }
        let words: Vec<_> = allowed.iter().map(|(word, _)| *word).collect();
        let allowed_words = words.join(" or ");
        self.error(variable, format!("is `{value}`; set it to {allowed_words}"));
        allowed[0].1
    }

    /// The root certificates of a PEM file; the compiled-in ones if the variable is not set.
    pub fn roots(&mut self, variable: &'static str) -> Option<RootCertStore> {
        let file = self.value(variable);
        match http::roots(file.as_deref().map(Path::new)) {
            Ok(roots) => Some(roots),
            Err(why) => {
                let file = file.unwrap_or_default();
                let problem = format!(
                    "is `{file}`, whose certificates cannot be read ({why}); set it to a PEM file"
                );
                self.invalid(variable, problem)
            }
        }
    }

    /// The words of a list separated by commas, semicolons or white space.
    pub fn words(&self, variable: &str) -> Vec<String> {
        let value = self.value(variable).unwrap_or_default();
        value
            .split(|c: char| c == ',' || c == ';' || c.is_whitespace())
            .filter(|word| !word.is_empty())
            .map(str::to_owned)
            .collect()
    }

    /// `SOURCE=Target` pairs separated by semicolons or line breaks, by source.
    pub fn renames(
        &mut self,
        variable: &'static str,
        normalize_source: fn(&str) -> String,
        check: impl Fn(&str) -> Result<(), NameProblem>,
    ) -> BTreeMap<String, String> {
        const FORM: &str = "write PURCHASELY_NAME=CleverTap name, separated by semicolons";
        let mut names = BTreeMap::new();
        let value = self.value(variable).unwrap_or_default();
        for pair in value.split([';', '\n']).map(str::trim) {
            if pair.is_empty() {
                continue;
            }
            let (source, target) = match pair.split_once('=') {
                None => {
                    self.error(variable, format!("`{pair}` has no equals sign; {FORM}"));
                    continue;
                }
                Some((source, target)) => (normalize_source(source.trim()), target.trim()),
            };
            if target.contains('=') {
                let problem = format!("`{pair}` has two equals signs; {FORM}");
                self.error(variable, problem);
            } else if source.is_empty() {
                let problem = format!("`{pair}` has no name before the equals sign; {FORM}");
                self.error(variable, problem);
            } else if let Err(problem) = check(target) {
                let problem =
                    format!("the name for {source}, `{target}`, {problem}; use another name");
                self.error(variable, problem);
            } else if names.insert(source.clone(), target.to_owned()).is_some() {
                self.error(variable, format!("{source} is renamed twice; keep one of the two"));
            }
        }
        names
    }

    pub fn region(&mut self, variable: &'static str) -> Option<Region> {
        let codes: Vec<_> = REGIONS.iter().map(|region| region.code).collect();
        let allowed = format!(
            "a code ({}), a region's name, the API host, or the dashboard's address copied from the browser",
            codes.join(", ")
        );
        let value = self.required(variable, &allowed)?;
        Region::parse(&value).map_or_else(
            |problem| self.invalid(variable, format!("`{value}` {problem}; set it to {allowed}")),
            Some,
        )
    }

    /// An account id as an HTTP header.
    pub fn account_id(&mut self, variable: &'static str, id: &str) -> Option<HeaderValue> {
        if id.bytes().all(|byte| byte.is_ascii_graphic())
            && let Ok(id) = HeaderValue::from_str(id)
        {
            return Some(id);
        }
        self.invalid(
            variable,
            "contains white space or a character that is not printable ASCII; it looks like ABC-123-4567",
        )
    }

    pub fn signature(&mut self) -> SignaturePolicy {
        const TOLERANCE: &str = "PURCHASELY_SIGNATURE_TOLERANCE_SECONDS";
        let is_required =
            self.choice("PURCHASELY_SIGNATURE", &[("required", true), ("off", false)]);
        let seconds = self.value_or_default(TOLERANCE).parse();
        if seconds.is_err() {
            self.error(TOLERANCE, "is not a whole number of seconds; 0 is no limit");
        }
        if !is_required {
            self.warnings.push(
                "PURCHASELY_SIGNATURE is off: anyone who knows the address can raise events in CleverTap"
                    .to_owned(),
            );
            return SignaturePolicy::Off;
        }
        let tolerance = seconds.ok().filter(|seconds| *seconds > 0);
        match tolerance {
            Some(..MIN_TOLERANCE_SECONDS) => self.warnings.push(format!(
                "{TOLERANCE} is below 21 days: Purchasely's later retries may be rejected if it does not sign them again"
            )),
            Some(seconds) if seconds > MAX_TOLERANCE_SECONDS => self.warnings.push(format!(
                "{TOLERANCE} is over 30 days: a recorded webhook can raise its event again once its claim has expired"
            )),
            _ => {}
        }
        SignaturePolicy::Required { tolerance: tolerance.map(Duration::from_secs) }
    }

    pub fn queue_url(&mut self, variable: &'static str) -> Option<String> {
        let value = self.value(variable)?;
        let url = Url::parse(&value).ok();
        if url.is_some_and(|url| url.has_host() && url.path().len() > 1) {
            return Some(value);
        }
        self.invalid(
            variable,
            "is not a queue's URL; it looks like https://sqs.eu-west-1.amazonaws.com/123456789012/events.fifo",
        )
    }

    /// A URL that webhooks may be sent to. It may hold a token, so no message repeats it.
    pub fn forward_url(&mut self, variable: &'static str) -> Option<String> {
        let value = self.value(variable)?;
        let Ok(url) = Url::parse(&value) else {
            return self.invalid(
                variable,
                "is not a URL; it looks like https://backend.example.com/webhooks/purchasely",
            );
        };
        if !is_safe(&url) {
            return self.invalid(variable, "must be https, or http on a loopback address");
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return self.invalid(
                variable,
                "has a user, a password or a fragment, which are not sent; put a token into the path or the query",
            );
        }
        Some(url.into())
    }

    /// A URL of scheme and authority that a passcode may be sent to.
    pub fn origin(&mut self, variable: &'static str) -> Option<String> {
        const EXAMPLE: &str = "it looks like https://in1.api.clevertap.com";
        let value = self.value(variable)?;
        let Ok(url) = Url::parse(&value) else {
            return self.invalid(variable, format!("is not a URL; {EXAMPLE}"));
        };
        let origin = url.origin().ascii_serialization();
        if url.as_str() != format!("{origin}/") {
            return self.invalid(variable, format!("is not scheme and host only; {EXAMPLE}"));
        }
        if is_safe(&url) {
            return Some(origin);
        }
        self.invalid(
            variable,
            "must be https, or http on a loopback address, because the passcode is sent there",
        )
    }
}

/// Whether nobody on the way can read what is sent there.
fn is_safe(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        host == "localhost" || address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    url.has_host() && (url.scheme() == "https" || url.scheme() == "http" && is_loopback)
}
