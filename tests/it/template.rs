//! The resources of `template.yaml`, read from the file. It does not evaluate intrinsic functions: `!Ref A` is
//! `{"Ref": "A"}`, `!If [...]` is `{"Fn::If": [...]}`.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};

pub fn template() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/template.yaml");
    let text = std::fs::read_to_string(path).expect("template.yaml");
    let documents = Yaml::load_from_str(&text).expect("template.yaml is YAML");
    json(&documents[0])
}

pub fn resources() -> Map<String, Value> {
    let resources: Value = template()["Resources"].take();
    serde_json::from_value(resources).expect("a map of resources")
}

/// The properties of all resources of one type, by name.
pub fn of_type(kind: &str) -> Vec<(String, Value)> {
    let resources = resources().into_iter();
    resources
        .filter(|(_, resource)| resource["Type"] == kind)
        .map(|(name, mut resource)| (name, resource["Properties"].take()))
        .collect()
}

fn json(yaml: &Yaml<'_>) -> Value {
    match yaml {
        Yaml::Value(Scalar::Boolean(truth)) => json!(truth),
        Yaml::Value(Scalar::Integer(number)) => json!(number),
        Yaml::Value(Scalar::String(text)) | Yaml::Representation(text, ..) => json!(text),
        Yaml::Sequence(items) => items.iter().map(json).collect(),
        Yaml::Mapping(entries) => entries
            .iter()
            .map(|(key, value)| (key.as_str().expect("a text as key").to_owned(), json(value)))
            .collect::<Map<_, _>>()
            .into(),
        Yaml::Tagged(tag, inner) => match tag.suffix.as_str() {
            name @ ("Ref" | "Condition") => json!({ name: json(inner) }),
            name => json!({ format!("Fn::{name}"): json(inner) }),
        },
        other => panic!("template.yaml: {other:?} is not expected"),
    }
}
