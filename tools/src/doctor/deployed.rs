//! What is deployed as a stack or a function: AWS describes each resource, and this compares it with
//! what the function needs. It reads no template: CloudFormation itself detects drift from it.

use super::aws::{Aws, Operation};
use super::finding::{Findings, Id};
use super::local::Variables;
use crate::find;
use crate::stack::{self, pairs};
use purchasely_clevertap::aws::claims::{EXPIRES_AT, KEY};
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::Instant;

/// Every operation of AWS that the doctor runs; all of them only read.
#[rustfmt::skip]
mod operation {
    use super::{Id, Operation, find, stack};

    pub const CALLER: Operation = ("sts get-caller-identity --query", Id::AwsAccessFailed);
    pub const STACK: Operation = (stack::DESCRIBE, Id::StackMissing);
    pub const DETECT_DRIFT: Operation = ("cloudformation detect-stack-drift --stack-name", Id::DriftUnknown);
    pub const DRIFT_STATUS: Operation = ("cloudformation describe-stack-drift-detection-status --stack-drift-detection-id", Id::DriftUnknown);
    pub const DRIFTS: Operation = ("cloudformation describe-stack-resource-drifts --stack-resource-drift-status-filters MODIFIED DELETED --stack-name", Id::DriftUnknown);
    pub const ALARMS: Operation = ("cloudwatch describe-alarms --alarm-name-prefix", Id::AlarmsMissing);
    pub const SUBSCRIPTIONS: Operation = ("sns list-subscriptions-by-topic --topic-arn", Id::AlarmTopicUnconfirmed);
    pub const FUNCTION: Operation = (find::FUNCTION, Id::FunctionMissing);
    pub const FUNCTION_URL: Operation = ("lambda get-function-url-config --function-name", Id::WebhookUnknown);
    pub const EVENT_SOURCES: Operation = ("lambda list-event-source-mappings --function-name", Id::EventSourceMissing);
    pub const QUEUE: Operation = ("sqs get-queue-attributes --attribute-names All --queue-url", Id::QueueMissing);
    pub const TABLE: Operation = ("dynamodb describe-table --table-name", Id::ClaimsTableMissing);
    pub const TIME_TO_LIVE: Operation = ("dynamodb describe-time-to-live --table-name", Id::ClaimsTableMissing);
}

/// What the function needs of each resource; a field that AWS leaves out is empty. The values are the template's: the
/// function does not know how it is deployed.
#[rustfmt::skip]
mod needs {
    use super::{EXPIRES_AT, Id, KEY, Need, Rule::{AtLeast, Is, Not}};

    pub const FUNCTION: &[Need] = &[
        ("/Timeout", Is("9"), Id::FunctionTimeout),
        ("/Runtime", Is("provided.al2023"), Id::FunctionRuntime),
        ("/MemorySize", AtLeast(256), Id::FunctionMemory),
        ("/State", Not("Failed"), Id::FunctionFailed),
        ("/LastUpdateStatus", Not("Failed"), Id::FunctionFailed),
        ("/LastUpdateStatus", Not("InProgress"), Id::FunctionUpdating),
    ];
    pub const DEAD_LETTER_QUEUE: &[Need] = &[
        ("/FifoQueue", Is("true"), Id::QueueStandard),
        ("/MessageRetentionPeriod", AtLeast(14 * 24 * 60 * 60), Id::QueueAttributes),
        ("/MaximumMessageSize", AtLeast(1_048_576), Id::QueueAttributes),
        ("/ApproximateNumberOfMessages", Is("0"), Id::DeadLetters),
    ];
    pub const EVENT_QUEUE: &[Need] = &[
        ("/FifoQueue", Is("true"), Id::QueueStandard),
        ("/MessageRetentionPeriod", AtLeast(14 * 24 * 60 * 60), Id::QueueAttributes),
        ("/MaximumMessageSize", AtLeast(1_048_576), Id::QueueAttributes),
        // With less, SQS moves the messages of a function that cannot run sooner than after three days.
        ("/VisibilityTimeout", AtLeast(300), Id::QueueAttributes),
    ];
    pub const EVENT_SOURCE: &[Need] = &[
        ("/State", Not("Disabled"), Id::EventSourceDisabled),
        ("/State", Not("Disabling"), Id::EventSourceDisabled),
        ("/FunctionResponseTypes/0", Is("ReportBatchItemFailures"), Id::EventSourceReport),
    ];
    pub const TABLE: &[Need] = &[
        ("/KeySchema/0/AttributeName", Is(KEY), Id::ClaimsTableKey),
        ("/KeySchema/1/AttributeName", Is(""), Id::ClaimsTableKey),
        ("/TimeToLive/TimeToLiveStatus", Not("DISABLED"), Id::ClaimsTableExpiry),
        ("/TimeToLive/AttributeName", Is(EXPIRES_AT), Id::ClaimsTableExpiry),
    ];
    /// The two parameters of each class of alarms, one of which names the receiver.
    pub const RECEIVERS: &[(Id, &str, &str)] = &[
        (Id::AlarmsUnreceived, "AlarmEmail", "AlarmTopicArn"),
        (Id::NoticesUnreceived, "NoticeEmail", "NoticeTopicArn"),
    ];
}

