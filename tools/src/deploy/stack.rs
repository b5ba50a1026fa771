//! Carries out one deployment with the AWS CLI. It does not know what the parameters mean.

use super::Options;
use super::changes::{self, Change};
use super::template::Template;
use crate::stack::{self, pairs};
use crate::{ask, aws, secret};
use indicatif::ProgressBar;
use purchasely_clevertap::aws::secret::Secret;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::NamedTempFile;

/// Of the newest events, which are more than a deployment that is undone can have.
const EVENTS: &str = "400";
/// Nothing in a bucket is public.
const PRIVATE: &str =
    "BlockPublicAcls=true,IgnorePublicAcls=true,BlockPublicPolicy=true,RestrictPublicBuckets=true";
pub const TICK: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a deployment ended early, and its exit code.
pub struct Failed {
    pub code: u8,
    pub text: String,
}

/// One deployment on its way.
pub struct Deployment<'d> {
    options: &'d Options,
    template: &'d Template,
    parameters: &'d BTreeMap<String, String>,
    progress: ProgressBar,
    account: String,
    region: String,
    /// Of addresses in the region.
    suffix: &'static str,
    /// A change set that has not been executed, and whether the stack exists for it alone.
    waiting: Option<(String, bool)>,
    pub is_running: bool,
    pub changes: Vec<Change>,
}

/// What the deployed stack says.
#[derive(Debug, Default)]
pub struct Report {
    pub is_changed: bool,
    pub webhook_url: String,
    pub to_do: Vec<String>,
}

impl<'d> Deployment<'d> {
    pub fn new(
        options: &'d Options,
        template: &'d Template,
        parameters: &'d BTreeMap<String, String>,
        progress: ProgressBar,
    ) -> Self {
        Self {
            options,
            template,
            parameters,
            progress,
            account: String::new(),
            region: String::new(),
            suffix: "amazonaws.com",
            waiting: None,
            is_running: false,
            changes: Vec::new(),
        }
    }

    pub async fn run(&mut self) -> Result<Report, Failed> {
        let stack = &self.options.stack;
        let zip = self.zip()?;
        self.identify().await?;
        self.say(&format!("stack {stack}, account {}, region {}", self.account, self.region));
        let is_new = self.is_new().await?;
        let bucket = self.bucket().await?;
        let template = self.upload(&bucket, &zip).await?;
        let name = self.create_change_set(&bucket, &template, is_new).await?;
        let change_set = self.created(&name).await?;
        let is_changed = change_set["Status"] != "FAILED";
        if is_changed {
            self.changes = changes::read(&change_set, self.template);
            self.agree().await?;
            self.execute(&name).await?;
        } else {
            let reason = text(&change_set["StatusReason"]);
            if !["didn't contain changes", "No updates"].iter().any(|it| reason.contains(it)) {
                return Err(refused(format!("AWS does not accept the change: {reason}")));
            }
            self.withdraw().await;
        }
        self.report(is_changed).await
    }

    /// Leaves nothing of a change set that was not executed, nor of a stack that was made for it.
    pub async fn withdraw(&mut self) {
        let Some((name, is_new)) = self.waiting.take() else {
            return;
        };
        let stack = &self.options.stack;
        let of = format!("cloudformation delete-change-set --stack-name {stack} --change-set-name");
        let _ = aws::ask(&of, &name).await;
        // Only a stack in this state has no resources.
        if is_new
            && let Ok(Some(found)) = self.describe().await
            && found["StackStatus"] == "REVIEW_IN_PROGRESS"
        {
            let _ = aws::ask("cloudformation delete-stack --stack-name", stack).await;
        }
    }

    /// On a terminal one line that changes, else a line for each change.
    fn say(&self, message: &str) {
        if self.progress.is_hidden() {
            eprintln!("{message}");
        } else {
            self.progress.set_message(message.to_owned());
        }
    }

