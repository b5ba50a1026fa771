//! `cargo relay digest`: prints the digest by which the function's log names a user.
//! It does not read the log.

use crate::{Unusable, secret};
use purchasely_clevertap::aws::secret::Secret;
use purchasely_clevertap::purchasely::signature::user_digest;
use serde_json::json;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Print the digest by which the function's log names a user, to search for their events.
///
/// The digest depends on Purchasely's client shared secret, in `PURCHASELY_SHARED_SECRET` or in the file of
/// `--secret-file`; without either it is asked for, on a terminal only. One line is printed for each secret: lines
/// that were logged before a change of the secret have the digest of the previous one.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay digest u-1842                                        # asks for the secret
  cargo relay digest --secret-file secret.json < user-id.txt       # the id is not in the shell's history")]
pub struct Options {
    /// The user's id as Purchasely has it: `user_id`, or `anonymous_user_id` of a buyer who is not signed in. Without
    /// it, a line of standard input is.
    #[arg(value_name = "USER_ID")]
    user_id: Option<String>,
    /// The JSON of the secret that the function reads.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Print one JSON object per secret.
    #[arg(long)]
    json: bool,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let secrets = match (&options.secret_file, secret::from_environment()) {
        (Some(path), _) => from_file(path).await?,
        (None, Some(secret)) => vec![secret],
        (None, None) => vec![secret::ask()?],
    };
    let user_id = options.user_id.map_or_else(read_user_id, Ok)?;
    if user_id.is_empty() {
        let problem = "the user id is empty: name it, or write it to standard input";
        return Err(Unusable::from(problem.to_owned()));
    }
    for (name, secret) in ["current", "previous"].iter().zip(&secrets) {
        let user = user_digest(secret, &user_id);
        if options.json {
            println!("{}", json!({ "user": user, "secret": name }));
        } else {
            println!("{user}  {name} secret");
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn from_file(path: &Path) -> Result<Vec<String>, Unusable> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| error.to_string());
    let secret =
        text.and_then(|text| Secret::parse(&text, true).map_err(|invalid| invalid.to_string()));
    let secret = secret.map_err(|problem| format!("{}: {problem}", path.display()))?;
    Ok(secret.shared_secrets().map(str::to_owned).collect())
}

/// A line of standard input, without its line break.
fn read_user_id() -> Result<String, Unusable> {
    if std::io::stdin().is_terminal() {
        eprint!("User id in Purchasely: ");
    }
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| format!("no user id on standard input: {error}"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
