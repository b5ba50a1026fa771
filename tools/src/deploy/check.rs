//! Everything that can be wrong with the parameters, found before anything is built or uploaded.
//! It does not know AWS, and reads no file.

use super::params;
use super::template::{Broken, Evaluation, Template};
use purchasely_clevertap::config::Config;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Lambda measures the variables as JSON.
const VARIABLES_BYTES: usize = 4096;
/// How the function's sentences about a variable begin; others are about what is in it.
const VERBS: [&str; 6] = ["is ", "has ", "must ", "contains ", "lists ", "gives "];
/// A value is shown up to here.
const SHOWN: usize = 60;

/// A problem or a warning: one sentence with the reason and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Remark {
    file: String,
    /// Absent for what is missing.
    line: Option<usize>,
    parameter: Option<String>,
    text: String,
}

#[derive(Default)]
pub struct Checked {
    /// Of every parameter.
    pub values: BTreeMap<String, String>,
    pub problems: Vec<Remark>,
    pub warnings: Vec<Remark>,
}

/// Checks the text of a parameter file for a stack of this name. An error is about the template.
pub fn check(template: &Template, file: &str, text: &str, stack: &str) -> Result<Checked, String> {
    let mut check = Check {
        template,
        file,
        lines: BTreeMap::new(),
        refused: BTreeSet::new(),
        checked: Checked::default(),
    };
    if check.values(text)? {
        let values = check.checked.values.clone();
        let evaluation = Evaluation::new(template, &values, stack);
        check.stack_name(&evaluation, stack)?;
        let broken = check.rules(&evaluation)?;
        let variables = evaluation.variables()?;
        check.config(&variables, &broken);
        check.size(&variables);
    }
    let mut checked = check.checked;
    // What is missing has no line and comes last.
    let Checked { problems, warnings, .. } = &mut checked;
    problems.sort_by_key(|problem| problem.line.unwrap_or(usize::MAX));
    warnings.sort_by_key(|warning| warning.line.unwrap_or(usize::MAX));
    Ok(checked)
}

struct Check<'c> {
    template: &'c Template,
    file: &'c str,
    /// Of each parameter that the file sets.
    lines: BTreeMap<String, usize>,
    /// Parameters that have a problem of their own already.
    refused: BTreeSet<String>,
    checked: Checked,
}

