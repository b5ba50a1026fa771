//! What is deployed, found by the name of a stack or of a function. It does not know how the single
//! resources should be.

use crate::aws::Aws;
use crate::finding::{Check, Findings};
use crate::resources::{DEPLOY_AGAIN, FUNCTION, OWN_FUNCTION, Resources, in_words};
use crate::settings::Variables;
use crate::template::{self, Stack, plain};
use serde_json::Value;

/// Differences in one finding.
const MOST_TOLD: usize = 6;
/// What was learned of a deployment.
#[derive(Debug, Default)]
pub struct Deployment {
    /// The function's own variables.
    pub variables: Option<Variables>,
    /// Where webhooks go.
    pub webhook_url: Option<String>,
}

/// Looks at a stack and at what its template made.
pub async fn stack(
    aws: &mut Aws,
    name: &str,
    template: &Value,
    findings: &mut Findings,
) -> Deployment {
    let arguments = ["cloudformation", "describe-stacks", "--stack-name", name];
    let Some(answer) = aws.ask(Check::Stack, &arguments, findings).await else {
        return Deployment::default();
    };
    let described = &answer["Stacks"][0];
    judge_status(name, described, findings);
    let mut stack = Stack {
        parameters: pairs(&described["Parameters"], "ParameterKey", "ParameterValue"),
        names: [("AWS::StackName".to_owned(), name.to_owned())].into(),
    };
    let webhook_url = pairs(&described["Outputs"], "OutputKey", "OutputValue").remove("WebhookUrl");
    if webhook_url.is_none() {
        findings.warning(
            Check::Webhook,
            format!("the stack {name} has no output WebhookUrl"),
            "name the address with --url",
        );
    }

    let arguments = [
        "cloudformation",
        "get-template",
        "--stack-name",
        name,
        "--template-stage",
        "Original",
    ];
    if let Some(answer) = aws.ask(Check::Template, &arguments, findings).await {
        compare_templates(template, &answer["TemplateBody"], findings);
    }

    let arguments = [
        "cloudformation",
        "list-stack-resources",
        "--stack-name",
        name,
    ];
    let Some(answer) = aws.ask(Check::Stack, &arguments, findings).await else {
        return Deployment {
            variables: None,
            webhook_url,
        };
    };
    let listed = &answer["StackResourceSummaries"];
    stack
        .names
        .extend(pairs(listed, "LogicalResourceId", "PhysicalResourceId"));
    let function = stack.names.get("Function").cloned();
    let variables = if let Some(function) = function {
        let resources = Resources {
            template,
            stack: &stack,
        };
        resources
            .function(aws, &function, &FUNCTION, findings)
            .await
    } else {
        findings.error(
            Check::Function,
            format!("the stack {name} has no resource `Function`"),
            "name the stack that this project's template made",
        );
        None
    };
    Deployment {
        variables,
        webhook_url,
    }
}

/// Looks at a function that was deployed without a stack.
pub async fn function(
    aws: &mut Aws,
    name: &str,
    template: &Value,
    findings: &mut Findings,
) -> Deployment {
    let resources = Resources {
        template,
        stack: &Stack::default(),
    };
    let variables = resources.function(aws, name, &OWN_FUNCTION, findings).await;
    let webhook_url = if variables.is_some() {
        function_url(aws, name, findings).await
    } else {
        None
    };
    Deployment {
        variables,
        webhook_url,
    }
}

async fn function_url(aws: &mut Aws, name: &str, findings: &mut Findings) -> Option<String> {
    let arguments = ["lambda", "get-function-url-config", "--function-name", name];
    let (what, fix) = match aws.try_ask(&arguments, findings).await? {
        Ok(answer) if answer["AuthType"] == "NONE" => {
            return answer["FunctionUrl"].as_str().map(str::to_owned);
        }
        Ok(answer) => (
            format!("the Function URL asks for {}", plain(&answer["AuthType"])),
            format!("`aws lambda update-function-url-config --function-name {name} --auth-type NONE`: the signature is the authentication"),
        ),
        Err(refused) if refused.code == "ResourceNotFoundException" => (
            format!("{name} has no Function URL"),
            "deploy with --enable-function-url, or name the address that stands before the function with --url".to_owned(),
        ),
        Err(refused) => (
            format!("the Function URL cannot be read: {}: {}", refused.code, refused.message),
            "name it with --url".to_owned(),
        ),
    };
    findings.warning(Check::Webhook, what, fix);
    None
}

fn judge_status(name: &str, described: &Value, findings: &mut Findings) {
    let status = described["StackStatus"].as_str().unwrap_or_default();
    let reason = described["StackStatusReason"].as_str().unwrap_or_default();
    let told = format!("{name} is {status} {reason}");
    let told = told.trim_end();
    match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" => {
            findings.ok(Check::Stack, told);
        }
        "UPDATE_ROLLBACK_COMPLETE" => findings.warning(
            Check::Stack,
            format!("{told}: the last deployment failed, the one before it runs"),
            "look at the stack's events for the first failure, mend it and deploy again",
        ),
        passing if passing.ends_with("_IN_PROGRESS") => findings.warning(
            Check::Stack,
            told,
            "a deployment is under way: run it again when it has ended",
        ),
        _ => findings.error(
            Check::Stack,
            told,
            "look at the stack's events for the first failure; a stack that was never created must be deleted before the next `sam deploy`",
        ),
    }
}

fn compare_templates(local: &Value, deployed: &Value, findings: &mut Findings) {
    // The AWS CLI gives a JSON template as an object.
    let deployed = match deployed {
        Value::String(text) => template::read(text),
        other => template::read(&other.to_string()),
    };
    let deployed = match deployed {
        Ok(deployed) => deployed,
        Err(error) => {
            return findings.warning(
                Check::Template,
                format!("the deployed template cannot be read: {error}"),
                DEPLOY_AGAIN,
            );
        }
    };
    let differences = template::differences(local, &deployed);
    if differences.is_empty() {
        findings.ok(Check::Template, "deployed as it is here");
        return;
    }
    let mut told: Vec<_> = differences.iter().take(MOST_TOLD).map(in_words).collect();
    if differences.len() > MOST_TOLD {
        told.push(format!("and {} more", differences.len() - MOST_TOLD));
    }
    findings.warning(
        Check::Template,
        format!("the deployed template is another: {}", told.join("; ")),
        DEPLOY_AGAIN,
    );
}

/// A list of objects as names and values.
fn pairs(list: &Value, name: &str, value: &str) -> std::collections::BTreeMap<String, String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|entry| (plain(&entry[name]), plain(&entry[value])))
        .collect()
}
