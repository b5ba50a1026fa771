//! The resources of `template.yaml`, read from the file.

use serde_json::{Map, Value};
use testkit::template;

pub fn template() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/template.yaml");
    let text = std::fs::read_to_string(path).expect("template.yaml");
    template::parse(&text).expect("template.yaml")
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
