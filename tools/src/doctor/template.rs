//! A CloudFormation template as a value: read, compared with another, and resolved for one stack.
//! It does not know what the resources are for.
//!
//! Short tags (`!Ref`) become the long form (`{"Ref": …}`), which is what SAM uploads.

#![allow(
    dead_code,
    reason = "each program that includes this file uses another part of it"
)]

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What SAM replaces by the address of what it has uploaded.
const UPLOADED: [&str; 2] = ["CodeUri", "Code"];
/// What stands for "as if the property were not there".
const NO_VALUE: &str = "AWS::NoValue";

/// The template's text is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(String);

/// One value that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Where, with dots between the names.
    pub path: String,
    /// As it should be; `None` if it should not be there.
    pub expected: Option<Value>,
    /// As it is; `None` if it is not there.
    pub actual: Option<Value>,
}

/// A stack, as far as its template's values depend on it.
#[derive(Debug, Default)]
pub struct Stack {
    /// The values of its parameters.
    pub parameters: BTreeMap<String, String>,
    /// The physical ids of its resources, and pseudo parameters such as `AWS::StackName`.
    pub names: BTreeMap<String, String>,
}

/// Reads YAML or JSON.
pub fn read(text: &str) -> Result<Value, Unreadable> {
    let documents = Yaml::load_from_str(text).map_err(|error| Unreadable(error.to_string()))?;
    let template = documents.first().map(value).unwrap_or_default();
    if template["Resources"].is_object() {
        Ok(template)
    } else {
        Err(Unreadable("it has no Resources".to_owned()))
    }
}

/// Where two templates differ, apart from what SAM does to every template it uploads.
pub fn differences(expected: &Value, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare_all(
        "",
        &without_uploads(expected),
        &without_uploads(actual),
        &mut found,
    );
    found
}

/// Where what is there differs from what is expected. What nothing is expected of may be anything;
/// an absent value is as good as an empty one.
pub fn unmet(expected: &Value, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare_expected("", expected, Some(actual), &mut found);
    found
}

/// The properties of a resource as the stack has them. What only CloudFormation can tell is left out.
/// `None` if the template has no such resource, or its condition does not hold.
pub fn properties(template: &Value, resource: &str, stack: &Stack) -> Option<Value> {
    let resource = template["Resources"].get(resource)?;
    let condition = resource["Condition"].as_str();
    if condition.is_some_and(|name| stack.condition(template, name) == Some(false)) {
        return None;
    }
    Some(match stack.resolve(template, &resource["Properties"]) {
        Resolved::Known(properties) => properties,
        Resolved::Absent | Resolved::Unknown => json!({}),
    })
}

/// A scalar as CloudFormation takes it, which makes no difference between `9` and `"9"`.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

enum Resolved {
    Known(Value),
    /// `AWS::NoValue`.
    Absent,
    /// Only CloudFormation knows.
    Unknown,
}

impl Stack {
    fn resolve(&self, template: &Value, value: &Value) -> Resolved {
        match value {
            Value::Object(fields) => match single(fields) {
                Some(("Ref", name)) => self.name(&plain(name)),
                Some(("Fn::If", arguments)) => {
                    match self.condition(template, &plain(&arguments[0])) {
                        Some(true) => self.resolve(template, &arguments[1]),
                        Some(false) => self.resolve(template, &arguments[2]),
                        None => Resolved::Unknown,
                    }
                }
                Some(("Fn::Sub", Value::String(text))) => self.substitute(text),
                Some((name, _)) if name.starts_with("Fn::") => Resolved::Unknown,
                _ => {
                    let resolved = fields.iter().filter_map(|(key, value)| {
                        match self.resolve(template, value) {
                            Resolved::Known(value) => Some((key.clone(), value)),
                            Resolved::Absent | Resolved::Unknown => None,
                        }
                    });
                    Resolved::Known(Value::Object(resolved.collect()))
                }
            },
            Value::Array(elements) => {
                let mut resolved = Vec::new();
                for element in elements {
                    match self.resolve(template, element) {
                        Resolved::Known(value) => resolved.push(value),
                        Resolved::Absent => {}
                        Resolved::Unknown => return Resolved::Unknown,
                    }
                }
                Resolved::Known(Value::Array(resolved))
            }
            scalar => Resolved::Known(scalar.clone()),
        }
    }

    fn name(&self, name: &str) -> Resolved {
        if name == NO_VALUE {
            return Resolved::Absent;
        }
        let found = self.parameters.get(name).or_else(|| self.names.get(name));
        found.map_or(Resolved::Unknown, |found| Resolved::Known(json!(found)))
    }

