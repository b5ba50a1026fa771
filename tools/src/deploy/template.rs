//! What a template says about its parameters, and the few intrinsic functions that its rules, its conditions and the
//! function's variables are written with. It does not know what a parameter is for.

use regex_lite::Regex;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The longest of each; the partition and the region need not belong together.
#[rustfmt::skip]
const LONGEST: [(&str, &str); 4] = [
    ("AWS::AccountId", "123456789012"), ("AWS::Partition", "aws-us-gov"), ("AWS::Region", "ap-northeast-1"),
    ("AWS::URLSuffix", "amazonaws.com.cn"),
];
/// What CloudFormation appends to a name that it makes: a hyphen and this many characters.
const APPENDED: &str = "-ABCDEFGHIJKLM";
const QUEUE_NAME: usize = 80;

pub struct Template {
    pub path: PathBuf,
    pub text: String,
    document: Value,
}

/// One of the template's rules that the parameters break.
pub struct Broken {
    pub description: String,
    pub parameters: BTreeSet<String>,
}

/// The template with a value for each parameter, for a stack of this name.
pub struct Evaluation<'t> {
    template: &'t Template,
    values: &'t BTreeMap<String, String>,
    stack: &'t str,
}

impl Template {
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{name}: {error}; name the template with --template"))?;
        let document = testkit::template::parse(&text).map_err(|why| format!("{name}: {why}"))?;
        let template = Self { path: path.to_owned(), text, document };
        if template.document["Parameters"].is_object() && template.variables().next().is_some() {
            return Ok(template);
        }
        Err(format!("{name} is not this project's template"))
    }

    pub fn parameters(&self) -> &Map<String, Value> {
        self.document["Parameters"].as_object().expect("checked when it was read")
    }

    pub fn default_of(&self, parameter: &str) -> Option<String> {
        self.parameters()[parameter].get("Default").map(plain)
    }

    /// The function's variables as the template writes them.
    pub fn variables(&self) -> impl Iterator<Item = (&String, &Value)> {
        let function = self.function().into_iter();
        function.flat_map(|it| it["Environment"]["Variables"].as_object().into_iter().flatten())
    }

    /// A resource as the template has it, before any transform.
    pub fn resource(&self, name: &str) -> &Value {
        &self.document["Resources"][name]
    }

    /// The properties of the one function.
    pub fn function(&self) -> Option<&Value> {
        let mut resources = self.document["Resources"].as_object()?.values();
        let is_function = |resource: &&Value| resource["Type"] == "AWS::Serverless::Function";
        resources.find(is_function).map(|resource| &resource["Properties"])
    }

    /// What a parameter's value must be, if it is not.
    pub fn constraint(&self, parameter: &str, value: &str) -> Result<Option<String>, String> {
        let rules = &self.parameters()[parameter];
        if let Some(allowed) = rules["AllowedValues"].as_array() {
            let allowed: Vec<_> = allowed.iter().map(plain).collect();
            if allowed.iter().any(|allowed| allowed == value) {
                return Ok(None);
            }
            let words = allowed.iter().map(|word| if word.is_empty() { "empty" } else { word });
            let words = words.collect::<Vec<_>>().join(", ");
            return Ok(Some(match words.rsplit_once(", ") {
                Some((words, last)) => format!("{words} or {last}"),
                None => words,
            }));
        }
        let limit = |name: &str| rules.get(name).and_then(Value::as_f64);
        let size = if rules["Type"] == "Number" {
            let digits = value.bytes().all(|byte| byte.is_ascii_digit());
            if !digits || value.is_empty() || value.len() > 1 && value.starts_with('0') {
                let example = rules.get("Default").map_or_else(|| "1".to_owned(), plain);
                return Ok(Some(format!("a whole number in digits, such as {example}")));
            }
            value.parse().unwrap_or(f64::INFINITY)
        } else {
            f64::from(u32::try_from(value.chars().count()).unwrap_or(u32::MAX))
        };
        let (least, most) = if rules["Type"] == "Number" {
            ("MinValue", "MaxValue")
        } else {
            ("MinLength", "MaxLength")
        };
        let is_within = limit(least).is_none_or(|least| size >= least)
            && limit(most).is_none_or(|most| size <= most);
        if is_within && self.matches(parameter, value)? {
            return Ok(None);
        }
        let described = rules["ConstraintDescription"].as_str().unwrap_or("must be another value");
        let described = described.trim_start_matches("must be ").trim_end_matches('.');
        Ok(Some(described.to_owned()))
    }

    /// Whether the whole value matches the parameter's pattern, if it has one.
    pub fn matches(&self, parameter: &str, value: &str) -> Result<bool, String> {
        let Some(pattern) = self.parameters()[parameter]["AllowedPattern"].as_str() else {
            return Ok(true);
        };
        let regex = Regex::new(&format!("^(?:{pattern})$"));
        let regex = regex.map_err(|why| format!("{parameter} has the pattern {pattern}: {why}"))?;
        Ok(regex.is_match(value))
    }

    /// The parameters that a value of the template depends on, those of its conditions included.
    pub fn parameters_of(&self, value: &Value) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.collect_parameters(value, &mut found);
        found
    }

    fn collect_parameters(&self, value: &Value, found: &mut BTreeSet<String>) {
        let condition = match call(value) {
            Some(("Ref", Value::String(name))) => {
                found.extend(self.parameters().contains_key(name).then(|| name.clone()));
                return;
            }
            Some(("Condition", name)) => Some(name),
            Some(("Fn::If", Value::Array(items))) => items.first(),
            _ => None,
        };
        if let Some(name) = condition.and_then(Value::as_str) {
            self.collect_parameters(&self.document["Conditions"][name], found);
        }
        for part in parts(value) {
            self.collect_parameters(part, found);
        }
    }
}

