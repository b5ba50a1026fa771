//! What CloudFormation knows of a stack. It does not know what the stack is for.

use crate::Unusable;
use crate::aws;
use serde_json::Value;
use std::collections::BTreeMap;

pub const DESCRIBE: &str = "cloudformation describe-stacks --stack-name";

pub struct Stack {
    name: String,
    pub account: String,
    pub region: String,
    pub parameters: BTreeMap<String, String>,
    outputs: BTreeMap<String, String>,
}

impl Stack {
    pub async fn describe(name: &str) -> Result<Self, Unusable> {
        let answer = aws::ask(DESCRIBE, name).await;
        let answer = answer.map_err(|failure| failure.explain(DESCRIBE))?;
        let stack = &answer["Stacks"][0];
        // arn:aws:cloudformation:<region>:<account>:stack/<name>/<id>
        let mut parts = stack["StackId"].as_str().unwrap_or_default().split(':').skip(3);
        let mut part = || parts.next().unwrap_or_default().to_owned();
        Ok(Self {
            name: name.to_owned(),
            region: part(),
            account: part(),
            parameters: pairs(&stack["Parameters"], "Parameter"),
            outputs: pairs(&stack["Outputs"], "Output"),
        })
    }

    pub fn output(&self, key: &str) -> Result<&str, Unusable> {
        let value = self.outputs.get(key).filter(|value| !value.is_empty());
        let problem = || format!("the stack {} has no output {key}", self.name);
        Ok(value.ok_or_else(problem)?)
    }
}

/// The values of a stack's parameters or outputs by their keys.
pub fn pairs(values: &Value, kind: &str) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let field = |value: &Value, part| text(&value[format!("{kind}{part}")]);
    let values = values.as_array().into_iter().flatten();
    values.map(|value| (field(value, "Key"), field(value, "Value"))).collect()
}