    /// The function's zip, which the template names, and its content.
    fn zip(&self) -> Result<(String, Vec<u8>), Failed> {
        let template = self.template;
        let code = template
            .function()
            .map(|function| text(&function["CodeUri"]))
            .unwrap_or_default();
        let folder = template.path.parent().unwrap_or(Path::new(""));
        let read = std::fs::read(folder.join(code));
        match read {
            Ok(zip) if template.text.matches(&format!("CodeUri: {code}\n")).count() == 1 => {
                Ok((code.to_owned(), zip))
            }
            _ => Err(unusable(format!(
                "{} names no built function: use `make deploy` in a clone, or the template of a release",
                template.path.display()
            ))),
        }
    }

    async fn identify(&mut self) -> Result<(), Failed> {
        let named = ["AWS_REGION", "AWS_DEFAULT_REGION"].into_iter();
        let mut named = named.filter_map(|name| std::env::var(name).ok());
        self.region = match named.find(|region| !region.is_empty()) {
            Some(region) => region,
            None => match aws::ask("configure get", "region").await {
                Ok(Value::String(region)) if !region.is_empty() => region,
                Err(failure) if failure.message.contains("cannot be run") => {
                    return Err(unusable(format!(
                        "{}; install it, or name it in AWS_CLI",
                        failure.message
                    )));
                }
                _ => {
                    return Err(unusable(
                        "no AWS region; set AWS_REGION, or run `aws configure`".to_owned(),
                    ));
                }
            },
        };
        let caller = aws::ask("sts get-caller-identity --query", "@").await.map_err(|failure| {
            unusable(format!(
                "no AWS account: {}; install the AWS CLI or name it in AWS_CLI, sign in (`aws sso login`, `aws configure`), or set AWS_PROFILE",
                failure.message
            ))
        })?;
        self.account = text(&caller["Account"]).to_owned();
        if text(&caller["Arn"]).starts_with("arn:aws-cn:") {
            self.suffix = "amazonaws.com.cn";
        }
        Ok(())
    }

    /// The stack as CloudFormation describes it, if there is one.
    async fn describe(&self) -> Result<Option<Value>, Failed> {
        match aws::ask(stack::DESCRIBE, &self.options.stack).await {
            Ok(mut answer) => Ok(Some(answer["Stacks"][0].take())),
            Err(failure) if failure.message.contains("does not exist") => Ok(None),
            Err(failure) => Err(failed(failure, stack::DESCRIBE)),
        }
    }

    /// Whether the stack has no resources yet. It is an error if it cannot be deployed to.
    async fn is_new(&self) -> Result<bool, Failed> {
        let Some(found) = self.describe().await? else {
            return Ok(true);
        };
        let status = text(&found["StackStatus"]);
        let (is_ready, meaning) = changes::state(status, &self.options.stack);
        if !is_ready {
            return Err(refused(meaning));
        }
        let is_new = status == "REVIEW_IN_PROGRESS";
        if !is_new && !pairs(&found["Outputs"], "Output").contains_key("SecretArn") {
            let stack = &self.options.stack;
            return Err(unusable(format!(
                "the stack {stack} is not of this project; choose another name with --stack"
            )));
        }
        Ok(is_new)
    }

    async fn bucket(&self) -> Result<String, Failed> {
        let made = format!("purchasely-clevertap-{}-{}", self.account, self.region);
        let bucket = self.options.bucket.clone().unwrap_or(made);
        let owner = format!("--expected-bucket-owner {} --bucket", self.account);
        let Err(failure) = aws::ask(&format!("s3api head-bucket {owner}"), &bucket).await else {
            return Ok(bucket);
        };
        if !matches!(failure.code.as_deref(), Some("404" | "NoSuchBucket")) {
            return Err(unusable(format!(
                "the bucket {bucket} is another account's, or you may not use it; name one of yours with --bucket ({})",
                failure.message
            )));
        }
        if self.options.bucket.is_some() {
            return Err(unusable(format!(
                "there is no bucket {bucket}; without --bucket, one is created"
            )));
        }
        self.say(&format!("creating the bucket {bucket}"));
        // This region has no name as a place.
        let place = match self.region.as_str() {
            "us-east-1" => String::new(),
            region => format!("--create-bucket-configuration LocationConstraint={region} "),
        };
        let create = format!("s3api create-bucket {place}--bucket");
        match aws::ask(&create, &bucket).await {
            // Another deployment may have created it just now.
            Err(failure) if failure.code.as_deref() != Some("BucketAlreadyOwnedByYou") => {
                return Err(failed(failure, &create));
            }
            _ => {}
        }
        let block = "s3api put-public-access-block --public-access-block-configuration";
        call(&format!("{block} {PRIVATE} --bucket"), &bucket).await?;
        Ok(bucket)
    }