/// Drift detection may take several minutes, says
/// <https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/detect-drift-stack.html>.
const DRIFT_TIMEOUT: Duration = Duration::from_mins(5);
const DRIFT_POLL: Duration = Duration::from_secs(2);

/// A field as a JSON pointer, and the finding if it breaks the rule.
type Need = (&'static str, Rule, Id);

#[derive(Clone, Copy)]
enum Rule {
    Is(&'static str),
    Not(&'static str),
    AtLeast(u64),
}

/// Describes deployed resources. A check returns early when AWS does not answer; that is a finding.
pub struct Inspector<'a> {
    pub aws: &'a mut Aws,
    pub findings: &'a mut Findings,
}

#[derive(Debug, Default)]
pub struct Deployment {
    /// The function's environment.
    pub variables: Option<Variables>,
    pub webhook_url: Option<String>,
}

impl Inspector<'_> {
    /// Finds out who the AWS CLI signs for.
    pub async fn caller(&mut self) -> Option<()> {
        let arn = self.ask(operation::CALLER, "aws", "Arn").await?;
        self.add(Id::AwsAccess, "aws", &["you are", &text(&arn)]);
        Some(())
    }

    /// Checks a stack and the resources it made.
    pub async fn stack(&mut self, name: &str) -> Option<Deployment> {
        let mut answer = self.describe(operation::STACK, name).await?;
        let stack = answer["Stacks"][0].take();
        let status = text(&stack["StackStatus"]);
        let id = match status.as_str() {
            "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" => Id::Stack,
            "UPDATE_ROLLBACK_COMPLETE" => Id::StackRolledBack,
            status if status.ends_with("_IN_PROGRESS") => Id::StackBusy,
            _ => Id::StackFailed,
        };
        self.add(id, name, &[&status, &text(&stack["StackStatusReason"])]);
        if id != Id::StackBusy {
            self.drift(name).await;
        }
        self.alarms(name, &pairs(&stack["Parameters"], "Parameter")).await;
        let mut outputs = pairs(&stack["Outputs"], "Output");
        let Some(function) = outputs.remove("FunctionName") else {
            self.add(Id::StackMissing, name, &["has no output FunctionName"]);
            return None;
        };
        Some(Deployment {
            variables: self.configuration(&function).await,
            webhook_url: outputs.remove("WebhookUrl"),
        })
    }

    /// Checks a function that no stack made.
    pub async fn function(&mut self, name: &str) -> Option<Deployment> {
        let variables = Some(self.configuration(name).await?);
        let mut webhook_url = None;
        if let Some(config) = self.describe(operation::FUNCTION_URL, name).await {
            let authentication = text(&config["AuthType"]);
            if authentication == "NONE" {
                webhook_url = Some(text(&config["FunctionUrl"]));
            } else {
                self.add(Id::WebhookUrlAuth, name, &["AuthType is", &authentication]);
            }
        }
        Some(Deployment { variables, webhook_url })
    }

    async fn drift(&mut self, stack: &str) -> Option<()> {
        let started = self.describe(operation::DETECT_DRIFT, stack).await?;
        let id = text(&started["StackDriftDetectionId"]);
        let deadline = Instant::now() + DRIFT_TIMEOUT;
        let answer = loop {
            let answer = self.ask(operation::DRIFT_STATUS, stack, &id).await?;
            if answer["DetectionStatus"] != "DETECTION_IN_PROGRESS" || Instant::now() > deadline {
                break answer;
            }
            tokio::time::sleep(DRIFT_POLL).await;
        };
        let status = text(&answer["DetectionStatus"]);
        if status != "DETECTION_COMPLETE" {
            let reason = text(&answer["DetectionStatusReason"]);
            self.add(Id::DriftUnknown, stack, &[&status, &reason]);
        } else if answer["StackDriftStatus"] == "IN_SYNC" {
            self.add(Id::Drift, stack, &["is as its template says"]);
            return Some(());
        }
        // A failed detection has results too, for the resources it could read.
        let drifts = self.describe(operation::DRIFTS, stack).await?;
        for resource in list(&drifts["StackResourceDrifts"]) {
            let name = text(&resource["LogicalResourceId"]);
            let status = text(&resource["StackResourceDriftStatus"]);
            // Without the values: nobody has reviewed what is in them.
            let paths = texts(&resource["PropertyDifferences"], "/PropertyPath");
            self.add(Id::DriftFound, &name, &[&status, &paths.join(", ")]);
        }
        Some(())
    }

    async fn alarms(&mut self, stack: &str, parameters: &Variables) -> Option<()> {
        // The template's names for its alarms: the stack's name, a hyphen and one word.
        let prefix = format!("{stack}-");
        let answer = self.ask(operation::ALARMS, stack, &prefix).await?;
        let mut names = Vec::new();
        let mut topics = BTreeSet::new();
        for alarm in list(&answer["MetricAlarms"]) {
            let name = text(&alarm["AlarmName"]);
            if name[prefix.len()..].contains('-') {
                continue;
            }
            if alarm["ActionsEnabled"] == false {
                self.add(Id::AlarmDisabled, &name, &["ActionsEnabled is `false`"]);
            }
            names.push(name);
            let actions = texts(&alarm["AlarmActions"], "").into_iter();
            topics.extend(actions.filter(|arn| arn.contains(":sns:")));
        }
        let mut is_received = !names.is_empty();
        if names.is_empty() {
            self.add(Id::AlarmsMissing, stack, &["has no alarms"]);
        } else {
            for (id, email, topic) in needs::RECEIVERS {
                let is_set =
                    |name: &str| parameters.get(name).is_some_and(|value| !value.is_empty());
                if !is_set(email) && !is_set(topic) {
                    is_received = false;
                    self.add(*id, stack, &[email, "and", topic, "are not set"]);
                }
            }
        }
        if is_received {
            self.add(Id::Alarms, stack, &[&names.join(", ")]);
        }
        for topic in topics {
            let answer = self.describe(operation::SUBSCRIPTIONS, &topic).await?;
            // Until somebody confirms it, a subscription has `PendingConfirmation` for an ARN.
            let arns = texts(&answer["Subscriptions"], "/SubscriptionArn");
            if !arns.iter().any(|arn| arn.starts_with("arn:")) {
                let what = "has no confirmed subscription";
                self.add(Id::AlarmTopicUnconfirmed, &topic, &[what]);
            }
        }
        Some(())
    }

    /// The function's configuration and the resources it names. Returns its environment.
    async fn configuration(&mut self, name: &str) -> Option<Variables> {
        let function = self.describe(operation::FUNCTION, name).await?;
        self.compare(Id::Function, name, &function, needs::FUNCTION);
        let environment = &function["Environment"];
        if environment["Error"].is_object() {
            let message = text(&environment["Error"]["Message"]);
            self.add(Id::AwsDenied, name, &["environment:", &message]);
            return None;
        }
        let variables = environment["Variables"].as_object().into_iter().flatten();
        let variables = variables.map(|(name, value)| (name.clone(), text(value)));
        let mut variables: Variables = variables.collect();
        variables.retain(|_, value| !value.trim().is_empty());
        let mut dead_letter_arn = None;
        if let Some(url) = variables.get("DEAD_LETTER_QUEUE_URL")
            && let Some(answer) = self.describe(operation::QUEUE, url).await
        {
            let queue = &answer["Attributes"];
            self.compare(Id::Queue, url, queue, needs::DEAD_LETTER_QUEUE);
            dead_letter_arn = Some(text(&queue["QueueArn"]));
        }
        if let Some(url) = variables.get("EVENT_QUEUE_URL") {
            self.event_queue(name, url, dead_letter_arn).await;
        }
        if let Some(table) = variables.get("DEDUPLICATION_TABLE") {
            self.claims_table(table).await;
        }
        Some(variables)
    }

    /// `dead_letter_arn` is the queue that the function sends dead letters to, if it could be read.
    async fn event_queue(
        &mut self,
        function: &str,
        url: &str,
        dead_letter_arn: Option<String>,
    ) -> Option<()> {
        let answer = self.describe(operation::QUEUE, url).await?;
        let queue = &answer["Attributes"];
        self.compare(Id::Queue, url, queue, needs::EVENT_QUEUE);
        let policy = serde_json::from_str(&text(&queue["RedrivePolicy"]));
        let target = text(&policy.unwrap_or(Value::Null)["deadLetterTargetArn"]);
        if target.is_empty() || dead_letter_arn.is_some_and(|arn| target != arn) {
            self.add(Id::QueueRedrive, url, &["deadLetterTargetArn is", &target]);
        }
        let arn = text(&queue["QueueArn"]);
        let answer = self.describe(operation::EVENT_SOURCES, function).await?;
        let mut mappings = list(&answer["EventSourceMappings"]).iter();
        if let Some(mapping) = mappings.find(|mapping| mapping["EventSourceArn"] == *arn) {
            let uuid = text(&mapping["UUID"]);
            self.compare(Id::EventSource, &uuid, mapping, needs::EVENT_SOURCE);
        } else {
            self.add(Id::EventSourceMissing, function, &["does not read", &arn]);
        }
        Some(())
    }

    async fn claims_table(&mut self, name: &str) -> Option<()> {
        let mut table = self.describe(operation::TABLE, name).await?["Table"].take();
        let mut answer = self.describe(operation::TIME_TO_LIVE, name).await?;
        table["TimeToLive"] = answer["TimeToLiveDescription"].take();
        self.compare(Id::ClaimsTable, name, &table, needs::TABLE);
        Some(())
    }

    /// A finding for each need that is not met, or `ok`.
    fn compare(&mut self, ok: Id, name: &str, actual: &Value, needs: &[Need]) {
        let mut facts = Vec::new();
        let mut is_ok = true;
        for (pointer, rule, id) in needs {
            let value = actual.pointer(pointer).unwrap_or(&Value::Null);
            let value = value.as_u64().map_or_else(|| text(value), |number| number.to_string());
            let (is_met, wanted) = match rule {
                Rule::Is(wanted) => (value == *wanted, format!(", not `{wanted}`")),
                Rule::Not(unwanted) => (value != *unwanted, String::new()),
                Rule::AtLeast(least) => (
                    value.parse().is_ok_and(|number: u64| number >= *least),
                    format!(", less than {least}"),
                ),
            };
            let field = pointer.trim_start_matches('/');
            if is_met {
                let fact = format!("{field} {value}");
                // Two rules may be about one field, and another must be absent.
                if !value.is_empty() && !facts.contains(&fact) {
                    facts.push(fact);
                }
            } else {
                is_ok = false;
                let reason = text(&actual[format!("{field}Reason")]);
                let what = format!("{field} is `{value}`{wanted}");
                self.add(*id, name, &[&what, &reason]);
            }
        }
        if is_ok {
            self.add(ok, name, &[&facts.join(", ")]);
        }
    }

    async fn describe(&mut self, operation: Operation, name: &str) -> Option<Value> {
        self.ask(operation, name, name).await
    }

    async fn ask(&mut self, operation: Operation, name: &str, value: &str) -> Option<Value> {
        self.aws.run(operation, name, value, self.findings).await
    }

    fn add(&mut self, id: Id, name: &str, words: &[&str]) {
        self.findings.add(id, name, words.join(" ").trim_end());
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The texts at a JSON pointer within each element of a list.
fn texts(values: &Value, pointer: &str) -> Vec<String> {
    let values = list(values).iter();
    values.filter_map(|value| value.pointer(pointer)).map(text).collect()
}
