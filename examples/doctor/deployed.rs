//! What is deployed, held against the local template. The values that it should have are the
//! template's; this file only knows under which names AWS tells them.

use crate::aws::Aws;
use crate::finding::{Check, Findings, Level};
use crate::settings::Variables;
use crate::template::{self, Difference, Stack, plain};
use purchasely_clevertap::config::VARIABLES;
use reqwest::Url;
use serde_json::{Map, Value, json};

/// Differences in one finding.
const MOST_TOLD: usize = 6;
const LONGEST_VALUE: usize = 80;
const DEPLOY_AGAIN: &str = "deploy this template again (`sam build && sam deploy`), or check out the version that is deployed";

/// What a function's configuration has under the template's names.
const FUNCTION: [&str; 8] = [
    "Timeout",
    "Runtime",
    "Handler",
    "MemorySize",
    "Architectures",
    "Tracing",
    "LoggingConfig",
    "Environment",
];
/// Of these, what holds for a function without a stack: the rest is its deployer's to choose.
const OWN_FUNCTION: [&str; 3] = ["Timeout", "Runtime", "Handler"];
const MAPPING: [&str; 4] = [
    "Enabled",
    "BatchSize",
    "FunctionResponseTypes",
    "ScalingConfig",
];
const QUEUE: [&str; 8] = [
    "FifoQueue",
    "ContentBasedDeduplication",
    "DeduplicationScope",
    "FifoThroughputLimit",
    "MessageRetentionPeriod",
    "SqsManagedSseEnabled",
    "VisibilityTimeout",
    "RedrivePolicy",
];
const TABLE: [&str; 2] = ["KeySchema", "TimeToLiveSpecification"];
/// Without these a promise is broken; the other properties are a matter of taste or money.
const VITAL: [&str; 9] = [
    "Timeout",
    "Runtime",
    "Handler",
    "Enabled",
    "FunctionResponseTypes",
    "FifoQueue",
    "RedrivePolicy",
    "MessageRetentionPeriod",
    "KeySchema",
];

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
    let resources = &answer["StackResourceSummaries"];
    let resources = pairs(resources, "LogicalResourceId", "PhysicalResourceId");
    let function = resources.get("Function").cloned();
    stack.names.extend(resources);
    let variables = match function {
        Some(function) => {
            let of = Of {
                template,
                stack: &stack,
            };
            of.function(aws, &function, &FUNCTION, findings).await
        }
        None => {
            findings.error(
                Check::Function,
                format!("the stack {name} has no resource `Function`"),
                "name the stack that this project's template made",
            );
            None
        }
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
    let of = Of {
        template,
        stack: &Stack::default(),
    };
    let variables = of.function(aws, name, &OWN_FUNCTION, findings).await;
    let mut webhook_url = None;
    if variables.is_some() {
        let arguments = ["lambda", "get-function-url-config", "--function-name", name];
        let answer = aws.ask(Check::Webhook, &arguments, findings).await;
        webhook_url = answer.and_then(|answer| answer["FunctionUrl"].as_str().map(str::to_owned));
    }
    Deployment {
        variables,
        webhook_url,
    }
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

/// What the template says of a stack's resources.
struct Of<'a> {
    template: &'a Value,
    stack: &'a Stack,
}

