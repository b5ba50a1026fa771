//! Starts `cargo relay` in the root of the workspace. It does not know the commands.

use crate::process::{built, repository};
use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// How a prompt ends whose answer is not shown.
const SECRET_PROMPT: &str = "(not shown): ";

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
    finish(relay(arguments, variables), "").await
}

/// Runs a command with this standard input.
pub async fn finish(mut command: Command, input: &str) -> Finished {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the tool starts");
    // It may end without reading.
    let _ = child.stdin.take().expect("a pipe").write_all(input.as_bytes()).await;
    child.wait_with_output().await.expect("an end").into()
}

/// Runs a command on a terminal, which shows its standard error. Each of its prompts has an answer.
pub async fn finish_on_a_terminal(
    mut command: Command,
    answers: &'static [(&str, &str)],
) -> Finished {
    let pty = openpty(None, None).expect("a terminal");
    let terminal = || Stdio::from(pty.slave.try_clone().expect("a terminal"));
    command.stdin(terminal()).stderr(terminal()).stdout(Stdio::piped());
    let child = command.spawn().expect("the tool starts");
    drop((command, pty.slave));
    let mut master = File::from(pty.master);
    let shown = tokio::task::spawn_blocking(move || {
        let (mut shown, mut buffer) = (Vec::new(), [0; 256]);
        // Reading fails when the command has ended.
        while let Ok(length) = master.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..length]);
            let is_asked = |prompt: &str| shown.ends_with(prompt.as_bytes());
            for (prompt, answer) in answers.iter().filter(|(prompt, _)| is_asked(prompt)) {
                let is_shown =
                    || tcgetattr(&master).is_ok_and(|it| it.local_flags.contains(LocalFlags::ECHO));
                // What is typed before the echo is off is shown, or discarded with the change.
                while prompt.ends_with(SECRET_PROMPT) && is_shown() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                master.write_all(answer.as_bytes()).expect("a terminal");
            }
        }
        shown
    });
    let output = child.wait_with_output().await.expect("an end");
    let stderr = shown.await.expect("what the terminal shows");
    Output { stderr, ..output }.into()
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("UTF-8"),
            stderr: String::from_utf8(output.stderr).expect("UTF-8"),
        }
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
