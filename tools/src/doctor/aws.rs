//! The doctor's questions to AWS. It does not know what the answers mean; that there is none is a finding.

use super::finding::{Findings, Id};
use crate::aws;
use indicatif::ProgressBar;
use serde_json::Value;

/// Service, operation and options, the last of which takes a value; and the finding if AWS answers
/// with an error.
pub type Operation = (&'static str, Id);

pub struct Aws {
    pub progress: ProgressBar,
    /// After a failure that every further command would repeat.
    pub is_unusable: bool,
}

impl Aws {
    /// Runs one command; `None` after a failure, which is a finding about `name`.
    pub async fn run(
        &mut self,
        (operation, missing): Operation,
        name: &str,
        value: &str,
        findings: &mut Findings,
    ) -> Option<Value> {
        if self.is_unusable {
            return None;
        }
        self.progress.set_message(format!("aws {operation}"));
        let failure = match aws::ask(operation, value).await {
            Ok(answer) => return Some(answer),
            Err(failure) => failure,
        };
        let id = match &failure.code {
            Some(code) if code.contains("AccessDenied") || code.contains("Unauthorized") => {
                Id::AwsDenied
            }
            Some(_) => missing,
            None => {
                self.is_unusable = true;
                findings.add(Id::AwsAccessFailed, "aws", failure.message);
                return None;
            }
        };
        findings.add(id, name, failure.explain(operation));
        None
    }
}