impl Of<'_> {
    async fn function(
        &self,
        aws: &mut Aws,
        name: &str,
        wanted: &[&str],
        findings: &mut Findings,
    ) -> Option<Variables> {
        let arguments = [
            "lambda",
            "get-function-configuration",
            "--function-name",
            name,
        ];
        let mut actual = aws.ask(Check::Function, &arguments, findings).await?;
        actual["Tracing"] = actual["TracingConfig"]["Mode"].take();
        for (field, right) in [("State", "Active"), ("LastUpdateStatus", "Successful")] {
            let state = actual[field].as_str().unwrap_or(right);
            if state != right {
                let reason = plain(&actual[format!("{field}Reason")]);
                findings.error(
                    Check::Function,
                    format!("{name}: {field} is {state} {reason}"),
                    "wait until it has ended and run it again; if it is `Failed`, deploy again",
                );
            }
        }
        let found = self.unmet("Function", wanted, &actual);
        let how = format!("`aws lambda update-function-configuration --function-name {name}`");
        self.judge(Check::Function, name, found, &how, findings);

        let told = actual["Environment"]["Error"]["Message"].as_str();
        if let Some(told) = told {
            findings.error(
                Check::Function,
                format!("{name}: its variables cannot be read: {told}"),
                "give yourself kms:Decrypt on the function's key",
            );
            return None;
        }
        let variables = &actual["Environment"]["Variables"];
        let variables: Variables = variables
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), plain(value)))
            .collect();
        if wanted.contains(&"Environment") {
            self.added_by_hand(name, &variables, findings);
        }
        if findings.is_clean(Check::Function) {
            let timeout = plain(&actual["Timeout"]);
            let memory = plain(&actual["MemorySize"]);
            let what = format!("{name}: timeout {timeout} s, {memory} MiB, as in the template");
            findings.ok(Check::Function, what);
        }
        self.kept(aws, name, &variables, findings).await;
        Some(variables)
    }

    /// A variable that the next deployment would take away.
    fn added_by_hand(&self, function: &str, variables: &Variables, findings: &mut Findings) {
        let properties = template::properties(self.template, "Function", self.stack);
        let set = &self.template["Resources"]["Function"]["Properties"]["Environment"]["Variables"];
        if properties.is_none() {
            return;
        }
        for (name, value) in variables {
            let known = VARIABLES.iter().any(|(known, _)| known == name);
            if known && !value.is_empty() && set.get(name).is_none() {
                findings.warning(
                    Check::Function,
                    format!("{function}: {name} is set, and the template does not set it"),
                    "put it into the template; the next deployment takes it away",
                );
            }
        }
    }

    /// The queues, the event source mapping and the table, by the function's own variables.
    async fn kept(
        &self,
        aws: &mut Aws,
        function: &str,
        variables: &Variables,
        findings: &mut Findings,
    ) {
        let set = |name: &str| variables.get(name).filter(|value| !value.trim().is_empty());
        let mut dead_letter_arn = None;
        if let Some(url) = set("DEAD_LETTER_QUEUE_URL") {
            let actual = self
                .queue(aws, "DeadLetterQueue", url, None, findings)
                .await;
            dead_letter_arn = actual.map(|actual| plain(&actual["QueueArn"]));
        }
        if let Some(url) = set("EVENT_QUEUE_URL") {
            let dead_letter_arn = dead_letter_arn.as_deref();
            let actual = self
                .queue(aws, "EventQueue", url, dead_letter_arn, findings)
                .await;
            if let Some(actual) = actual {
                self.event_source(aws, function, &plain(&actual["QueueArn"]), findings)
                    .await;
            }
        }
        if let Some(table) = set("DEDUPLICATION_TABLE") {
            self.table(aws, table, findings).await;
        }
    }

    async fn queue(
        &self,
        aws: &mut Aws,
        resource: &str,
        url: &str,
        dead_letter_arn: Option<&str>,
        findings: &mut Findings,
    ) -> Option<Value> {
        let host = sqs_host(url);
        let arguments = [
            "sqs",
            "get-queue-attributes",
            "--queue-url",
            url,
            "--endpoint-url",
            &host,
            "--attribute-names",
            "All",
        ];
        let mut answer = aws.ask(Check::Queue, &arguments, findings).await?;
        let mut actual = answer["Attributes"].take();
        if let Some(policy) = actual["RedrivePolicy"].as_str() {
            actual["RedrivePolicy"] = serde_json::from_str(policy).unwrap_or_default();
        }
        let mut found = self.unmet(resource, &QUEUE, &actual);
        let target = &actual["RedrivePolicy"]["deadLetterTargetArn"];
        if let Some(arn) = dead_letter_arn
            && target != arn
        {
            found.push(Difference {
                path: "RedrivePolicy.deadLetterTargetArn".to_owned(),
                expected: Some(json!(arn)),
                actual: Some(target.clone()).filter(|target| !target.is_null()),
            });
        }
        let name = url.rsplit('/').next().unwrap_or(url);
        let clean = found.is_empty();
        let how = format!("`aws sqs set-queue-attributes --queue-url {url}`");
        self.judge(Check::Queue, name, found, &how, findings);
        if clean {
            let what = format!("{name}: as {resource} in the template");
            findings.ok(Check::Queue, what);
        }
        let waiting = plain(&actual["ApproximateNumberOfMessages"]);
        if resource == "DeadLetterQueue" && !["", "0"].contains(&waiting.as_str()) {
            findings.warning(
                Check::Queue,
                format!("{name}: about {waiting} dead letters wait, 14 days at most"),
                "mend their cause and redrive them: README, Dead letters",
            );
        }
        Some(actual)
    }

    async fn event_source(
        &self,
        aws: &mut Aws,
        function: &str,
        queue_arn: &str,
        findings: &mut Findings,
    ) {
        let arguments = [
            "lambda",
            "list-event-source-mappings",
            "--function-name",
            function,
        ];
        let Some(answer) = aws.ask(Check::EventSource, &arguments, findings).await else {
            return;
        };
        let mappings = answer["EventSourceMappings"].as_array();
        let mapping = mappings
            .into_iter()
            .flatten()
            .find(|mapping| mapping["EventSourceArn"] == queue_arn);
        let Some(mapping) = mapping else {
            return findings.error(
                Check::EventSource,
                format!("{function} does not read the event queue: messages in it are never relayed"),
                format!("`aws lambda create-event-source-mapping --function-name {function} --event-source-arn {queue_arn} --batch-size 10 --function-response-types ReportBatchItemFailures --scaling-config MaximumConcurrency=2`"),
            );
        };
        let mut actual = mapping.clone();
        let state = plain(&actual["State"]);
        actual["Enabled"] = json!(!["Disabled", "Disabling"].contains(&state.as_str()));
        let found = self.unmet("EventQueueMapping", &MAPPING, &actual);
        if found.is_empty() {
            let what = format!("{function} reads the event queue, and names what failed ({state})");
            return findings.ok(Check::EventSource, what);
        }
        let uuid = plain(&actual["UUID"]);
        let how = format!("`aws lambda update-event-source-mapping --uuid {uuid}`");
        self.judge(Check::EventSource, "event queue", found, &how, findings);
    }

    async fn table(&self, aws: &mut Aws, name: &str, findings: &mut Findings) {
        let arguments = ["dynamodb", "describe-table", "--table-name", name];
        let Some(mut described) = aws.ask(Check::ClaimsTable, &arguments, findings).await else {
            return;
        };
        let arguments = ["dynamodb", "describe-time-to-live", "--table-name", name];
        let Some(answer) = aws.ask(Check::ClaimsTable, &arguments, findings).await else {
            return;
        };
        let expiry = &answer["TimeToLiveDescription"];
        let status = plain(&expiry["TimeToLiveStatus"]);
        let actual = json!({
            "KeySchema": described["Table"]["KeySchema"].take(),
            "TimeToLiveSpecification": {
                "AttributeName": expiry["AttributeName"],
                "Enabled": status.starts_with("ENABL"),
            },
        });
        let found = self.unmet("ClaimsTable", &TABLE, &actual);
        if found.is_empty() {
            let what = format!("{name}: its key and its expiry are right");
            return findings.ok(Check::ClaimsTable, what);
        }
        let how = format!(
            "`aws dynamodb update-time-to-live --table-name {name}`; a wrong key needs another table"
        );
        self.judge(Check::ClaimsTable, name, found, &how, findings);
    }

    /// Where a resource is not as the template says, as far as AWS tells.
    fn unmet(&self, resource: &str, wanted: &[&str], actual: &Value) -> Vec<Difference> {
        let properties = template::properties(self.template, resource, self.stack);
        let Some(Value::Object(properties)) = properties else {
            return Vec::new();
        };
        let expected: Map<_, _> = properties
            .into_iter()
            .filter(|(name, _)| wanted.contains(&name.as_str()))
            .collect();
        template::unmet(&Value::Object(expected), actual)
    }

    fn judge(
        &self,
        check: Check,
        name: &str,
        found: Vec<Difference>,
        how: &str,
        findings: &mut Findings,
    ) {
        for difference in found {
            let top = difference.path.split('.').next().unwrap_or_default();
            let level = if VITAL.contains(&top) {
                Level::Error
            } else {
                Level::Warning
            };
            let what = format!("{name}: {}", in_words(&difference));
            let fix = if self.stack.names.is_empty() {
                format!("set it as in the template: {how}")
            } else {
                format!(
                    "it was changed outside the stack, or the stack is older than the template: {DEPLOY_AGAIN}"
                )
            };
            if level == Level::Error {
                findings.error(check, what, fix);
            } else {
                findings.warning(check, what, fix);
            }
        }
    }
}

