//! `template.yaml` as CloudFormation would read it for given parameters. Asserts nothing about it.
//!
//! It knows the intrinsic functions that the template uses, no others, and no default of SAM's.

use crate::doctor::template::read;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The template with a value for each parameter.
pub struct Template {
    root: Value,
    parameters: BTreeMap<String, String>,
}

impl Template {
    /// The parameters that have no default, and these beside or instead of the others' defaults.
    pub fn with(parameters: &[(&str, &str)]) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/template.yaml");
        let text = std::fs::read_to_string(path).expect("the template");
        let root = read(&text).expect("a template");
        let mut values: BTreeMap<_, _> = root["Parameters"]
            .as_object()
            .expect("parameters")
            .iter()
            .filter_map(|(name, parameter)| {
                let default = parameter.get("Default")?;
                let text = default.as_str().map(str::to_owned);
                Some((name.clone(), text.unwrap_or_else(|| default.to_string())))
            })
            .collect();
        let needed = [
            ("ClevertapRegion", "in1"),
            ("ClevertapAccountId", "ABC-DEF-GHIJ"),
            ("RevenueEvent", "none"),
        ];
        for (name, value) in needed.iter().chain(parameters) {
            assert!(!root["Parameters"][name].is_null(), "no parameter {name}");
            values.insert((*name).to_owned(), (*value).to_owned());
        }
        Self {
            root,
            parameters: values,
        }
    }

    /// What CloudFormation says in refusing these parameters by the template's rules.
    pub fn refusals(&self) -> Vec<String> {
        let rules = self.root["Rules"].as_object().expect("rules");
        let applies = |rule: &Value| rule.get("RuleCondition").is_none_or(|c| self.holds(c));
        rules
            .values()
            .filter(|rule| applies(rule))
            .flat_map(|rule| rule["Assertions"].as_array().expect("assertions"))
            .filter(|assertion| !self.holds(&assertion["Assert"]))
            .map(|assertion| assertion["AssertDescription"].as_str().unwrap().to_owned())
            .collect()
    }

    /// The resources that are created, each with its values worked out. A reference to another is its
    /// name in the template, an attribute `name.attribute`.
    pub fn resources(&self) -> BTreeMap<String, Value> {
        self.existing("Resources")
    }

    /// The outputs, in the same form.
    pub fn outputs(&self) -> BTreeMap<String, Value> {
        self.existing("Outputs")
    }

    fn existing(&self, section: &str) -> BTreeMap<String, Value> {
        let all = self.root[section].as_object().expect(section);
        all.iter()
            .filter(|(_, entry)| {
                let condition = entry.get("Condition").and_then(Value::as_str);
                condition.is_none_or(|name| self.condition(name))
            })
            .filter_map(|(name, entry)| Some((name.clone(), self.resolve(entry)?)))
            .collect()
    }

    fn condition(&self, name: &str) -> bool {
        let condition = &self.root["Conditions"][name];
        assert!(!condition.is_null(), "no condition {name}");
        self.holds(condition)
    }

    fn holds(&self, condition: &Value) -> bool {
        let (function, argument) = condition.as_object().unwrap().iter().next().unwrap();
        let list = || argument.as_array().expect("a list").iter();
        match function.as_str() {
            "Fn::Equals" => {
                let mut values = list().map(|value| self.resolve(value));
                values.next() == values.next()
            }
            "Fn::Not" => !list().any(|condition| self.holds(condition)),
            "Fn::And" => list().all(|condition| self.holds(condition)),
            "Fn::Or" => list().any(|condition| self.holds(condition)),
            "Condition" => self.condition(argument.as_str().expect("a name")),
            other => panic!("{other} is no condition"),
        }
    }

    /// `None` stands for `AWS::NoValue`.
    fn resolve(&self, value: &Value) -> Option<Value> {
        match value {
            Value::Object(object) if object.len() == 1 => {
                let (name, argument) = object.iter().next()?;
                match name.as_str() {
                    "Ref" => self.reference(argument.as_str()?).map(Value::from),
                    "Fn::GetAtt" => Some(attribute(argument).into()),
                    "Fn::Sub" => Some(self.substitute(argument).into()),
                    "Fn::If" => {
                        let is_so = self.condition(argument[0].as_str()?);
                        self.resolve(&argument[if is_so { 1 } else { 2 }])
                    }
                    _ => Some(self.resolve_members(object)),
                }
            }
            Value::Object(object) => Some(self.resolve_members(object)),
            Value::Array(items) => Some(items.iter().filter_map(|i| self.resolve(i)).collect()),
            plain => Some(plain.clone()),
        }
    }

    fn resolve_members(&self, object: &Map<String, Value>) -> Value {
        let resolved =
            |(name, value): (&String, &Value)| Some((name.clone(), self.resolve(value)?));
        Value::Object(object.iter().filter_map(resolved).collect())
    }

    fn reference(&self, name: &str) -> Option<String> {
        match name {
            "AWS::NoValue" => None,
            "AWS::Region" => Some("eu-west-1".to_owned()),
            "AWS::StackName" => Some("relay".to_owned()),
            "AWS::URLSuffix" => Some("amazonaws.com".to_owned()),
            _ => Some(
                self.parameters
                    .get(name)
                    .map_or(name, String::as_str)
                    .to_owned(),
            ),
        }
    }

    fn substitute(&self, argument: &Value) -> String {
        let (text, own) = match argument {
            Value::String(text) => (text.as_str(), None),
            list => (list[0].as_str().expect("a text"), list[1].as_object()),
        };
        let mut parts = text.split("${");
        let mut done = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (name, rest) = part.split_once('}').expect("a closing brace");
            let value = match own.and_then(|own| own.get(name)) {
                Some(value) => self
                    .resolve(value)
                    .and_then(|v| v.as_str().map(str::to_owned)),
                None => self.reference(name),
            };
            done += &value.unwrap_or_default();
            done += rest;
        }
        done
    }
}

fn attribute(argument: &Value) -> String {
    let parts = argument.as_array().expect("a resource and its attribute");
    let parts: Vec<_> = parts.iter().filter_map(Value::as_str).collect();
    parts.join(".")
}
