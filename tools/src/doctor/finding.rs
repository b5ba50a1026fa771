//! Everything the doctor can find, in one table, and the findings of one run.
//! It does not know how anything is checked.

use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Ok,
    /// It works, or it cannot be checked from here.
    Warning,
    /// Webhooks are not relayed, or a guarantee is lost.
    Error,
}

/// One row of the table.
#[derive(Debug)]
pub struct Check {
    /// Stable; scripts may depend on it.
    pub id: &'static str,
    /// The heading it is printed under.
    pub group: &'static str,
    pub level: Level,
    /// For `Ok` what was checked, else the likely cause.
    pub meaning: &'static str,
    /// `NAME` stands for what the finding is about; empty for `Ok`.
    pub fix: &'static str,
}

macro_rules! checks {
    ($($group:literal { $($key:ident $id:literal $level:ident $meaning:literal $($fix:literal)?;)* })*) => {
        /// The key of a row.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Id { $($($key,)*)* }

        /// Every finding there can be, in the order of the output.
        pub const CHECKS: &[Check] = &[$($(Check {
            id: $id,
            group: $group,
            level: Level::$level,
            meaning: $meaning,
            fix: concat!($($fix)?),
        },)*)*];
    };
}

checks! {
"Tools" {
    Tool "tool" Ok "A tool for building or deploying is installed and recent enough.";
    ToolMissing "tool_missing" Warning "It is not installed or not in PATH, or prints no version. Each way to deploy needs other tools."
        "Run `make tools` and activate `.tools/venv`, or install it with pip as `requirements/` says.";
    ToolOutdated "tool_outdated" Error "Older versions are known not to build or deploy this project."
        "Run `make tools` and activate `.tools/venv`, or upgrade NAME.";
}
"Deployed" {
    AwsAccess "aws_access" Ok "The AWS CLI runs, and AWS accepts the caller.";
    AwsAccessFailed "aws_access_failed" Error "No AWS CLI, no valid credentials, no region or no network."
        "Install the AWS CLI or name it in AWS_CLI; sign in (`aws sso login` or `aws configure`); set AWS_PROFILE and AWS_REGION.";
    AwsDenied "aws_denied" Warning "The caller lacks a read permission, so this was not checked."
        "Ask an administrator for the permission, or to run this command.";
    Stack "stack" Ok "The stack exists, and its last deployment succeeded.";
    StackMissing "stack_missing" Error "There is no such stack of this project, or AWS_PROFILE and AWS_REGION belong to another account or region."
        "Check the name with `aws cloudformation list-stacks`, and the profile and region.";
    StackFailed "stack_failed" Error "The last deployment failed."
        "Find the first failure with `aws cloudformation describe-stack-events --stack-name NAME`. Delete a stack that was never created before deploying again.";
    StackRolledBack "stack_rolled_back" Warning "The last deployment failed; the one before it runs."
        "Find the first failure with `aws cloudformation describe-stack-events --stack-name NAME`, fix it and deploy again.";
    StackBusy "stack_busy" Warning "A deployment is in progress."
        "Run this command again when it has finished.";
    Drift "drift" Ok "CloudFormation finds no resource that differs from the stack's template.";
    DriftFound "drift_found" Warning "Somebody changed or deleted the resource outside the stack."
        "Set the properties back (the CloudFormation console shows both values under Stack actions, View drift results), or change the template and deploy. A deployment alone does not undo such changes.";
    DriftUnknown "drift_unknown" Warning "CloudFormation did not finish drift detection. It needs permission to read each resource."
        "Run `aws cloudformation detect-stack-drift --stack-name NAME`, or open View drift results in the CloudFormation console.";
    Function "function" Ok "The function's state, timeout, runtime and memory.";
    FunctionMissing "function_missing" Error "There is no such function, or AWS_PROFILE and AWS_REGION belong to another account or region."
        "Check the name with `aws lambda list-functions`, and the profile and region.";
    FunctionFailed "function_failed" Error "Lambda could not apply the last update or cannot run the function."
        "Fix what the reason names and deploy again.";
    FunctionUpdating "function_updating" Warning "An update is in progress."
        "Run this command again when it has finished.";
    FunctionTimeout "function_timeout" Error "The function works for up to 8 s and must end before API Gateway gives up at 9.5 s and Purchasely at 10 s."
        "`aws lambda update-function-configuration --function-name NAME --timeout 9`";
    FunctionRuntime "function_runtime" Error "The binary needs the runtime provided.al2023."
        "`aws lambda update-function-configuration --function-name NAME --runtime provided.al2023`";
    FunctionMemory "function_memory" Warning "Lambda gives CPU in proportion to memory; with less than 256 MB a cold start takes longer."
        "`aws lambda update-function-configuration --function-name NAME --memory-size 256`";
    EventSource "event_source" Ok "The function reads the event queue and reports failed messages one by one.";
    EventSourceMissing "event_source_missing" Error "Nothing connects the event queue with the function: messages in the queue are never relayed."
        "`aws lambda create-event-source-mapping --function-name NAME --event-source-arn <ARN of the event queue> --batch-size 10 --function-response-types ReportBatchItemFailures --scaling-config MaximumConcurrency=2`";
    EventSourceDisabled "event_source_disabled" Error "Somebody disabled the event source mapping: messages in the event queue wait."
        "`aws lambda update-event-source-mapping --uuid NAME --enabled`";
    EventSourceReport "event_source_report" Error "Without ReportBatchItemFailures, SQS deletes a whole batch when the function reports a failed message."
        "`aws lambda update-event-source-mapping --uuid NAME --function-response-types ReportBatchItemFailures`";
    Queue "queue" Ok "The event queue and the dead-letter queue.";
    QueueMissing "queue_missing" Error "The queue in EVENT_QUEUE_URL or DEAD_LETTER_QUEUE_URL was deleted, or is in another account or region."
        "Create it again and set the variable to its URL. A stack can be deleted and deployed again.";
    QueueStandard "queue_standard" Error "It is not a FIFO queue: a user's events lose their order."
        "A queue's kind cannot be changed: create a FIFO queue and use its URL.";
    QueueRedrive "queue_redrive" Error "The event queue's RedrivePolicy does not lead to the dead-letter queue, so dead letters cannot be redriven."
        "`aws sqs set-queue-attributes --queue-url NAME --attributes '{\"RedrivePolicy\":\"{\\\"deadLetterTargetArn\\\":\\\"<ARN of the dead-letter queue>\\\",\\\"maxReceiveCount\\\":\\\"1000\\\"}\"}'`";
    QueueAttributes "queue_attributes" Warning "Messages are deleted before the documented 14 days, delivered again while the function still works on them, or refused although SQS could hold them."
        "`aws sqs set-queue-attributes --queue-url NAME --attributes MessageRetentionPeriod=1209600,VisibilityTimeout=300,MaximumMessageSize=1048576`";
    DeadLetters "dead_letters" Warning "Events that could not be relayed wait in the dead-letter queue, for 14 days at most."
        "Fix the cause and redrive them: docs/operations.md, Dead letters.";
    ClaimsTable "claims_table" Ok "The key and the time to live of the table of relayed events.";
    ClaimsTableMissing "claims_table_missing" Error "The table in DEDUPLICATION_TABLE was deleted, or is in another account or region: events may be relayed twice."
        "Create it again and set the variable to its name. A stack can be deleted and deployed again.";
    ClaimsTableKey "claims_table_key" Error "The table's key must be the single string `event_id`."
        "A key cannot be changed: create another table and use its name.";
    ClaimsTableExpiry "claims_table_expiry" Warning "Time to live is off, so items are never deleted."
        "`aws dynamodb update-time-to-live --table-name NAME --time-to-live-specification AttributeName=expires_at,Enabled=true`";
    Alarms "alarms" Ok "The stack has alarms, and both classes have a receiver.";
    AlarmsMissing "alarms_missing" Warning "The stack was deployed with Monitoring=false."
        "Deploy with Monitoring=true, AlarmEmail or AlarmTopicArn, and NoticeEmail or NoticeTopicArn.";
    AlarmsUnreceived "alarms_unreceived" Warning "Nobody learns of the alarms that somebody must act on at once, such as a wrong secret."
        "Deploy with AlarmEmail or AlarmTopicArn.";
    NoticesUnreceived "notices_unreceived" Warning "Nobody learns of the alarms that can wait for the next working day, such as missing revenue."
        "Deploy with NoticeEmail or NoticeTopicArn.";
    AlarmDisabled "alarm_disabled" Warning "Somebody disabled the alarm's actions: nobody learns of it."
        "`aws cloudwatch enable-alarm-actions --alarm-names NAME`";
    AlarmTopicUnconfirmed "alarm_topic_unconfirmed" Warning "The alarms go to a topic without a confirmed subscription."
        "Open the link in the mail `AWS Notification - Subscription Confirmation`, or subscribe somebody to NAME.";
}
"Settings" {
    Settings "settings" Ok "The function accepts its settings.";
    SettingsAbsent "settings_absent" Warning "None of the function's variables is set in this environment, so none was checked."
        "Name a file with --env-file, or check a deployment with --stack or --function.";
    EnvFileInvalid "env_file_invalid" Error "`cargo lambda deploy --env-file` could not read it or would read something else."
        "Write one NAME=value per line; put a value with spaces, `=`, `#` or quotes into quotes.";
    SettingInvalid "setting_invalid" Error "The function does not start with this value."
        "Correct NAME; docs/settings.md lists what each setting takes.";
    SettingDoubtful "setting_doubtful" Warning "The function starts, but this is rarely intended."
        "Correct it unless it is intended.";
    SettingUnknown "setting_unknown" Warning "The function does not read this variable: a typing error?"
        "Compare NAME with docs/settings.md, or remove it.";
    GuaranteeMissing "guarantee_missing" Warning "A queue or the table is not configured, so the function cannot guarantee this."
        "Deploy the stack with KeepEvents=true: docs/deploy.md.";
}
"Secret" {
    Secret "secret" Ok "The secret can be read and has the keys the function needs.";
    SecretUnreadable "secret_unreadable" Error "It does not exist, holds no text value, or is in another account or region."
        "Write the JSON of docs/settings.md into secret.json and store it with `aws secretsmanager put-secret-value --secret-id <id> --secret-string file://secret.json`.";
    SecretInvalid "secret_invalid" Error "The function refuses this value and answers 503."
        "Correct the JSON and store it with `aws secretsmanager put-secret-value --secret-id <id> --secret-string file://secret.json`.";
    SecretKeyUnusable "secret_key_unusable" Warning "The function ignores this key."
        "Correct the value or remove the key, and store the JSON again.";
    SecretKeyUnknown "secret_key_unknown" Warning "The function does not read these keys: a typing error?"
        "Compare them with docs/settings.md, or remove them.";
    SandboxPasscodeMissing "sandbox_passcode_missing" Error "CLEVERTAP_SANDBOX_ACCOUNT_ID is set, but the secret has no clevertap_sandbox_passcode: testers' events are answered 503."
        "Add the sandbox account's passcode to the JSON and store it again.";
}
"CleverTap" {
    Clevertap "clevertap" Ok "Region, account id and passcode belong together.";
    ClevertapSkipped "clevertap_skipped" Warning "Without valid settings and a passcode there is nothing to ask."
        "Fix the settings or the secret first, or name a file with --secret-file.";
    ClevertapUnreachable "clevertap_unreachable" Error "No connection or no answer: network, DNS, proxy, CLEVERTAP_API_URL or SSL_CERT_FILE."
        "Check them on this machine and run this command again.";
    ClevertapCredentials "clevertap_credentials" Error "Passcode, account id and region do not belong together. CleverTap answers a wrong region like a wrong passcode."
        "Compare all three with Settings, Project in CleverTap's dashboard; the region is in the dashboard's address.";
    ClevertapBusy "clevertap_busy" Warning "A temporary fault of CleverTap's, or too many other requests to the account."
        "Run this command again in a few minutes.";
    ClevertapUnexpected "clevertap_unexpected" Error "CleverTap does not document such an answer; a proxy or another server may have given it."
        "Check CLEVERTAP_API_URL and any proxy.";
    Profile "profile" Ok "CleverTap's profile is what the webhook makes of it.";
    ProfileDiffers "profile_differs" Error "A later event changed the profile, the webhook or its profile record was not relayed, the account's Schema dropped a property, or the id is another user's."
        "Find the webhook's event in the function's log (docs/operations.md, Find an event); look into Settings, Error Stream in CleverTap.";
}
"Backend" {
    Backend "backend" Ok "The host of FORWARD_URL answers, and its certificate is valid. Nothing was posted.";
    BackendUnreachable "backend_unreachable" Error "No connection, no valid certificate or no answer: every webhook would be answered 503, and nothing would reach CleverTap."
        "Check FORWARD_URL and the backend.";
    BackendOwn "backend_own" Error "FORWARD_URL is this API's own address: every webhook would come back and be answered 503."
        "Set FORWARD_URL to the backend's own address.";
}
"Webhook" {
    Webhook "webhook" Ok "The function refuses an unsigned request with 401.";
    WebhookSkipped "webhook_skipped" Warning "PURCHASELY_SIGNATURE is off, so the function might relay the test request."
        "Set it to `required` unless the sender cannot sign.";
    WebhookUnknown "webhook_unknown" Warning "The deployment has no public address that could be found."
        "Name the address with --url.";
    WebhookUrlAuth "webhook_url_auth" Error "The Function URL requires AWS credentials, which Purchasely does not have."
        "`aws lambda update-function-url-config --function-name NAME --auth-type NONE`; the signature is the authentication.";
    WebhookUnreachable "webhook_unreachable" Error "No connection or no answer: a wrong address, or this machine's network."
        "Compare the address with the stack's output WebhookUrl or `aws lambda get-function-url-config`.";
    WebhookUnsigned "webhook_unsigned" Error "The function accepts unsigned requests, or this is not the function."
        "Set PURCHASELY_SIGNATURE=required unless the sender cannot sign; else correct the address.";
    WebhookRedirect "webhook_redirect" Error "The address redirects, and Purchasely does not follow."
        "Give Purchasely the address it redirects to, starting with https.";
    WebhookIntercepted "webhook_intercepted" Error "Something in front of the function refuses the request."
        "Remove the authorizer or proxy: the signature is the authentication.";
    WebhookForbidden "webhook_forbidden" Error "AWS refuses the request before the function runs: a missing permission of a Function URL, a firewall (WAF) or a resource policy."
        "Deploy again with cargo lambda 1.9.2 or later, which sets both permissions; else check WAF and resource policy.";
    WebhookPath "webhook_path" Error "There is no such path. With SAM it is /webhooks/purchasely; a Function URL takes every path."
        "Use the stack's output WebhookUrl unchanged.";
    WebhookThrottled "webhook_throttled" Error "API Gateway or Lambda throttles requests."
        "Run this command again; if it persists, raise ThrottlingRate or the function's concurrency.";
    WebhookUnavailable "webhook_unavailable" Error "The function runs, but could not answer."
        "Read its log: with `secret_unavailable`, store the secret or give the role secretsmanager:GetSecretValue.";
    WebhookFailing "webhook_failing" Error "The function could not start or run."
        "Read its log for a configuration error; else check the architecture and the timeout.";
    WebhookUnexpected "webhook_unexpected" Error "This is not an answer of the function."
        "Compare the address with the stack's output WebhookUrl or the Function URL.";
    WebhookSecret "webhook_secret" Ok "The function refuses a wrong signature with 401, so it can read its secret.";
    WebhookSecretMissing "webhook_secret_missing" Error "The function runs, but cannot read its secret."
        "Store the secret; else check SECRET_ID and the role's secretsmanager:GetSecretValue. The log line before `secret_unavailable` says which.";
    WebhookSecretUnknown "webhook_secret_unknown" Warning "The answer to a wrong signature is neither 401 nor 503."
        "Run this command again; if it persists, find the request in the function's log.";
}
"Clock" {
    Clock "clock" Ok "This machine's clock agrees with the server's.";
    ClockOff "clock_off" Warning "This machine's clock is more than a minute off. What it signs may be refused with a short PURCHASELY_SIGNATURE_TOLERANCE_SECONDS."
        "Let the system set its clock (`timedatectl set-ntp true`, or the settings for date and time).";
    ClockWrong "clock_wrong" Error "This machine's clock is more than five minutes off. AWS refuses what it signs."
        "Let the system set its clock (`timedatectl set-ntp true`, or the settings for date and time).";
}
}