    /// Uploads the zip, and the template that names it; returns the template's key. A key is made of the content,
    /// so that the same function is no change.
    async fn upload(
        &self,
        bucket: &str,
        (code, zip): &(String, Vec<u8>),
    ) -> Result<String, Failed> {
        self.say(&format!("uploading the function and the template to the bucket {bucket}"));
        let zip = self.put(bucket, "zip", zip).await?;
        let written = format!("CodeUri: {code}\n");
        let template =
            self.template.text.replace(&written, &format!("CodeUri: s3://{bucket}/{zip}\n"));
        self.put(bucket, "template", template.as_bytes()).await
    }

    async fn put(&self, bucket: &str, kind: &str, content: &[u8]) -> Result<String, Failed> {
        let digest = Sha256::digest(content);
        let digest: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let key = format!("{}/{digest}.{kind}", &self.options.stack);
        let file = file(content)?;
        let path = file.path().to_string_lossy();
        let owner = format!("--expected-bucket-owner {}", self.account);
        call(&format!("s3api put-object --bucket {bucket} --key {key} {owner} --body"), &path)
            .await?;
        Ok(key)
    }

    async fn create_change_set(
        &mut self,
        bucket: &str,
        template: &str,
        is_new: bool,
    ) -> Result<String, Failed> {
        let pairs = |pairs: Vec<(&String, &String)>, [one, other]: [&str; 2]| -> Vec<Value> {
            pairs
                .into_iter()
                .map(|(name, value)| json!({ one: name, other: value }))
                .collect()
        };
        let parameters =
            pairs(self.parameters.iter().collect(), ["ParameterKey", "ParameterValue"]);
        let tags = self.options.tags.iter().map(|(name, value)| (name, value)).collect();
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let name = format!("relay-deploy-{seconds}-{}", std::process::id());
        let service = std::env::var("AWS_ENDPOINT_URL").ok();
        let service =
            service.unwrap_or_else(|| format!("https://s3.{}.{}", self.region, self.suffix));
        let mut request = json!({
            "StackName": &self.options.stack,
            "ChangeSetName": name,
            "ChangeSetType": if is_new { "CREATE" } else { "UPDATE" },
            "TemplateURL": format!("{service}/{bucket}/{template}"),
            "Parameters": parameters,
            "Capabilities": ["CAPABILITY_IAM"],
        });
        // Without any, the stack keeps those that it has.
        if !self.options.tags.is_empty() {
            request["Tags"] = json!(pairs(tags, ["Key", "Value"]));
        }
        if let Some(role) = &self.options.role_arn {
            request["RoleARN"] = json!(role);
        }
        self.waiting = Some((name.clone(), is_new));
        let file = file(request.to_string().as_bytes())?;
        let request = format!("file://{}", file.path().display());
        let operation = "cloudformation create-change-set --cli-input-json";
        match aws::ask(operation, &request).await {
            // The AWS CLI repeats a request whose answer is late, and nobody else gives this name.
            Err(failure) if failure.code.as_deref() != Some("AlreadyExistsException") => {
                Err(Failed { code: 1, ..failed(failure, operation) })
            }
            _ => Ok(name),
        }
    }

    async fn created(&self, name: &str) -> Result<Value, Failed> {
        self.say("waiting for the change set");
        let describe = format!(
            "cloudformation describe-change-set --stack-name {} --change-set-name",
            self.options.stack
        );
        let mut pause = Pause::default();
        loop {
            let found = call(&describe, name).await?;
            if matches!(text(&found["Status"]), "CREATE_COMPLETE" | "FAILED") {
                return Ok(found);
            }
            pause.wait().await;
        }
    }

