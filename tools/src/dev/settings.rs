//! The settings with which the function on this machine maps, and what others would change for a webhook.
//! It does not know what a setting means: the function and docs/settings.md do.

use crate::Unusable;
use crate::explain::explanation::{Explanation, explain};
use crate::explain::invalid_settings;
use purchasely_clevertap::config::{Config, ConfigError, SETTINGS, environment};
use purchasely_clevertap::mapping::Rules;
use serde::Serialize;
use serde_json::json;
use std::collections::BTreeMap;

/// The first setting of the mapping in the table of settings, and the first after them.
const FIRST: &str = "EVENTS_ENABLED";
const AFTER_LAST: &str = "FORWARD_URL";

/// What the function's environment has.
pub struct Settings {
    variables: Vec<(String, String)>,
    pub rules: Rules,
}

#[derive(Serialize)]
pub struct Listed {
    name: &'static str,
    parameter: String,
    value: String,
    default: &'static str,
    about: &'static str,
}

#[derive(Serialize)]
pub struct Comparison {
    before: Explanation,
    /// None if the function would not start with these settings.
    after: Option<Explanation>,
    problems: Vec<String>,
    /// Lines for params.yaml.
    params: String,
}

impl Settings {
    /// `variables` are set for the function beside this process's own.
    pub fn read(variables: &[(&str, &str)]) -> Result<Self, Unusable> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let variables = variables.iter().map(owned).collect();
        let mut settings = Self { variables, rules: Rules::default() };
        settings.rules = settings.config(&BTreeMap::new()).map_err(invalid_settings)?.rules;
        Ok(settings)
    }

    /// The settings of the mapping.
    pub fn list(&self) -> Vec<Listed> {
        let listed = of_mapping().map(|(name, default)| Listed {
            name,
            parameter: parameter(name),
            value: self.value(name).unwrap_or_default(),
            default,
            about: meaning(name),
        });
        listed.collect()
    }

    pub fn explain(&self, name: String, body: &[u8]) -> Explanation {
        explain(name, body, &self.rules)
    }

    /// What the function does with a webhook, and what it would do with `changes`; an empty value is the default.
    pub fn compare(
        &self,
        body: &[u8],
        changes: &BTreeMap<String, String>,
    ) -> Result<Comparison, String> {
        let is_unknown = |name: &&String| of_mapping().all(|(known, _)| known != **name);
        if let Some(name) = changes.keys().find(is_unknown) {
            return Err(format!("{name} is not a setting of the mapping; /api/state lists them"));
        }
        let before = self.explain("before".to_owned(), body);
        let line =
            |(name, value): (&String, &String)| format!("{}: {}\n", parameter(name), json!(value));
        let params = changes.iter().map(line).collect();
        let (after, problems) = match self.config(changes) {
            Ok(config) => (Some(explain("after".to_owned(), body, &config.rules)), config.warnings),
            Err(errors) => (None, errors.iter().map(ToString::to_string).collect()),
        };
        Ok(Comparison { before, after, problems, params })
    }

    fn config(&self, changes: &BTreeMap<String, String>) -> Result<Config, Vec<ConfigError>> {
        Config::from_env(|name| changes.get(name).cloned().or_else(|| self.value(name)))
    }

    fn value(&self, name: &str) -> Option<String> {
        let own = self.variables.iter().find(|(own, _)| own == name);
        own.map(|(_, value)| value.clone()).or_else(|| environment(name))
    }
}

fn of_mapping() -> impl Iterator<Item = (&'static str, &'static str)> {
    let from_first = SETTINGS.iter().copied().skip_while(|(name, _)| *name != FIRST);
    from_first.take_while(|(name, _)| *name != AFTER_LAST)
}

/// The last cell of a setting's row in the documentation.
fn meaning(name: &str) -> &'static str {
    const PAGE: &str = include_str!("../../../docs/settings.md");
    let row = PAGE.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
    row.and_then(|row| row.trim_end_matches(" |").rsplit(" | ").next())
        .unwrap_or_default()
}

/// The template's parameter of a variable has the same words; the generated table in docs/settings.md checks that.
fn parameter(variable: &str) -> String {
    let words = variable.split('_').map(|word| {
        let (first, rest) = word.split_at(1);
        first.to_owned() + &rest.to_lowercase()
    });
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_of_the_mapping_are_parameters_of_the_template() {
        let template = testkit::process::repository().join("template.yaml");
        let template = std::fs::read_to_string(template).expect("template.yaml");
        for (name, _) in of_mapping() {
            let parameter = parameter(name);
            assert!(template.contains(&format!("\n  {parameter}:\n")), "{parameter}");
        }
        let names: Vec<_> = of_mapping().map(|(name, _)| name).collect();
        assert_eq!((names[0], names[names.len() - 1]), (FIRST, "CLEVERTAP_SANDBOX_ACCOUNT_ID"));
    }
}