    /// `${Name}` for names that are known; an attribute (`${Name.Arn}`) is not.
    fn substitute(&self, text: &str) -> Resolved {
        let mut result = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let Some((name, after)) = after.split_once('}') else {
                return Resolved::Unknown;
            };
            let Resolved::Known(value) = self.name(name) else {
                return Resolved::Unknown;
            };
            result += before;
            result += &plain(&value);
            rest = after;
        }
        Resolved::Known(json!(result + rest))
    }

    fn condition(&self, template: &Value, name: &str) -> Option<bool> {
        self.holds(template, template["Conditions"].get(name)?)
    }

    fn holds(&self, template: &Value, condition: &Value) -> Option<bool> {
        let (function, arguments) = single(condition.as_object()?)?;
        match function {
            "Condition" => self.condition(template, arguments.as_str()?),
            "Fn::Not" => Some(!self.holds(template, arguments.get(0)?)?),
            "Fn::And" | "Fn::Or" => {
                let each = arguments.as_array()?.iter();
                let each: Option<Vec<_>> = each.map(|one| self.holds(template, one)).collect();
                let each = each?;
                Some(if function == "Fn::And" {
                    !each.contains(&false)
                } else {
                    each.contains(&true)
                })
            }
            "Fn::Equals" => {
                let [one, other] = [0, 1].map(|at| {
                    let side = arguments.get(at)?;
                    match self.resolve(template, side) {
                        Resolved::Known(value) => Some(plain(&value)),
                        Resolved::Absent | Resolved::Unknown => None,
                    }
                });
                Some(one? == other?)
            }
            _ => None,
        }
    }
}

fn value(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(scalar) => match scalar {
            Scalar::Null => Value::Null,
            Scalar::Boolean(truth) => json!(truth),
            Scalar::Integer(number) => json!(number),
            Scalar::FloatingPoint(number) => json!(number.into_inner()),
            Scalar::String(text) => json!(text),
        },
        Yaml::Sequence(elements) => elements.iter().map(value).collect(),
        Yaml::Mapping(fields) => fields
            .iter()
            .map(|(key, field)| {
                (
                    plain(&value(key)),
                    long_form(plain(&value(key)), value(field)),
                )
            })
            .collect::<Map<_, _>>()
            .into(),
        Yaml::Tagged(tag, inner) => {
            let name = match tag.suffix.as_str() {
                name @ ("Ref" | "Condition") => name.to_owned(),
                name => format!("Fn::{name}"),
            };
            let inner = long_form(name.clone(), value(inner));
            json!({ name: inner })
        }
        Yaml::Representation(text, ..) => json!(text),
        Yaml::Alias(_) | Yaml::BadValue => Value::Null,
    }
}

/// `Fn::GetAtt` takes its two parts as a list or with a dot between them.
fn long_form(name: String, argument: Value) -> Value {
    match argument.as_str().and_then(|text| text.split_once('.')) {
        Some((resource, attribute)) if name == "Fn::GetAtt" => json!([resource, attribute]),
        _ => argument,
    }
}

fn single(fields: &Map<String, Value>) -> Option<(&str, &Value)> {
    let mut fields = fields.iter();
    match (fields.next(), fields.next()) {
        (Some((name, value)), None) => Some((name, value)),
        _ => None,
    }
}

fn without_uploads(template: &Value) -> Value {
    let mut template = template.clone();
    let resources = template["Resources"].as_object_mut();
    for resource in resources.into_iter().flat_map(Map::values_mut) {
        if let Some(fields) = resource.as_object_mut() {
            // How it is built; SAM adds a name of its own.
            fields.remove("Metadata");
        }
        if let Some(properties) = resource["Properties"].as_object_mut() {
            properties.retain(|name, _| !UPLOADED.contains(&name.as_str()));
        }
    }
    template
}

fn compare_all(path: &str, expected: &Value, actual: &Value, found: &mut Vec<Difference>) {
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            let mut names: Vec<_> = expected.keys().chain(actual.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let path = joined(path, name);
                match (expected.get(name), actual.get(name)) {
                    (Some(expected), Some(actual)) => compare_all(&path, expected, actual, found),
                    (expected, actual) => found.push(Difference {
                        path,
                        expected: expected.cloned(),
                        actual: actual.cloned(),
                    }),
                }
            }
        }
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (at, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                compare_all(&joined(path, &at.to_string()), ours, theirs, found);
            }
        }
        (expected, actual) => {
            let same = match (expected, actual) {
                (Value::Object(_) | Value::Array(_), _)
                | (_, Value::Object(_) | Value::Array(_)) => expected == actual,
                _ => words(expected) == words(actual),
            };
            if !same {
                found.push(Difference {
                    path: path.to_owned(),
                    expected: Some(expected.clone()),
                    actual: Some(actual.clone()),
                });
            }
        }
    }
}

/// Text by its words: a folded line is written with other breaks.
fn words(value: &Value) -> String {
    let plain = plain(value);
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn compare_expected(
    path: &str,
    expected: &Value,
    actual: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    if let Value::Object(fields) = expected {
        for (name, expected) in fields {
            let actual = actual.and_then(|actual| actual.get(name));
            compare_expected(&joined(path, name), expected, actual, found);
        }
        return;
    }
    let same = match (expected, actual) {
        (Value::Array(_), Some(actual)) => expected == actual,
        (Value::Array(elements), None) => elements.is_empty(),
        (scalar, actual) => plain(scalar) == actual.map(plain).unwrap_or_default(),
    };
    if !same {
        found.push(Difference {
            path: path.to_owned(),
            expected: Some(expected.clone()),
            actual: actual.cloned(),
        });
    }
}

fn joined(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}