#[derive(Debug)]
struct Finding {
    id: Id,
    /// A file, a resource, an address.
    name: String,
    what: String,
}

/// What one run found.
#[derive(Debug, Default)]
pub struct Findings(Vec<Finding>);

impl Id {
    pub fn check(self) -> &'static Check {
        &CHECKS[self as usize]
    }
}

impl Finding {
    fn fix(&self) -> String {
        self.id.check().fix.replace("NAME", &self.name)
    }
}

impl Findings {
    /// Neither `name` nor `what` may contain a value of the secret or a user id.
    pub fn add(&mut self, id: Id, name: impl Into<String>, what: impl Into<String>) {
        self.0.push(Finding { id, name: name.into(), what: what.into() });
    }

    pub fn contains_group(&self, group: &str) -> bool {
        self.0.iter().any(|found| found.id.check().group == group)
    }

    pub fn worst(&self) -> Level {
        let levels = self.0.iter().map(|found| found.id.check().level);
        levels.max().unwrap_or(Level::Ok)
    }

    pub fn text(&self) -> String {
        let width = CHECKS.iter().map(|check| check.id.len()).max();
        let width = width.unwrap_or_default();
        let mut text = String::new();
        let mut group = "";
        for found in self.ordered() {
            let check = found.id.check();
            if check.group != group {
                group = check.group;
                let _ = writeln!(text, "{group}");
            }
            let level = match check.level {
                Level::Ok => "ok",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            let Finding { name, what, .. } = found;
            let _ = writeln!(text, "  {level:<7}  {:<width$}  {name}: {what}", check.id);
            if check.level > Level::Ok {
                let indent = " ".repeat(width + 13);
                let _ = writeln!(text, "{indent}cause: {}", check.meaning);
                let _ = writeln!(text, "{indent}fix:   {}", found.fix());
            }
        }
        let [ok, warnings, errors] = self.counts();
        let _ = writeln!(text, "\n{ok} ok, {warnings} warnings, {errors} errors");
        text
    }

    pub fn json(&self) -> Value {
        let findings = self.ordered().into_iter().map(|found| {
            let check = found.id.check();
            let is_ok = check.level == Level::Ok;
            json!({
                "id": check.id,
                "level": check.level,
                "name": found.name,
                "what": found.what,
                "cause": (!is_ok).then_some(check.meaning),
                "fix": (!is_ok).then(|| found.fix()),
            })
        });
        let findings: Vec<_> = findings.collect();
        let [ok, warning, error] = self.counts();
        json!({
            "findings": findings,
            "summary": { "ok": ok, "warning": warning, "error": error },
        })
    }

    fn ordered(&self) -> Vec<&Finding> {
        let mut findings: Vec<_> = self.0.iter().collect();
        findings.sort_by_key(|found| found.id as usize);
        findings
    }

    fn counts(&self) -> [usize; 3] {
        [Level::Ok, Level::Warning, Level::Error].map(|level| {
            let levels = self.0.iter().map(|found| found.id.check().level);
            levels.filter(|&found| found == level).count()
        })
    }
}
