//! The function's settings, with placeholders for those that only say where to send.
//! It does not know where variables are kept: it reads through a lookup, like the function.

use purchasely_clevertap::config::{Config, ConfigError};

/// Required by the function; mapping does not need them, apart from an account id that begins `TEST-`.
const PLACEHOLDERS: &[(&str, &str)] = &[
    ("CLEVERTAP_REGION", "in1"),
    ("CLEVERTAP_ACCOUNT_ID", "PLACEHOLDER"),
    ("SECRET_ID", "placeholder"),
];

/// What was read.
pub struct Settings {
    /// The settings, or everything that is wrong with them.
    pub config: Result<Config, Vec<ConfigError>>,
    /// The variables that a placeholder stands in for.
    pub missing: Vec<&'static str>,
}

/// Reads what the function would read.
pub fn read(lookup: impl Fn(&str) -> Option<String>) -> Settings {
    // To the function an empty variable is an absent one.
    let given = |name: &str| lookup(name).filter(|value| !value.trim().is_empty());
    let missing: Vec<_> = PLACEHOLDERS
        .iter()
        .filter(|(name, _)| given(name).is_none())
        .collect();
    let config = Config::from_env(|name| {
        let placeholder = || missing.iter().find(|(missing, _)| *missing == name);
        given(name).or_else(|| placeholder().map(|(_, value)| (*value).to_owned()))
    });
    Settings {
        config,
        missing: missing.iter().map(|(name, _)| *name).collect(),
    }
}

impl Settings {
    /// Says which variables are missing and what that may change.
    pub fn note(&self) -> Option<String> {
        if self.missing.is_empty() {
            return None;
        }
        let names = self.missing.join(", ");
        let mut note =
            format!("{names} not set: placeholders are used, because mapping does not need them");
        if self.missing.contains(&"CLEVERTAP_ACCOUNT_ID") {
            note += " (apart from an account id that begins TEST-, which takes sandbox events)";
        }
        Some(note)
    }
}
