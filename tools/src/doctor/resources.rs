//! The single resources of a deployment, held against the local template. The values that they should
//! have are the template's; this file only knows under which names AWS tells them.

use crate::aws::Aws;
use crate::finding::{Check, Findings};
use crate::settings::Variables;
use crate::template::{self, Difference, Stack, plain};
use purchasely_clevertap::aws::claims::EXPIRES_AT;
use purchasely_clevertap::config::SETTINGS;
use reqwest::Url;
use serde_json::{Map, Value, json};

const LONGEST_VALUE: usize = 80;
/// How a deployment comes to have what the local template says.
pub const DEPLOY_AGAIN: &str =
    "`sam build && sam deploy` brings it, or check out the version that is deployed";

/// What a function's configuration has under the template's names.
pub const FUNCTION: [&str; 8] = [
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
pub const OWN_FUNCTION: [&str; 3] = ["Timeout", "Runtime", "Handler"];
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

/// What the template says of a stack's resources.
pub struct Resources<'a> {
    pub template: &'a Value,
    /// Without names for a function that has no stack.
    pub stack: &'a Stack,
}

impl Resources<'_> {
    /// Looks at the function, and at what its variables name. Returns these.
    pub async fn function(
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
        for field in ["State", "LastUpdateStatus"] {
            let reason = plain(&actual[format!("{field}Reason")]);
            let state = plain(&actual[field]);
            let what = format!("{name}: {field} is {state} {reason}");
            match state.as_str() {
                "Failed" => findings.error(
                    Check::Function,
                    what,
                    "mend what the reason names and deploy again",
                ),
                "Pending" | "InProgress" => findings.warning(
                    Check::Function,
                    what,
                    "a deployment is under way: run it again when it has ended",
                ),
                // Lambda puts a function that nobody calls to sleep; the next call wakes it.
                _ => {}
            }
        }
        let found = self.unmet("Function", wanted, &actual);
        let how = |difference: &Difference| {
            let command =
                format!("aws lambda update-function-configuration --function-name {name}");
            match difference.path.strip_prefix("Environment.Variables.") {
                // The command takes all variables or none.
                Some(_) => "set it back in the Lambda console, or give the stack's parameter the other value".to_owned(),
                None => option(&command, difference),
            }
        };
        judge(Check::Function, name, found, how, findings);

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
        let set = &self.template["Resources"]["Function"]["Properties"]["Environment"]["Variables"];
        for (name, value) in variables {
            let known = SETTINGS.iter().any(|setting| setting.name == name);
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
        let how = |difference: &Difference| {
            let path = difference.path.as_str();
            let value = difference.expected.as_ref().map(plain).unwrap_or_default();
            if path == "FifoQueue" {
                return "a queue stays as it was made: make a FIFO queue and name that one"
                    .to_owned();
            }
            let attributes = match path.split_once('.') {
                Some(("RedrivePolicy", _)) => {
                    let arn = dead_letter_arn.unwrap_or("<ARN of the dead-letter queue>");
                    let policy = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": "1000" });
                    json!({ "RedrivePolicy": policy.to_string() })
                }
                _ => json!({ path: value }),
            };
            format!("`aws sqs set-queue-attributes --queue-url {url} --attributes '{attributes}'`")
        };
        judge(Check::Queue, name, found, how, findings);
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
        let command = format!("aws lambda update-event-source-mapping --uuid {uuid}");
        let how = |difference: &Difference| option(&command, difference);
        judge(Check::EventSource, "event queue", found, how, findings);
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
        let mut actual = json!({ "KeySchema": described["Table"]["KeySchema"].take() });
        if status.starts_with("ENABL") {
            actual["TimeToLiveSpecification"] =
                json!({ "AttributeName": expiry["AttributeName"], "Enabled": true });
        }
        let mut found = self.unmet("ClaimsTable", &TABLE, &actual);
        if found.is_empty() {
            let what = format!("{name}: its key and its expiry are right");
            return findings.ok(Check::ClaimsTable, what);
        }
        // Both of its parts are mended by one command.
        let mut told = false;
        found.retain(|difference| {
            !difference.path.starts_with("TimeToLive") || !std::mem::replace(&mut told, true)
        });
        let how = |difference: &Difference| {
            if difference.path == "KeySchema" {
                return "a key cannot be changed: make another table and name that one".to_owned();
            }
            format!(
                "`aws dynamodb update-time-to-live --table-name {name} --time-to-live-specification AttributeName={EXPIRES_AT},Enabled=true`; until then claims stay for ever"
            )
        };
        judge(Check::ClaimsTable, name, found, how, findings);
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
}

/// A command with the option that sets a property to what it should be: `--memory-size 256`.
fn option(command: &str, difference: &Difference) -> String {
    let mut parts = difference.path.split('.');
    let property = parts.next().unwrap_or_default();
    let mut option = String::from("-");
    for letter in property.chars() {
        if letter.is_ascii_uppercase() {
            option.push('-');
        }
        option.push(letter.to_ascii_lowercase());
    }
    let value = match &difference.expected {
        Some(Value::Array(elements)) => elements.iter().map(plain).collect::<Vec<_>>().join(" "),
        Some(value) => plain(value),
        None => String::new(),
    };
    match (property, parts.next()) {
        ("Enabled", _) => format!("`{command} --enabled`"),
        ("Tracing", _) => format!("`{command} --tracing-config Mode={value}`"),
        // Belongs to the code.
        ("Architectures", _) => "build for that architecture and deploy again".to_owned(),
        (_, Some(part)) => format!("`{command} {option} {part}={value}`"),
        (_, None) => format!("`{command} {option} {value}`"),
    }
}

/// A deployment changes only what differs between two templates, so what was changed outside the
/// stack must be changed back there.
fn judge(
    check: Check,
    name: &str,
    found: Vec<Difference>,
    how: impl Fn(&Difference) -> String,
    findings: &mut Findings,
) {
    let of_this_template = findings.is_clean(Check::Template);
    for difference in found {
        let top = difference.path.split('.').next().unwrap_or_default();
        let what = format!("{name}: {}", in_words(&difference));
        let fix = if of_this_template {
            how(&difference)
        } else {
            DEPLOY_AGAIN.to_owned()
        };
        if VITAL.contains(&top) {
            findings.error(check, what, fix);
        } else {
            findings.warning(check, what, fix);
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

/// A difference in a sentence.
pub fn in_words(difference: &Difference) -> String {
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
