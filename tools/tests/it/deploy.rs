//! `cargo relay deploy` where an emulator does not get: states that CloudFormation is left in, answers that it gives
//! late, and changes that somebody must agree to. A program with prepared answers stands for the AWS CLI.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use testkit::process::repository;
use testkit::tool::{self, Finished};
use tokio::process::Command;

/// Notes the operation, and answers it with its first file that is left. The last one stays; without a file the answer
/// is empty. A file that is not JSON is an error.
const AWS: &str = r#"#!/bin/sh
folder="${0%/*}"
echo "$2" >>"$folder/calls"
case $2 in create-change-set) cp "${4#file://}" "$folder/request" ;; esac
set -- "$folder/$2".*
[ -f "$1" ] || exit 0
read -r answer <"$1"
[ -z "$2" ] || rm "$1"
case $answer in "{"*) echo "$answer" ;; *) echo "An error occurred ($answer" >&2; exit 254 ;; esac
"#;
const ACCOUNT: (&str, &str) = (
    "get-caller-identity",
    r#"{"Account":"123456789012","Arn":"arn:aws:iam::123456789012:user/u"}"#,
);
const MISSING: &str = "ValidationError) when calling the DescribeStacks operation: Stack with id relay does not exist";
const SECRET: (&str, &str) =
    ("get-secret-value", r#"{"SecretString":"{\"clevertap_passcode\":\"\"}"}"#);

struct Cli(TempDir);

impl Cli {
    /// Operations and their answers, those of one operation in turn.
    fn new(answers: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write =
            |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("a file");
        for (number, (operation, answer)) in [ACCOUNT, SECRET].iter().chain(answers).enumerate() {
            write(&format!("{operation}.{number:02}"), &format!("{answer}\n"));
        }
        write(
            "params.yaml",
            "ClevertapRegion: in1\nClevertapAccountId: A-B\nRevenueEvent: none\nAnonymousUserIdAs: ignore\n",
        );
        let template =
            fs::read_to_string(repository().join("template.yaml")).expect("template.yaml");
        write("template.yaml", &template.replace("CodeUri: .\n", "CodeUri: function.zip\n"));
        write("function.zip", "a zip");
        write("aws", AWS);
        let program = folder.path().join("aws");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("a mode");
        Self(folder)
    }

    async fn deploy(&self, options: &str) -> Finished {
        tool::finish(self.command(options, "eu-west-1"), "").await
    }

    fn command(&self, options: &str, region: &str) -> Command {
        let folder = self.0.path().display();
        let files = format!("--params {folder}/params.yaml --template {folder}/template.yaml");
        let aws = format!("{folder}/aws");
        let variables =
            [("AWS_CLI", aws.as_str()), ("PATH", "/usr/bin:/bin"), ("AWS_REGION", region)];
        tool::relay(&format!("deploy --stack relay {files} {options}"), &variables)
    }

    fn request(&self) -> Value {
        let request = fs::read_to_string(self.0.path().join("request")).expect("a change set");
        serde_json::from_str(&request).expect("JSON")
    }

    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.0.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }
}

fn stack(status: &str) -> String {
    let output = |name: &str, value: &str| json!({ "OutputKey": name, "OutputValue": value });
    let outputs = [
        output("SecretArn", "arn:secret"),
        output("WebhookUrl", "https://api.example.com/hook"),
    ];
    json!({ "Stacks": [{ "StackStatus": status, "Outputs": outputs }] }).to_string()
}

fn change_set(changes: &[Value]) -> String {
    let changes: Vec<_> =
        changes.iter().map(|change| json!({ "ResourceChange": change })).collect();
    json!({ "Status": "CREATE_COMPLETE", "Changes": changes }).to_string()
}

fn event(id: &str, resource: &str, status: &str, reason: &str) -> Value {
    let kind = if resource == "relay" {
        "AWS::CloudFormation::Stack"
    } else {
        "AWS::Lambda::Function"
    };
    json!({
        "EventId": id, "LogicalResourceId": resource, "ResourceType": kind, "ResourceStatus": status,
        "ResourceStatusReason": reason,
    })
}

fn events(events: &[Value]) -> String {
    json!({ "StackEvents": events }).to_string()
}

