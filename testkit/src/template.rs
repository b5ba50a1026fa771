//! Reads a CloudFormation template. It does not evaluate intrinsic functions: `!Ref A` is `{"Ref": "A"}`, `!If [...]` is
//! `{"Fn::If": [...]}`.

use saphyr::{LoadableYamlNode, Scalar, Yaml};
use serde_json::{Map, Value, json};

pub fn parse(text: &str) -> Result<Value, String> {
    let documents = Yaml::load_from_str(text).map_err(|error| error.to_string())?;
    json(documents.first().ok_or("it is empty")?)
}

fn json(yaml: &Yaml<'_>) -> Result<Value, String> {
    Ok(match yaml {
        Yaml::Value(Scalar::Null) => Value::Null,
        Yaml::Value(Scalar::Boolean(truth)) => json!(truth),
        Yaml::Value(Scalar::Integer(number)) => json!(number),
        Yaml::Value(Scalar::String(text)) | Yaml::Representation(text, ..) => json!(text),
        Yaml::Sequence(items) => Value::Array(items.iter().map(json).collect::<Result<_, _>>()?),
        Yaml::Mapping(entries) => {
            let entry = |(key, value): (&Yaml<'_>, _)| {
                let key = key.as_str().ok_or_else(|| format!("{key:?} is not a text"))?;
                Ok((key.to_owned(), json(value)?))
            };
            Value::Object(entries.iter().map(entry).collect::<Result<Map<_, _>, String>>()?)
        }
        Yaml::Tagged(tag, inner) => match tag.suffix.as_str() {
            name @ ("Ref" | "Condition") => json!({ name: json(inner)? }),
            name => json!({ format!("Fn::{name}"): json(inner)? }),
        },
        other => return Err(format!("{other:?} is not expected")),
    })
}