/// Version 1 of the AWS CLI would ask SQS by a host name of old, whatever endpoint is set.
fn sqs_host(queue_url: &str) -> String {
    let set = ["AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL"];
    let set = set.iter().find_map(|name| std::env::var(name).ok());
    let own = || Some(Url::parse(queue_url).ok()?.origin().ascii_serialization());
    set.or_else(own).unwrap_or_default()
}

fn in_words(difference: &Difference) -> String {
    let shown = |value: &Value| {
        let text = plain(value);
        if text.chars().count() > LONGEST_VALUE {
            let start: String = text.chars().take(LONGEST_VALUE).collect();
            format!("`{start}…`")
        } else {
            format!("`{text}`")
        }
    };
    let Difference {
        path,
        expected,
        actual,
    } = difference;
    match (expected, actual) {
        (Some(expected), Some(actual)) => {
            format!(
                "{path} is {}, in the template {}",
                shown(actual),
                shown(expected)
            )
        }
        (Some(expected), None) if expected.is_object() => format!("{path} is only here"),
        (Some(expected), None) => format!("{path} is not set, in the template {}", shown(expected)),
        (None, _) => format!("{path} is only deployed"),
    }
}

/// A list of objects as names and values.
fn pairs(list: &Value, name: &str, value: &str) -> std::collections::BTreeMap<String, String> {
    let list = list.as_array().into_iter().flatten();
    list.map(|entry| (plain(&entry[name]), plain(&entry[value])))
        .collect()
}
