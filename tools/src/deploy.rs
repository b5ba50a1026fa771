//! Creates or updates the stack, after checking all of its parameters. It does not build the function.

mod changes;
mod check;
mod params;
mod stack;
mod template;

use crate::{Interruption, Unusable, print};
use check::{Checked, check};
use indicatif::{ProgressBar, ProgressDrawTarget};
use serde_json::{Value, json};
use stack::{Deployment, Failed, Report};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use template::Template;

/// Create or update the stack from params.yaml.
///
/// It first checks every parameter, without AWS: the names, the template's rules, whether the function would start,
/// and the size of its variables. All problems are printed at once. It then uploads the function and the template,
/// prints what would change, changes it and waits. A parameter that params.yaml does not name has the template's
/// default, also if the stack has another value. Without a terminal it asks nothing.
///
/// It needs the AWS CLI, version 1 or 2, and uses its account, credentials and region (`AWS_PROFILE`, `AWS_REGION`).
/// Exit code 1: the parameters or the deployment have a problem.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  cp params.example.yaml params.yaml        # and edit it
  relay deploy --check
  relay deploy
  relay deploy --stack relay-test --params test.yaml --tag team=growth --yes")]
pub struct Options {
    /// The stack's name.
    #[arg(long, value_name = "NAME", default_value = "purchasely-clevertap", value_parser = stack_name)]
    stack: String,
    /// The file with the parameters.
    #[arg(long, value_name = "FILE", default_value = "params.yaml")]
    params: PathBuf,
    /// The template; by default the one beside this program, else in this folder.
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,
    /// A bucket of yours for the function and the template; by default
    /// `purchasely-clevertap-<account>-<region>`, which is created if it does not exist.
    #[arg(long, value_name = "NAME")]
    bucket: Option<String>,
    /// Give the stack and its resources this tag. Repeat it for more.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = tag)]
    tags: Vec<(String, String)>,
    /// The role that CloudFormation uses in your place.
    #[arg(long, value_name = "ARN")]
    role_arn: Option<String>,
    /// Agree to what replaces or removes a resource.
    #[arg(long)]
    yes: bool,
    /// Stop after the checks, which need no AWS.
    #[arg(long)]
    check: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let template = Template::read(&options.template.clone().unwrap_or_else(default_template))?;
    let file = options.params.to_string_lossy();
    let text = std::fs::read_to_string(&options.params)
        .map_err(|error| format!("{file}: {error}; copy params.example.yaml, and edit it"))?;
    let checked = check(&template, &file, &text, &options.stack)?;
    let Checked { values, problems, warnings } = &checked;
    for (level, remarks) in [("warning", warnings), ("error", problems)] {
        for remark in remarks {
            eprintln!("{level}: {remark}");
        }
    }
    let mut report = json!({
        "stack": options.stack,
        "parameters": values,
        "problems": problems,
        "warnings": warnings,
    });
    let code = if !problems.is_empty() {
        1
    } else if options.check {
        if !options.json {
            print(&format!("{file}: {} parameters, no problem\n", values.len()));
        }
        0
    } else {
        deploy(&options, &template, &checked, &mut report).await?
    };
    if options.json {
        print(&format!("{report}\n"));
    }
    Ok(ExitCode::from(code))
}

/// Deploys, adds to the report what came of it, and returns the exit code.
async fn deploy(
    options: &Options,
    template: &Template,
    checked: &Checked,
    report: &mut Value,
) -> Result<u8, Unusable> {
    let mut interruption = Interruption::new()?;
    // Hidden unless standard error is a terminal.
    let progress = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    progress.enable_steady_tick(stack::TICK);
    let mut deployment = Deployment::new(options, template, &checked.values, progress.clone());
    let result = tokio::select! {
        result = deployment.run() => Some(result),
        () = interruption.wait() => None,
    };
    deployment.withdraw().await;
    progress.finish_and_clear();
    report["changes"] = json!(deployment.changes);
    match result {
        Some(Ok(done)) => {
            report["is_changed"] = json!(done.is_changed);
            report["webhook_url"] = json!(done.webhook_url);
            report["to_do"] = json!(done.to_do);
            if !options.json {
                print(&text(&options.stack, &done));
            }
            Ok(0)
        }
        Some(Err(Failed { code: 1, text })) => {
            eprintln!("error: {text}");
            report["failure"] = json!(text);
            Ok(1)
        }
        Some(Err(Failed { text, .. })) => Err(text.into()),
        None => {
            if deployment.is_running {
                eprintln!("AWS goes on with the deployment; run this command again to see its end");
            }
            Ok(130)
        }
    }
}

fn text(stack: &str, report: &Report) -> String {
    let what = if report.is_changed {
        "is deployed"
    } else {
        "has no changes"
    };
    let mut text = format!("The stack {stack} {what}. Still to do:\n");
    for to_do in &report.to_do {
        let _ = writeln!(text, "- {to_do}");
    }
    text
}

/// A bundle has its template beside the tool.
fn default_template() -> PathBuf {
    const NAME: &str = "template.yaml";
    let beside = std::env::current_exe().ok();
    let beside = beside.as_deref().and_then(Path::parent).map(|folder| folder.join(NAME));
    beside.filter(|path| path.exists()).unwrap_or_else(|| NAME.into())
}

fn stack_name(text: &str) -> Result<String, String> {
    let is_word = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_word && text.starts_with(|first: char| first.is_ascii_alphabetic()) {
        return Ok(text.to_owned());
    }
    Err("a letter, then letters, digits and hyphens".to_owned())
}

fn tag(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned()))
        .ok_or_else(|| "KEY=VALUE".to_owned())
}
