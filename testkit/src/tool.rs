//! Starts `cargo relay` in the root of the workspace. It does not know the commands.

use crate::process::{built, repository};
use std::process::Stdio;
use tokio::process::Command;

pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The tool with no environment but these variables. Arguments are separated by white space.
pub fn relay(arguments: &str, variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(built("examples/relay"));
    command
        .args(arguments.split_whitespace())
        .current_dir(repository())
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

pub async fn run(arguments: &str, variables: &[(&str, &str)]) -> Finished {
    let output = relay(arguments, variables).output().await.expect("the tool starts");
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

impl Finished {
    /// Checks that the command could not run, for this reason.
    #[track_caller]
    pub fn check_unusable(&self, reason: &str) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(2), ""), "{}", self.stderr);
        assert!(self.stderr.contains(reason), "{reason}: {}", self.stderr);
    }
}