impl Check<'_> {
    fn problem(&mut self, line: Option<usize>, parameter: Option<&str>, text: String) {
        self.refused.extend(parameter.map(str::to_owned));
        let remark = self.remark(line, parameter, text);
        self.checked.problems.push(remark);
    }

    fn remark(&self, line: Option<usize>, parameter: Option<&str>, text: String) -> Remark {
        let line = line.or_else(|| self.lines.get(parameter?).copied());
        let parameter = parameter.map(str::to_owned);
        Remark { file: self.file.to_owned(), line, parameter, text }
    }

    /// Reads every value and checks each alone. It is false if there is nothing to check further.
    fn values(&mut self, text: &str) -> Result<bool, String> {
        let (entries, faults) = params::read(text);
        let is_readable = !entries.is_empty() || faults.is_empty();
        for (line, text) in faults {
            let name = text
                .split(' ')
                .next()
                .filter(|name| self.template.parameters().contains_key(*name));
            let name = name.map(str::to_owned);
            self.problem(Some(line), name.as_deref(), text);
        }
        if !is_readable {
            return Ok(false);
        }
        for entry in entries {
            let (line, name) = (Some(entry.line), entry.name.as_str());
            if !self.template.parameters().contains_key(name) {
                let fix = self.similar(name).map_or_else(
                    || "look in params.example.yaml for its name".to_owned(),
                    |similar| format!("write {similar}"),
                );
                self.problem(line, None, format!("there is no parameter {name}; {fix}"));
            } else if let Some(first) = self.lines.get(name) {
                let text = format!("{name} is set in line {first} already; remove one of the two");
                self.problem(line, Some(name), text);
            } else {
                self.lines.insert(entry.name.clone(), entry.line);
                self.checked.values.insert(entry.name, entry.value);
            }
        }
        for name in self.template.parameters().keys() {
            let Some(value) = self.checked.values.get(name) else {
                let default = self.template.default_of(name);
                if default.is_none() && !self.refused.contains(name) {
                    let form = self.template.constraint(name, "")?.unwrap_or_default();
                    self.problem(None, Some(name), format!("{name} is missing; add it: {form}"));
                }
                self.checked.values.insert(name.clone(), default.unwrap_or_default());
                continue;
            };
            let text = if value.starts_with('<') && value.ends_with('>') {
                let form = value.trim_matches(['<', '>']);
                format!("{name} still has the placeholder; replace it by {form}")
            } else if let Some(form) = self.template.constraint(name, value)? {
                format!("{name} {}; it must be {form}", shown(value))
            } else {
                continue;
            };
            self.problem(None, Some(name), text);
        }
        Ok(true)
    }

    /// The parameter that a misspelled name means; settings have the same words.
    fn similar(&self, name: &str) -> Option<&String> {
        let folded = |name: &str| name.replace(['_', '-'], "").to_lowercase();
        let distance = |known: &&String| strsim::levenshtein(&folded(known), &folded(name));
        let nearest = self.template.parameters().keys().min_by_key(distance)?;
        (distance(&nearest) <= 3).then_some(nearest)
    }

    fn stack_name(&mut self, evaluation: &Evaluation<'_>, stack: &str) -> Result<(), String> {
        let longest = evaluation.longest_stack_name()?;
        if stack.len() > longest {
            let text = format!(
                "the stack's name {stack} has {} characters, and the names of its queues leave room for {longest}; choose a shorter one with --stack",
                stack.len()
            );
            self.problem(None, None, text);
        }
        Ok(())
    }

    /// What the template's rules say better than the function. Those about a refused value are silent.
    fn rules(&mut self, evaluation: &Evaluation<'_>) -> Result<Vec<Broken>, String> {
        let mut broken = evaluation.broken_rules()?;
        broken.retain(|rule| rule.parameters.is_disjoint(&self.refused));
        for rule in &broken {
            let name = self.first_named(&rule.description);
            let text = rule.description.trim_end_matches('.').to_owned();
            let remark = self.remark(None, name.as_deref(), text);
            self.checked.problems.push(remark);
        }
        Ok(broken)
    }

    /// Of the parameters in a text, the first that the file sets, else the first.
    fn first_named(&self, text: &str) -> Option<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let named: Vec<_> =
            words.filter(|word| self.template.parameters().contains_key(*word)).collect();
        let in_file = named.iter().find(|name| self.lines.contains_key(**name));
        in_file.or(named.first()).map(|&name| name.to_owned())
    }

    /// What the function itself would say at its start, with the names of parameters.
    fn config(&mut self, variables: &BTreeMap<String, String>, broken: &[Broken]) {
        match Config::from_env(|name| variables.get(name).cloned()) {
            Ok(config) => {
                for warning in config.warnings {
                    let text = self.in_parameters(&warning);
                    let name = self.first_named(&text);
                    let warning = self.remark(None, name.as_deref(), text);
                    self.checked.warnings.push(warning);
                }
            }
            Err(errors) => {
                for error in errors {
                    let names = self.behind(error.variable);
                    let is_said = |name: &String| {
                        self.refused.contains(name)
                            || broken.iter().any(|rule| rule.description.contains(name))
                    };
                    if names.iter().any(is_said) {
                        continue;
                    }
                    let is_about = |word| error.problem.starts_with(word);
                    let colon = if VERBS.iter().any(is_about) { "" } else { ":" };
                    let text = format!("{}{colon} {}", error.variable, error.problem);
                    let text = self.in_parameters(&text);
                    let remark = self.remark(None, names.first().map(String::as_str), text);
                    self.checked.problems.push(remark);
                }
            }
        }
    }

    /// The parameters that decide a variable.
    fn behind(&self, variable: &str) -> BTreeSet<String> {
        let mut variables = self.template.variables();
        let found = variables.find(|(name, _)| *name == variable);
        found.map(|(_, value)| self.template.parameters_of(value)).unwrap_or_default()
    }

    /// The function's words with the names of parameters in place of its variables'.
    fn in_parameters(&self, text: &str) -> String {
        let mut variables: Vec<_> = self.template.variables().collect();
        variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        variables.into_iter().fold(text.to_owned(), |text, (variable, value)| {
            match value.get("Ref").and_then(Value::as_str) {
                Some(parameter) => text.replace(variable, parameter),
                None => text,
            }
        })
    }

    fn size(&mut self, variables: &BTreeMap<String, String>) {
        let bytes = serde_json::json!(variables).to_string().len();
        if bytes <= VARIABLES_BYTES {
            return;
        }
        // Two names in quotes, a colon and a comma.
        let size = |(name, value): (&String, &String)| {
            (Value::from(value.as_str()).to_string().len() + name.len() + 4, name.clone())
        };
        let mut sizes: Vec<_> = variables.iter().map(size).collect();
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        let largest = sizes.first().map(|(_, name)| self.behind(name)).unwrap_or_default();
        let sizes: Vec<_> = sizes
            .iter()
            .map(|(size, name)| format!("{} {size}", self.in_parameters(name)))
            .collect();
        let text = format!(
            "the function's variables have {bytes} bytes, and Lambda allows {VARIABLES_BYTES}; shorten the largest: {}",
            sizes.join(", ")
        );
        let remark = self.remark(None, largest.first().map(String::as_str), text);
        self.checked.problems.push(remark);
    }
}