impl<'t> Evaluation<'t> {
    pub fn new(
        template: &'t Template,
        values: &'t BTreeMap<String, String>,
        stack: &'t str,
    ) -> Self {
        Self { template, values, stack }
    }

    pub fn broken_rules(&self) -> Result<Vec<Broken>, String> {
        let mut broken = Vec::new();
        for rule in parts(&self.template.document["Rules"]) {
            if let Some(condition) = rule.get("RuleCondition")
                && !self.is_true(condition)?
            {
                continue;
            }
            for assertion in parts(&rule["Assertions"]) {
                if !self.is_true(&assertion["Assert"])? {
                    let description = &assertion["AssertDescription"];
                    let mut parameters = self.template.parameters_of(&assertion["Assert"]);
                    parameters.extend(self.template.parameters_of(&rule["RuleCondition"]));
                    broken.push(Broken { description: plain(description), parameters });
                }
            }
        }
        Ok(broken)
    }

    /// The function's variables, as long as they can become: names and addresses that AWS chooses are the longest.
    pub fn variables(&self) -> Result<BTreeMap<String, String>, String> {
        let mut variables = BTreeMap::new();
        for (name, value) in self.template.variables() {
            if let Some(text) = self.text(value)? {
                variables.insert(name.clone(), text);
            }
        }
        Ok(variables)
    }

    /// The most characters that the stack's name may have, for its queues to have names.
    pub fn longest_stack_name(&self) -> Result<usize, String> {
        let mut longest = 128;
        let resources = self.template.document["Resources"].as_object().into_iter().flatten();
        for (id, resource) in resources.filter(|(_, it)| it["Type"] == "AWS::SQS::Queue") {
            if self.condition(resource.get("Condition"))? {
                let rest = format!("-{id}{APPENDED}.fifo").len();
                longest = longest.min(QUEUE_NAME.saturating_sub(rest));
            }
        }
        Ok(longest)
    }

    fn condition(&self, name: Option<&Value>) -> Result<bool, String> {
        match name.and_then(Value::as_str) {
            Some(name) => self.is_true(&self.template.document["Conditions"][name]),
            None => Ok(true),
        }
    }

    fn is_true(&self, value: &Value) -> Result<bool, String> {
        match (call(value), call(value).map_or(&[][..], |(_, operands)| list(operands))) {
            (Some(("Condition", name)), _) => self.condition(Some(name)),
            (Some(("Fn::Equals", _)), [one, other]) => Ok(self.text(one)? == self.text(other)?),
            (Some(("Fn::Not", _)), [one]) => Ok(!self.is_true(one)?),
            (Some(("Fn::And", _)), all) => {
                all.iter().try_fold(true, |so_far, one| Ok(self.is_true(one)? && so_far))
            }
            (Some(("Fn::Or", _)), any) => {
                any.iter().try_fold(false, |so_far, one| Ok(self.is_true(one)? || so_far))
            }
            (Some(("Fn::Contains", _)), [all, one]) => {
                let one = self.text(one)?;
                list(all)
                    .iter()
                    .try_fold(false, |so_far, it| Ok(self.text(it)? == one || so_far))
            }
            _ => Err(format!(
                "the template has a condition that this command does not know: {value}"
            )),
        }
    }

