//! The tools that building and deploying need: whether they are there, and new enough.
//! It does not know what they are used on.

use crate::finding::{Check, Findings};
use std::ffi::OsString;
use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;
use tokio::process::Command;

/// `sam` takes two seconds on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the template is built for by default.
const TARGET: &str = "aarch64-unknown-linux-gnu";

type Version = [u32; 3];

struct Tool {
    check: Check,
    program: OsString,
    arguments: &'static [&'static str],
    /// The oldest that does, and why.
    least: Version,
    because: &'static str,
    /// Who needs it, and how to get it.
    missing: &'static str,
}

fn tools() -> [Tool; 5] {
    let program = |variable: &str, name: &str| {
        let set = std::env::var_os(variable).filter(|path| !path.is_empty());
        set.unwrap_or_else(|| name.into())
    };
    [
        Tool {
            check: Check::Rustc,
            program: "rustc".into(),
            arguments: &["--version"],
            least: version(env!("CARGO_PKG_RUST_VERSION")).unwrap_or_default(),
            because: "the package's rust-version asks for it; `rustup update stable` brings it",
            missing: "every way to deploy builds with it; install it from https://rustup.rs",
        },
        Tool {
            check: Check::CargoLambda,
            program: program("CARGO_LAMBDA", "cargo-lambda"),
            arguments: &["lambda", "--version"],
            least: [1, 9, 2],
            because: "older ones give a Function URL only one of the two permissions it needs; `pip install -r requirements/cargo-lambda.txt` brings it",
            missing: "both ways to deploy build with it: `pip install -r requirements/cargo-lambda.txt`, in a shell with .tools/venv activated",
        },
        Tool {
            check: Check::Sam,
            program: "sam".into(),
            arguments: &["--version"],
            least: [1, 156, 0],
            because: "older ones build Rust only as a beta feature; `pip install -r requirements/tools.txt` brings it",
            missing: "only `sam deploy` needs it: `pip install -r requirements/tools.txt`, in a shell with .tools/venv activated",
        },
        Tool {
            check: Check::AwsCli,
            program: aws_cli(),
            arguments: &["--version"],
            least: [1, 0, 0],
            because: "",
            missing: "putting the secret needs it, and so do this tool's --stack and --function: https://docs.aws.amazon.com/cli/latest/userguide/getting-started-install.html",
        },
        Tool {
            check: Check::Python,
            program: "python3".into(),
            arguments: &["--version"],
            least: [3, 10, 0],
            because: "SAM needs it; install a newer one",
            missing: "cargo lambda and SAM are installed with it: install Python 3.10 or later",
        },
    ]
}

/// The AWS CLI: `AWS_CLI`, or the one in the path.
pub fn aws_cli() -> OsString {
    let set = std::env::var_os("AWS_CLI").filter(|path| !path.is_empty());
    set.unwrap_or_else(|| "aws".into())
}

/// Looks for each tool.
pub async fn check(findings: &mut Findings) {
    let tools = tools();
    let asked = futures_util::future::join_all(
        tools
            .iter()
            .map(|tool| output(&tool.program, tool.arguments)),
    );
    let arguments = ["--print", "target-libdir", "--target", TARGET];
    let rustc = "rustc".into();
    let (answers, target, zig) = tokio::join!(asked, output(&rustc, &arguments), zig());
    for (tool, answer) in tools.iter().zip(answers) {
        tool.judge(answer, findings);
    }
    let library = target.and_then(|output| String::from_utf8(output.stdout).ok());
    if library.is_some_and(|path| !path.trim().is_empty() && Path::new(path.trim()).exists()) {
        findings.ok(Check::RustTarget, TARGET);
    } else {
        findings.warning(
            Check::RustTarget,
            format!("{TARGET} is not installed, and arm64 is the default"),
            format!("`rustup target add {TARGET}`, or build for x86_64"),
        );
    }
    match zig {
        Some(version) => findings.ok(Check::Zig, version),
        None => findings.warning(
            Check::Zig,
            "not found",
            "`cargo lambda build` and `sam build` link with it: `pip install -r requirements/cargo-lambda.txt`",
        ),
    }
}

impl Tool {
    fn judge(&self, answer: Option<Output>, findings: &mut Findings) {
        let Some(answer) = answer else {
            findings.warning(self.check, "not found", self.missing);
            return;
        };
        let text = [answer.stdout, answer.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        match version(&text) {
            Some(found) if found < self.least => findings.error(
                self.check,
                format!("{} is older than {}", dotted(found), dotted(self.least)),
                self.because,
            ),
            Some(found) => findings.ok(self.check, dotted(found)),
            None => findings.warning(
                self.check,
                "does not tell its version",
                format!(
                    "run `{} {}` and see what it says",
                    self.program.display(),
                    self.arguments.join(" ")
                ),
            ),
        }
    }
}

/// In the path, or as the Python package that cargo lambda brings.
async fn zig() -> Option<String> {
    let attempts: [(&str, &[&str]); 2] = [
        ("zig", &["version"]),
        ("python3", &["-m", "ziglang", "version"]),
    ];
    for (program, arguments) in attempts {
        let answer = output(&program.into(), arguments).await;
        let answer = answer.filter(|answer| answer.status.success());
        if let Some(found) =
            answer.and_then(|answer| version(&String::from_utf8_lossy(&answer.stdout)))
        {
            return Some(dotted(found));
        }
    }
    None
}

/// What a program says; `None` if there is no such program, or it does not end.
async fn output(program: &OsString, arguments: &[&str]) -> Option<Output> {
    let run = Command::new(program)
        .args(arguments)
        .env("SAM_CLI_TELEMETRY", "0")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    tokio::time::timeout(PATIENCE, run).await.ok()?.ok()
}

/// The first thing in a text that looks like `1.2.3` or `1.2`.
fn version(text: &str) -> Option<Version> {
    text.split(|c: char| !c.is_ascii_digit() && c != '.')
        .find_map(|word| {
            let mut parts = word.split('.').map(|part| part.parse().ok());
            let (major, minor) = (parts.next()??, parts.next()??);
            Some([major, minor, parts.next().flatten().unwrap_or(0)])
        })
}

fn dotted([major, minor, patch]: Version) -> String {
    format!("{major}.{minor}.{patch}")
}