    /// Shows the changes, and asks if something is replaced or removed.
    async fn agree(&self) -> Result<(), Failed> {
        let shown: String = self.changes.iter().map(|change| format!("{change}\n")).collect();
        self.progress
            .suspend(|| eprint!("Changes of the stack {}:\n{shown}", &self.options.stack));
        if self.options.yes || !self.changes.iter().any(Change::is_grave) {
            return Ok(());
        }
        if !ask::is_on_a_terminal() {
            return Err(refused("something is replaced or removed, so nothing was changed; look at the changes, and add --yes".to_owned()));
        }
        self.progress.finish_and_clear();
        eprintln!("Something is replaced or removed.");
        // A thread of its own, which an interruption need not wait for.
        let (sender, answer) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || sender.send(ask::is_agreed(false)));
        if !matches!(answer.await, Ok(Ok(true))) {
            return Err(refused("nothing was changed".to_owned()));
        }
        self.progress.reset();
        self.progress.enable_steady_tick(TICK);
        Ok(())
    }

    /// The stack's events since the one with this id, newest first.
    async fn events(&self, count: &str, since: &str) -> Result<Vec<Value>, Failed> {
        let describe =
            format!("cloudformation describe-stack-events --max-items {count} --stack-name");
        let mut found = call(&describe, &self.options.stack).await?;
        let Value::Array(mut events) = found["StackEvents"].take() else {
            return Ok(Vec::new());
        };
        let seen = events.iter().position(|event| event["EventId"] == since);
        events.truncate(seen.unwrap_or(events.len()));
        Ok(events)
    }

    async fn execute(&mut self, change_set: &str) -> Result<(), Failed> {
        let stack = &self.options.stack;
        let before = self.events("1", "").await?;
        let before = before
            .first()
            .map(|event| text(&event["EventId"]))
            .unwrap_or_default()
            .to_owned();
        let execute =
            format!("cloudformation execute-change-set --stack-name {stack} --change-set-name");
        call(&execute, change_set).await?;
        (self.waiting, self.is_running) = (None, true);
        let (mut pause, mut shown) = (Pause::default(), String::new());
        loop {
            let events = self.events(EVENTS, &before).await?;
            let is_stack = |event: &&Value| {
                event["ResourceType"] == "AWS::CloudFormation::Stack"
                    && event["LogicalResourceId"] == *stack
            };
            let status = events
                .iter()
                .find(is_stack)
                .map(|event| text(&event["ResourceStatus"]))
                .unwrap_or_default();
            if !status.is_empty() && !status.ends_with("_IN_PROGRESS") {
                self.is_running = false;
                if matches!(status, "CREATE_COMPLETE" | "UPDATE_COMPLETE") {
                    return Ok(());
                }
                let causes: String = events.iter().rev().filter_map(cause).collect();
                return Err(refused(format!("{}{causes}", changes::state(status, stack).1)));
            }
            let done = events
                .iter()
                .filter(|event| text(&event["ResourceStatus"]).ends_with("_COMPLETE"));
            let done: std::collections::BTreeSet<_> =
                done.map(|event| text(&event["LogicalResourceId"])).collect();
            let message = format!("{status}: {} of {} resources", done.len(), self.changes.len());
            if message != shown {
                self.say(&message);
                shown = message;
            }
            pause.wait().await;
        }
    }

    async fn report(&self, is_changed: bool) -> Result<Report, Failed> {
        let stack = &self.options.stack;
        let found = self.describe().await?.unwrap_or_default();
        let parameter = |name: &str| self.parameters.get(name).map_or("", String::as_str);
        let outputs = pairs(&found["Outputs"], "Output");
        let output = |name: &str| outputs.get(name).map_or("", String::as_str);
        let mut to_do = Vec::new();
        let arn = output("SecretArn");
        let secret = secret::read(arn).await;
        let is_signed = parameter("PurchaselySignature") != "off";
        let has_sandbox = !parameter("ClevertapSandboxAccountId").is_empty();
        match secret.map(|secret| Secret::parse(&secret.unwrap_or_default(), is_signed)) {
            Err(_) => to_do.push(format!("You may not read the secret {arn}. Look yourself whether it is stored.")),
            Ok(Err(why)) => to_do.push(format!(
                "Store the secret, see `relay secret --help`. Until then the function answers 503. ({why})"
            )),
            Ok(Ok(secret)) if has_sandbox && secret.clevertap_sandbox_passcode.is_none() => {
                to_do.push("Add clevertap_sandbox_passcode to the secret, for ClevertapSandboxAccountId.".to_owned());
            }
            Ok(Ok(_)) => {}
        }
        if parameter("Monitoring") == "true"
            && parameter("AlarmEmail").is_empty()
            && parameter("AlarmTopicArn").is_empty()
        {
            to_do.push(
                "Nobody receives the alarms. Set AlarmEmail or AlarmTopicArn, and deploy again."
                    .to_owned(),
            );
        }
        to_do.extend(self.unconfirmed().await);
        let webhook_url = output("WebhookUrl").to_owned();
        to_do.push(format!(
            "Give Purchasely the webhook's address, unless it has it: {webhook_url}"
        ));
        to_do.push(format!("Check everything: `relay doctor --stack {stack} --online`."));
        Ok(Report { is_changed, webhook_url, to_do })
    }

    /// Who has not yet agreed to receive alarms.
    async fn unconfirmed(&self) -> Vec<String> {
        let resources = "cloudformation describe-stack-resources --stack-name";
        let found = aws::ask(resources, &self.options.stack).await.unwrap_or_default();
        let mut to_do = Vec::new();
        for topic in
            items(&found["StackResources"]).filter(|it| it["ResourceType"] == "AWS::SNS::Topic")
        {
            let topic = text(&topic["PhysicalResourceId"]);
            let found = aws::ask("sns list-subscriptions-by-topic --topic-arn", topic).await;
            let found = found.unwrap_or_default();
            let pending = items(&found["Subscriptions"])
                .filter(|it| it["SubscriptionArn"] == "PendingConfirmation");
            to_do.extend(pending.map(|it| {
                format!(
                    "Confirm the mail that AWS sent to {}, or no alarm arrives there.",
                    text(&it["Endpoint"])
                )
            }));
        }
        to_do
    }
}