#[tokio::test]
async fn a_stack_that_cannot_be_deployed_to_says_what_to_do() {
    for (status, says) in [
        (
            "ROLLBACK_COMPLETE",
            "nothing of it runs. Remove the cause, delete it with `aws cloudformation delete-stack --stack-name relay`",
        ),
        (
            "UPDATE_ROLLBACK_FAILED",
            "Do not delete it, for the function may run: remove the cause that its events name, run `aws cloudformation continue-update-rollback --stack-name relay`",
        ),
        ("UPDATE_FAILED", "`aws cloudformation rollback-stack --stack-name relay`"),
        (
            "UPDATE_IN_PROGRESS",
            "another deployment is in progress. Wait until it has ended",
        ),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "another deployment is in progress"),
        ("DELETE_IN_PROGRESS", "it is being deleted. Wait with"),
        ("DELETE_FAILED", "a resource could not be deleted"),
        ("PAUSED", "this command does not know the state"),
    ] {
        let cli = Cli::new(&[("describe-stacks", &stack(status))]);
        let Finished { code, stderr, .. } = cli.deploy("").await;
        assert_eq!(code, Some(1), "{stderr}");
        assert!(
            stderr.contains(&format!("the stack relay is in the state {status}: ")),
            "{stderr}"
        );
        assert!(stderr.contains(says), "{stderr}");
        assert_eq!(cli.calls(), ["get-caller-identity", "describe-stacks"]);
    }
    let other =
        Cli::new(&[("describe-stacks", r#"{"Stacks":[{"StackStatus":"CREATE_COMPLETE"}]}"#)]);
    other
        .deploy("")
        .await
        .check_unusable("the stack relay is not of this project; choose another name with --stack");
}

#[tokio::test]
async fn a_refused_first_deployment_leaves_nothing() {
    let refused =
        r#"{"Status":"FAILED","StatusReason":"Transform AWS::Serverless-2016-10-31 failed"}"#;
    let cli = Cli::new(&[
        ("describe-stacks", MISSING),
        ("describe-stacks", r#"{"Stacks":[{"StackStatus":"REVIEW_IN_PROGRESS"}]}"#),
        ("describe-change-set", r#"{"Status":"CREATE_IN_PROGRESS"}"#),
        ("describe-change-set", refused),
    ]);
    let Finished { code, stderr, .. } = cli.deploy("").await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(
        stderr.contains("AWS does not accept the change: Transform AWS::Serverless"),
        "{stderr}"
    );
    assert_eq!(
        cli.calls().split_off(7),
        ["describe-change-set", "delete-change-set", "describe-stacks", "delete-stack"]
    );
}

#[tokio::test]
async fn what_replaces_or_removes_waits_for_an_agreement() {
    let detail = |cause: &str| json!([{ "CausingEntity": cause, "ChangeSource": "ResourceReference", "Target": { "RequiresRecreation": "Always" } }]);
    let change = |action: &str, name: &str, more: Value| {
        let mut change =
            json!({ "Action": action, "LogicalResourceId": name, "ResourceType": "T" });
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        change
    };
    let changes = change_set(&[
        change("Add", "A", json!({})),
        change("Modify", "Function", json!({ "Replacement": "False" })),
        // Only if the function were replaced.
        change(
            "Modify",
            "Permission",
            json!({ "Replacement": "Conditional", "Details": detail("Function") }),
        ),
        change(
            "Modify",
            "B",
            json!({ "Replacement": "Conditional", "Details": detail("Topic.Arn") }),
        ),
        change(
            "Modify",
            "Topic",
            json!({ "Replacement": "True", "PolicyAction": "ReplaceAndDelete" }),
        ),
        change("Remove", "EventQueue", json!({})),
        change("Remove", "ClaimsTable", json!({ "PolicyAction": "Delete" })),
    ]);
    let shown = "Changes of the stack relay:
  add      A                            T
  modify   Function                     T
  modify   Permission                   T
  replace  B                            T  (the present one is deleted)
  replace  Topic                        T  (the present one is deleted)
  remove   EventQueue                   T  (it is not deleted: it stays in the account, outside the stack)
  remove   ClaimsTable                  T  (the present one is deleted)
";
    let complete = stack("UPDATE_COMPLETE");
    let before = event("1", "relay", "UPDATE_COMPLETE", "");
    let answers = [
        ("describe-stacks", complete.as_str()),
        ("describe-change-set", &changes),
        ("describe-stack-events", &events(std::slice::from_ref(&before))),
        (
            "describe-stack-events",
            &events(&[event("2", "relay", "UPDATE_COMPLETE", ""), before]),
        ),
    ];
    let cli = Cli::new(&answers);
    let Finished { code, stderr, .. } = cli.deploy("").await;
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains(shown), "{stderr}");
    assert!(
        stderr.ends_with("so nothing was changed; look at the changes, and add --yes\n"),
        "{stderr}"
    );
    assert_eq!(cli.calls().split_off(6), ["describe-change-set", "delete-change-set"]);

    for (said, code, calls) in [
        (&[("Go on? [y/N]: ", "n\n")], 1, "delete-change-set"),
        (&[("Go on? [y/N]: ", "y\n")], 0, "execute-change-set"),
    ] {
        let cli = Cli::new(&answers);
        let command = cli.command("", "eu-west-1");
        let asked = tool::finish_on_a_terminal(command, said).await;
        assert_eq!(asked.code, Some(code), "{}", asked.stderr);
        assert!(asked.stderr.contains("remove   ClaimsTable"), "{}", asked.stderr);
        assert!(cli.calls().contains(&calls.to_owned()), "{:?}", cli.calls());
    }

    let cli = Cli::new(&answers);
    let Finished { code, stdout, stderr } = cli.deploy("--yes --json --tag a=b --role-arn r").await;
    assert_eq!(code, Some(0), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["webhook_url"], "https://api.example.com/hook");
    assert_eq!(
        report["changes"][5],
        json!({ "action": "remove", "resource": "EventQueue", "kind": "T", "is_retained": true })
    );
    assert!(cli.calls().contains(&"execute-change-set".to_owned()));
    let mut request = cli.request();
    let parameters = request["Parameters"].take();
    let parameters = parameters.as_array().expect("parameters");
    // One that the file does not name has the template's default, whatever the stack has.
    let default = json!({ "ParameterKey": "MemorySize", "ParameterValue": "256" });
    assert!(parameters.len() > 30 && parameters.contains(&default), "{parameters:?}");
    let url = request["TemplateURL"].as_str().expect("a URL");
    let bucket =
        "https://s3.eu-west-1.amazonaws.com/purchasely-clevertap-123456789012-eu-west-1/relay/";
    assert!(url.starts_with(bucket) && url.ends_with(".template"), "{url}");
    assert_eq!(request["ChangeSetType"], "UPDATE");
    assert_eq!(request["RoleARN"], "r");
    assert_eq!(request["Tags"], json!([{ "Key": "a", "Value": "b" }]));
}

#[tokio::test]
async fn a_failed_deployment_shows_its_own_events_and_what_its_state_means() {
    let before = [
        event("1", "relay", "UPDATE_ROLLBACK_COMPLETE", ""),
        event("0", "Old", "UPDATE_FAILED", "an earlier fault"),
    ];
    let failed = [
        event("7", "relay", "UPDATE_ROLLBACK_COMPLETE", ""),
        event("6", "Other", "UPDATE_FAILED", "Resource update cancelled"),
        event("5", "Function", "UPDATE_FAILED", "the zip is too large"),
        event("4", "relay", "UPDATE_IN_PROGRESS", "User Initiated"),
    ];
    let cli = Cli::new(&[
        ("describe-stacks", &stack("UPDATE_ROLLBACK_COMPLETE")),
        ("describe-change-set", &change_set(&[])),
        ("describe-stack-events", &events(&before)),
        ("describe-stack-events", &events(&[&failed[3..], &before].concat())),
        ("describe-stack-events", &events(&[&failed[..], &before].concat())),
    ]);
    let Finished { code, stderr, .. } = cli.deploy("").await;
    assert_eq!(code, Some(1), "{stderr}");
    let end = "UPDATE_IN_PROGRESS: 0 of 0 resources
error: the stack relay is in the state UPDATE_ROLLBACK_COMPLETE: the deployment before runs again. Nothing has to be deleted: remove the cause, and deploy again
  Function  AWS::Lambda::Function  the zip is too large
";
    assert!(stderr.ends_with(end), "{stderr}");
}

#[tokio::test]
async fn no_changes_are_a_success_that_says_what_is_missing() {
    let none =
        r#"{"Status":"FAILED","StatusReason":"The submitted information didn't contain changes."}"#;
    let topics =
        r#"{"StackResources":[{"ResourceType":"AWS::SNS::Topic","PhysicalResourceId":"t"}]}"#;
    let pending =
        r#"{"Subscriptions":[{"SubscriptionArn":"PendingConfirmation","Endpoint":"a@b.example"}]}"#;
    let cli = Cli::new(&[
        ("describe-stacks", &stack("UPDATE_COMPLETE")),
        ("describe-change-set", none),
        ("describe-stack-resources", topics),
        ("list-subscriptions-by-topic", pending),
    ]);
    let Finished { code, stdout, stderr } = cli.deploy("").await;
    assert_eq!(code, Some(0), "{stderr}");
    let expected = "The stack relay has no changes. Still to do:
- Store the secret, see `relay secret --help`. Until then the function answers 503. (the secret has no text under the key `purchasely_shared_secret`)
- Nobody receives the alarms. Set AlarmEmail or AlarmTopicArn, and deploy again.
- Confirm the mail that AWS sent to a@b.example, or no alarm arrives there.
- Give Purchasely the webhook's address, unless it has it: https://api.example.com/hook
- Check everything: `relay doctor --stack relay --online`.
";
    assert_eq!(stdout, expected);
}

#[tokio::test]
async fn a_problem_of_the_parameters_calls_nothing() {
    let cli = Cli::new(&[]);
    fs::write(cli.0.path().join("params.yaml"), "ClevertapRegion: mars\n").expect("a file");
    let Finished { code, stdout, stderr } = cli.deploy("--json").await;
    assert_eq!(code, Some(1), "{stderr}");
    let report: Value = serde_json::from_str(&stdout).expect("JSON");
    let problems = report["problems"].as_array().expect("problems");
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert_eq!(
        (&problems[0]["line"], &problems[0]["parameter"]),
        (&json!(1), &json!("ClevertapRegion"))
    );
    assert_eq!(cli.calls(), [""; 0]);
    fs::remove_file(cli.0.path().join("params.yaml")).expect("a file");
    cli.deploy("").await.check_unusable("copy params.example.yaml, and edit it");
}

#[tokio::test]
async fn what_is_missing_of_aws_is_named() {
    let none = Cli::new(&[]);
    let no_region = tool::finish(none.command("", ""), "").await;
    no_region.check_unusable("no AWS region; set AWS_REGION, or run `aws configure`");
    fs::remove_file(none.0.path().join("aws")).expect("a file");
    none.deploy("")
        .await
        .check_unusable("install the AWS CLI or name it in AWS_CLI");
    fs::remove_file(none.0.path().join("function.zip")).expect("a file");
    none.deploy("")
        .await
        .check_unusable("names no built function: use `make deploy` in a clone");

    let head = "404) when calling the HeadBucket operation: Not Found";
    let none = Cli::new(&[("describe-stacks", MISSING), ("head-bucket", head)]);
    none.deploy("--bucket mine")
        .await
        .check_unusable("there is no bucket mine; without --bucket, one is created");
    let head = "403) when calling the HeadBucket operation: Forbidden";
    let none = Cli::new(&[("describe-stacks", MISSING), ("head-bucket", head)]);
    none.deploy("").await.check_unusable(
        "is another account's, or you may not use it; name one of yours with --bucket",
    );
}

#[tokio::test]
async fn an_interrupted_first_deployment_leaves_nothing() {
    let cli = Cli::new(&[
        ("describe-stacks", MISSING),
        ("describe-stacks", r#"{"Stacks":[{"StackStatus":"REVIEW_IN_PROGRESS"}]}"#),
        ("describe-change-set", r#"{"Status":"CREATE_IN_PROGRESS"}"#),
    ]);
    let mut command = cli.command("", "eu-west-1");
    let mut tool = command.stderr(Stdio::null()).spawn().expect("the tool starts");
    while !cli.calls().contains(&"describe-change-set".to_owned()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let id = Pid::from_raw(tool.id().expect("it runs").try_into().expect("an id"));
    kill(id, Signal::SIGINT).expect("a signal");
    assert_eq!(tool.wait().await.expect("an end").code(), Some(130));
    let calls = cli.calls();
    assert_eq!(
        calls[calls.len() - 3..],
        ["delete-change-set", "describe-stacks", "delete-stack"]
    );
}