    /// `None` is `AWS::NoValue`.
    fn text(&self, value: &Value) -> Result<Option<String>, String> {
        match (call(value), call(value).map_or(&[][..], |(_, operands)| list(operands))) {
            (Some(("Ref", Value::String(name))), _) => Ok(self.reference(name)),
            // Of a secret it is the ARN, as `Ref`.
            (Some(("Fn::GetAtt", Value::String(name))), _) if name.ends_with(".Id") => {
                Ok(self.reference(name.trim_end_matches(".Id")))
            }
            (Some(("Fn::Sub", Value::String(text))), _) => Ok(Some(self.substituted(text))),
            (Some(("Fn::If", _)), [condition, then, otherwise]) => {
                let is_true = self.condition(Some(condition))?;
                self.text(if is_true { then } else { otherwise })
            }
            _ if value.is_object() || value.is_array() => {
                Err(format!("the template has a value that this command does not know: {value}"))
            }
            _ => Ok(Some(plain(value))),
        }
    }

    fn substituted(&self, text: &str) -> String {
        let mut parts = text.split("${");
        let mut whole = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap_or((part, ""));
            whole += &self.reference(name).unwrap_or_default();
            whole += rest;
        }
        whole
    }

    fn reference(&self, name: &str) -> Option<String> {
        if name == "AWS::NoValue" {
            return None;
        }
        if let Some(value) = self.values.get(name) {
            return Some(value.clone());
        }
        let made = format!("{}-{name}{APPENDED}", self.stack);
        let of = |name| LONGEST.iter().find(|it| it.0 == name).map_or("", |it| it.1);
        let (account, region) = (of("AWS::AccountId"), of("AWS::Region"));
        Some(match self.template.resource(name)["Type"].as_str() {
            Some("AWS::SQS::Queue") => {
                format!("https://sqs.{region}.{}/{account}/{made}.fifo", of("AWS::URLSuffix"))
            }
            Some("AWS::SecretsManager::Secret") => {
                format!(
                    "arn:{}:secretsmanager:{region}:{account}:secret:{made}-ABCDEF",
                    of("AWS::Partition")
                )
            }
            Some(_) => made,
            None if name == "AWS::StackName" => self.stack.to_owned(),
            None => of(name).to_owned(),
        })
    }
}

/// The intrinsic function that a value calls, and its operand.
fn call(value: &Value) -> Option<(&str, &Value)> {
    let mut entries = value.as_object()?.iter();
    let (name, operand) = entries.next().filter(|_| entries.len() == 0)?;
    (name.starts_with("Fn::") || matches!(name.as_str(), "Ref" | "Condition"))
        .then_some((name, operand))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The items of a list or the values of a map.
fn parts(value: &Value) -> impl Iterator<Item = &Value> {
    let entries = value.as_object().into_iter().flat_map(Map::values);
    list(value).iter().chain(entries)
}

/// CloudFormation makes a text of every value.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// `make template` compares the file with Python, whose patterns are CloudFormation's with `re.ASCII`.
    #[test]
    fn values_match_the_patterns_as_in_the_file_that_python_checks() {
        #[rustfmt::skip]
        const PIECES: [&str; 29] = [
            "TEST-A-1",
            "A", "TRIAL_STARTED", "=", ";", ",", " ", "\t", "\n", "\u{b}", "\u{a0}", "\u{2003}", "é", "-", "@", "#", "a@b.example",
            "https://a.example/b", "arn:aws:sns:eu-west-1:123456789012:topic", "arn:aws:kms:eu-west-1:123456789012:key/ab-1",
            "arn:aws:secretsmanager:eu-west-1:123456789012:secret:relay-AbCdEf", "EUR", "integration", "none", "Charged", "\\",
            "'", "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "",
        ];
        let mut random = fastrand::Rng::with_seed(26);
        let mut values = PIECES.map(str::to_owned).to_vec();
        values.extend((0..170).map(|_| {
            let count = random.usize(2..6);
            (0..count).map(|_| PIECES[random.usize(..PIECES.len())]).collect::<String>()
        }));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let template = Template::read(&folder.join("../template.yaml")).expect("template.yaml");
        let parameters = template.parameters().iter();
        let with_pattern = parameters.filter(|(_, rules)| rules["AllowedPattern"].is_string());
        let matches = with_pattern.map(|(name, _)| {
            let is_match = |value: &String| template.matches(name, value).expect("a pattern");
            let matches = values.iter().map(|value| if is_match(value) { '1' } else { '0' });
            (name.clone(), Value::from(matches.collect::<String>()))
        });
        let matches: Map<_, _> = matches.collect();
        let actual = json!({ "matches": matches, "values": values });
        let actual = serde_json::to_string_pretty(&actual).expect("JSON") + "\n";
        let file = folder.join("src/deploy/patterns.json");
        if std::env::var_os("WRITE_GOLDEN").is_some() {
            std::fs::write(&file, &actual).expect("patterns.json");
        }
        let expected = std::fs::read_to_string(&file).expect("patterns.json");
        assert!(
            actual == expected,
            "patterns.json is stale: run with WRITE_GOLDEN=1 and `make template`"
        );
    }
}