/// Ever longer, up to some seconds.
#[derive(Default)]
struct Pause(Duration);

impl Pause {
    async fn wait(&mut self) {
        self.0 = (self.0 + Duration::from_millis(500)).min(LONGEST_PAUSE);
        tokio::time::sleep(self.0).await;
    }
}

/// Runs an operation of the AWS CLI, with the value of its last option.
async fn call(operation: &str, value: &str) -> Result<Value, Failed> {
    aws::ask(operation, value).await.map_err(|failure| failed(failure, operation))
}

/// Without the operation's options.
fn failed(failure: aws::Failure, operation: &str) -> Failed {
    let name: Vec<_> = operation.splitn(3, ' ').take(2).collect();
    unusable(failure.explain(&name.join(" ")))
}

fn unusable(text: String) -> Failed {
    Failed { code: 2, text }
}

fn refused(text: String) -> Failed {
    Failed { code: 1, text }
}

/// For the AWS CLI to read, by the user alone.
fn file(content: &[u8]) -> Result<NamedTempFile, Failed> {
    let written = NamedTempFile::new().and_then(|mut file| file.write_all(content).map(|()| file));
    written.map_err(|error| unusable(format!("no temporary file: {error}")))
}

/// A line about the resource that failed by itself, not because another one did.
fn cause(event: &Value) -> Option<String> {
    let reason = text(&event["ResourceStatusReason"]);
    let is_cause =
        text(&event["ResourceStatus"]).ends_with("_FAILED") && !reason.ends_with("cancelled");
    let (name, kind) = (text(&event["LogicalResourceId"]), text(&event["ResourceType"]));
    is_cause.then(|| format!("\n  {name}  {kind}  {reason}"))
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
