//! Creates or updates the stack, after checking all of its parameters. It does not build the function.

mod check;
mod params;
mod template;

use crate::{Unusable, print};
use check::{Checked, check};
use serde_json::json;
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
        remarks.iter().for_each(|remark| eprintln!("{level}: {remark}"));
    }
    let report = json!({
        "stack": options.stack,
        "parameters": values,
        "problems": problems,
        "warnings": warnings,
    });
    if !problems.is_empty() || options.check {
        if options.json {
            print(&format!("{report}\n"));
        } else if problems.is_empty() {
            print(&format!("{file}: {} parameters, no problem\n", values.len()));
        }
        return Ok(ExitCode::from(u8::from(!problems.is_empty())));
    }
    Ok(ExitCode::SUCCESS)
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
