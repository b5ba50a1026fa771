//! CleverTap's regions, their API hosts, and the ways people write them.
//!
//! It does not know whether an account is in a region; CleverTap answers a wrong region with 401.
//! Source: <https://developer.clevertap.com/docs/api-overview> ("Region").

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// As in the addresses of dashboard and API.
    pub code: &'static str,
    /// As on CleverTap's pages.
    pub name: &'static str,
    /// The API host, which takes uploads.
    pub host: &'static str,
    aliases: &'static [&'static str],
}

#[rustfmt::skip]
pub const REGIONS: &[Region] = &[
    Region { code: "in1", name: "India", host: "in1.api.clevertap.com", aliases: &["in"] },
    Region { code: "sg1", name: "Singapore", host: "sg1.api.clevertap.com", aliases: &["sg"] },
    Region { code: "us1", name: "United States", host: "us1.api.clevertap.com", aliases: &["us", "usa"] },
    Region { code: "aps3", name: "Indonesia", host: "aps3.api.clevertap.com", aliases: &[] },
    Region { code: "mec1", name: "Middle East (UAE)", host: "mec1.api.clevertap.com", aliases: &["middle east", "uae"] },
    // The default region is the only one whose host has no prefix; some tools call it global.
    Region { code: "eu1", name: "Europe", host: "api.clevertap.com", aliases: &["eu", "eu1.api.clevertap.com", "global"] },
    // Other integrations use it, though it is not in the official table.
    Region { code: "sk1", name: "South Korea", host: "sk1.api.clevertap.com", aliases: &["korea"] },
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a CleverTap region")]
pub struct UnknownRegion;

impl Region {
    /// Reads a code, a name, an API host, or a dashboard address copied from the browser.
    pub fn parse(text: &str) -> Result<Self, UnknownRegion> {
        let text = text.trim().to_lowercase();
        let host = host_of(&text);
        let code = host.strip_suffix(".dashboard.clevertap.com");
        REGIONS
            .iter()
            .find(|region| {
                code.unwrap_or(host) == region.code
                    || host == region.host
                    || text == region.name.to_lowercase()
                    || region.aliases.contains(&host)
            })
            .copied()
            .ok_or(UnknownRegion)
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.code, self.name)
    }
}

fn host_of(text: &str) -> &str {
    let without_scheme = text.split_once("://").map_or(text, |(_, rest)| rest);
    let end = without_scheme.find(['/', '?', '#', ':']).unwrap_or(without_scheme.len());
    &without_scheme[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, UnknownRegion>) {
        let host = Region::parse(text).map(|region| region.host);
        assert_eq!(host, expected, "{text}");
    }

    #[test]
    fn every_region_is_found_by_code_name_host_and_dashboard() {
        for Region { code, name, host, .. } in REGIONS {
            for text in [
                (*code).to_owned(),
                code.to_uppercase(),
                (*name).to_owned(),
                format!(" {} ", name.to_uppercase()),
                (*host).to_owned(),
                format!("https://{host}/1/upload"),
                format!("https://{code}.dashboard.clevertap.com/TEST-123/settings?x=1"),
                format!("{code}.dashboard.clevertap.com"),
            ] {
                check(&text, Ok(host));
            }
        }
    }

    #[test]
    fn europe_is_the_host_without_a_prefix() {
        for text in ["eu", "EU1", "Europe", "eu1.api.clevertap.com", "Global"] {
            check(text, Ok("api.clevertap.com"));
        }
    }

    #[test]
    fn any_other_text_is_no_region() {
        for text in [
            "",
            "mars",
            "in2",
            "https://in1.example.com",
            "in1.api.clevertap.com.example.com",
        ] {
            check(text, Err(UnknownRegion));
        }
    }
}