fn shown(value: &str) -> String {
    // An address may contain a token.
    if value.contains("://") {
        return "is another address".to_owned();
    }
    let mut shown: String = value.chars().take(SHOWN).collect();
    if shown.len() < value.len() {
        shown += "…";
    }
    if value.is_empty() {
        "is empty".to_owned()
    } else {
        format!("is `{shown}`")
    }
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file)?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// What the example leaves to the deployer.
    const GIVEN: [&str; 4] = [
        "ClevertapRegion: in1",
        "ClevertapAccountId: ABC-DEF-GHIJ",
        "RevenueEvent: none",
        "AnonymousUserIdAs: ignore",
    ];
    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/deploy");
    const STACK: &str = "purchasely-clevertap";

    fn template() -> Template {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../template.yaml");
        Template::read(Path::new(path)).expect("template.yaml")
    }

    /// The lines, before those that the deployer must give and that have not been given.
    fn params(lines: &[&str]) -> String {
        let name = |line: &str| line.trim_start_matches('-').split(':').next().map(str::to_owned);
        let given = GIVEN.iter().filter(|given| lines.iter().all(|line| name(line) != name(given)));
        let lines = lines.iter().filter(|line| !line.starts_with('-'));
        lines.chain(given).map(|line| format!("{line}\n")).collect()
    }

    /// Each block of the file has lines of `params.yaml` and, behind `>`, every sentence that they get.
    #[test]
    fn wrong_values_are_refused_with_line_reason_and_fix() {
        let (template, file) = (template(), format!("{FOLDER}/refused.txt"));
        let expected = std::fs::read_to_string(&file).expect("refused.txt");
        let blocks = expected.trim_end().split("\n\n").map(|block| {
            let lines: Vec<_> = block.lines().filter(|line| !line.starts_with("> ")).collect();
            let checked = check(&template, "params.yaml", &params(&lines), STACK).unwrap();
            let said = checked.problems.iter().map(|problem| format!("> {problem}"));
            let lines = lines.iter().map(|line| (*line).to_owned());
            lines.chain(said).collect::<Vec<_>>().join("\n")
        });
        let actual = blocks.collect::<Vec<_>>().join("\n\n") + "\n";
        if std::env::var_os("WRITE_GOLDEN").is_some() {
            std::fs::write(&file, &actual).expect("refused.txt");
        }
        assert!(
            actual == expected,
            "refused.txt is not what is said: run with WRITE_GOLDEN=1, and review"
        );
    }

    #[test]
    fn what_is_valid_is_read_as_the_template_wants_it() {
        let lines = [
            "EventNames: |  # one pair a line",
            "  TRIAL_STARTED = Trial Started;",
            "",
            "  TRIAL_CONVERTED = Trial, Converted",
            "EventsDisabled: >-",
            "  ACTIVATE",
            "  DEACTIVATE_",
            "PurchaselySignature: off",
            "MemorySize: 512",
            "KeepEvents: true",
            "ClevertapSandboxAccountId: ~",
        ];
        let checked = check(&template(), "my.yaml", &params(&lines), STACK).unwrap();
        assert_eq!(checked.problems, []);
        let expected = [
            ("AnonymousUserIdAs", "ignore"),
            ("ClevertapSandboxAccountId", ""),
            ("EventNames", "TRIAL_STARTED = Trial Started;TRIAL_CONVERTED = Trial, Converted"),
            ("EventsDisabled", "ACTIVATE DEACTIVATE_"),
            ("KeepEvents", "true"),
            ("LogRetentionDays", "30"),
            ("MemorySize", "512"),
            ("PurchaselySignature", "off"),
        ];
        assert_eq!(expected.map(|(name, _)| (name, checked.values[name].as_str())), expected);
        assert_eq!(checked.values.len(), template().parameters().len());
        let warnings: Vec<_> = checked.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(
            warnings,
            [
                "my.yaml:5: EventsDisabled lists DEACTIVATE_, which Purchasely does not document: check the spelling",
                "my.yaml:8: PurchaselySignature is off: anyone who knows the address can raise events in CleverTap",
            ]
        );
    }

    #[test]
    fn names_that_aws_makes_and_lambdas_limit_are_checked_at_their_longest() {
        let template = template();
        let said = |lines: &[&str], stack: &str| {
            let checked = check(&template, "params.yaml", &params(lines), stack).unwrap();
            checked.problems.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let long = "a".repeat(46);
        assert_eq!(said(&["KeepEvents: false"], &long), [""; 0]);
        assert_eq!(said(&[], &long[1..]), [""; 0]);
        let too_long = format!(
            "params.yaml: the stack's name {long} has 46 characters, and the names of its queues leave room for 45; choose a shorter one with --stack"
        );
        assert_eq!(said(&[], &long), [too_long]);
        let described = template.parameters()["KeepEvents"]["Description"].to_string();
        assert!(described.contains("the stack's name then has at most 45 characters"));

        let list = |pairs: usize| {
            let pairs = (0..pairs).map(|n| format!("EVENT_{n:02}=A name of {n:02} characters\n  "));
            format!("EventNames: |\n  {}", pairs.collect::<String>())
        };
        assert_eq!(said(&[&list(80)], STACK), [""; 0]);
        let problems = said(&[&list(95)], STACK);
        let [problem] = &problems[..] else {
            panic!("{problems:?}")
        };
        let expected = "params.yaml:1: the function's variables have 4213 bytes, and Lambda allows 4096; shorten the largest: EventNames 3151, DEAD_LETTER_QUEUE_URL 139, ";
        assert!(problem.starts_with(expected), "{problem}");
        assert!(problem.contains(", ClevertapRegion 25"), "{problem}");
    }
}
