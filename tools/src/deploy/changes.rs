//! What a change set would change, and what a stack's state means. It does not know how either is asked for.

use super::template::Template;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt;

/// What one resource goes through.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    pub action: Action,
    resource: String,
    kind: String,
    /// Of what is removed or replaced: whether it stays in the account, outside the stack.
    is_retained: Option<bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Add,
    Modify,
    Replace,
    Remove,
}

/// The changes of a change set as `describe-change-set` prints it.
pub fn read(change_set: &Value, template: &Template) -> Vec<Change> {
    let changes = change_set["Changes"].as_array().into_iter().flatten();
    let changes: Vec<_> = changes.map(|change| &change["ResourceChange"]).collect();
    let replaced = replaced(&changes);
    let read = |change: &&Value| {
        let name = word(change, "LogicalResourceId");
        let action = match word(change, "Action") {
            "Add" | "Import" => Action::Add,
            "Remove" => Action::Remove,
            _ if replaced.contains(name) => Action::Replace,
            _ => Action::Modify,
        };
        let attribute = match action {
            Action::Add | Action::Modify => None,
            Action::Remove => Some("DeletionPolicy"),
            Action::Replace => Some("UpdateReplacePolicy"),
        };
        let is_retained = attribute.map(|attribute| {
            // An old version of AWS's answer has no policy.
            let written = word(template.resource(name), attribute);
            let policy = change["PolicyAction"].as_str().unwrap_or(written);
            policy.contains("Retain")
        });
        let kind = word(change, "ResourceType").to_owned();
        Change {
            action,
            resource: name.to_owned(),
            kind,
            is_retained,
        }
    };
    changes.iter().map(read).collect()
}

/// The names of what is replaced. A resource that refers to another may be replaced only if the other one is.
fn replaced<'c>(changes: &[&'c Value]) -> BTreeSet<&'c str> {
    let mut replaced = BTreeSet::new();
    loop {
        let before = replaced.len();
        for change in changes {
            let details = change["Details"].as_array().map_or(&[][..], Vec::as_slice);
            let is_cause = |detail: &Value| {
                let cause = word(detail, "CausingEntity").split('.').next().unwrap_or_default();
                detail["Target"]["RequiresRecreation"] != "Never"
                    && (!word(detail, "ChangeSource").starts_with("Resource")
                        || replaced.contains(cause))
            };
            let is_replaced = match word(change, "Replacement") {
                "True" => true,
                "Conditional" => details.is_empty() || details.iter().any(is_cause),
                _ => false,
            };
            if is_replaced {
                replaced.insert(word(change, "LogicalResourceId"));
            }
        }
        if replaced.len() == before {
            return replaced;
        }
    }
}

impl Change {
    /// Whether somebody must agree to it.
    pub fn is_grave(&self) -> bool {
        matches!(self.action, Action::Replace | Action::Remove)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { action, resource, kind, is_retained } = self;
        let action = match action {
            Action::Add => "add",
            Action::Modify => "modify",
            Action::Replace => "replace",
            Action::Remove => "remove",
        };
        write!(f, "  {action:<7}  {resource:<28} {kind}")?;
        match is_retained {
            None => Ok(()),
            Some(true) => {
                write!(f, "  (it is not deleted: it stays in the account, outside the stack)")
            }
            Some(false) => write!(f, "  (the present one is deleted)"),
        }
    }
}

/// Whether a stack in this state can be deployed to, and what somebody should know or do.
pub fn state(status: &str, stack: &str) -> (bool, String) {
    let (is_ready, text) = match status {
        "CREATE_COMPLETE" | "UPDATE_COMPLETE" | "IMPORT_COMPLETE" => (true, "it runs"),
        "REVIEW_IN_PROGRESS" => (true, "it has no resources yet"),
        "UPDATE_ROLLBACK_COMPLETE" | "IMPORT_ROLLBACK_COMPLETE" => (
            true,
            "the deployment before runs again. Nothing has to be deleted: remove the cause, and deploy again",
        ),
        "ROLLBACK_COMPLETE" | "ROLLBACK_FAILED" | "CREATE_FAILED" => (
            false,
            "its first deployment failed, and nothing of it runs. Remove the cause, delete it with `aws cloudformation delete-stack --stack-name NAME`, and deploy again",
        ),
        "UPDATE_ROLLBACK_FAILED" | "UPDATE_FAILED" => (
            false,
            "an update failed and was not undone, so it has resources of two deployments. Do not delete it, for the function may run: remove the cause that its events name, run `aws cloudformation NEXT --stack-name NAME`, and deploy again",
        ),
        "DELETE_IN_PROGRESS" => (
            false,
            "it is being deleted. Wait with `aws cloudformation wait stack-delete-complete --stack-name NAME`, and deploy again",
        ),
        "DELETE_FAILED" => (
            false,
            "somebody deleted it, and a resource could not be deleted. Remove the cause that its events name, delete it again, and deploy again",
        ),
        status if status.ends_with("_IN_PROGRESS") => (
            false,
            "another deployment is in progress. Wait until it has ended, and deploy again",
        ),
        _ => (
            false,
            "this command does not know the state. Look at the stack in CloudFormation's console",
        ),
    };
    let next = if status == "UPDATE_FAILED" {
        "rollback-stack"
    } else {
        "continue-update-rollback"
    };
    let text = text.replace("NAME", stack).replace("NEXT", next);
    (is_ready, format!("the stack {stack} is in the state {status}: {text}"))
}

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}
