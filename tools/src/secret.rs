//! `cargo relay secret`: stores the secret that a stack's function reads, or changes some of its keys.
//! It does not know the values' use, and prints none.

use crate::stack::Stack;
use crate::{Unusable, ask, aws, print};
use clap::builder::PossibleValuesParser;
use purchasely_clevertap::aws::secret::{InvalidSecret, KEYS, Secret};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub const READ: &str = "secretsmanager get-secret-value --secret-id";
const STORE: &str = "secretsmanager put-secret-value --secret-id";
const SANDBOX_PASSCODE: &str = KEYS[1];
const SHARED: &str = KEYS[2];
const PREVIOUS: &str = KEYS[3];
const FILE: &str = "secret.json";

type Document = Map<String, Value>;

/// Store the secret that a stack's function reads, or change some of its keys.
///
/// The function's own rules are checked before anything is stored. The command says which stack and account it is about
/// to change, and asks; without a terminal, `--yes` must be there. It uses the AWS CLI and your profile (`AWS_PROFILE`,
/// `AWS_REGION`) and needs `cloudformation:DescribeStacks`, `secretsmanager:PutSecretValue` and, unless a file is stored,
/// `secretsmanager:GetSecretValue`. No value is printed or on a command line.
///
/// In a file, the optional keys `stack` and `account` say where it belongs: they are compared, and not stored.
///
/// Exit codes: 0, stored; 1, not stored, because the secret has a problem or you did not agree; 2, it could not run.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo relay secret --stack purchasely-clevertap                               # stores secret.json
  cargo relay secret --stack purchasely-clevertap --set clevertap_passcode      # asks for it, and keeps the other keys
  cargo relay secret --stack purchasely-clevertap --rotate                      # a new shared secret; the present one stays valid
  cargo relay secret --stack purchasely-clevertap --set clevertap_passcode --yes < passcode.txt")]
pub struct Options {
    /// The stack whose secret is changed.
    #[arg(long, value_name = "NAME")]
    stack: String,
    /// Store the JSON of this file; by default that of `secret.json`.
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Change this key and keep the others; may be repeated. The value is asked for on a terminal, else it is a line of
    /// standard input. An empty value removes an optional key.
    #[arg(long, value_name = "KEY", conflicts_with = "file", value_parser = PossibleValuesParser::new(KEYS))]
    set: Vec<String>,
    /// Keep the present `purchasely_shared_secret` as `purchasely_shared_secret_previous`. Without --set and --file, the
    /// new one is asked for.
    #[arg(long)]
    rotate: bool,
    /// Do not ask.
    #[arg(long)]
    yes: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

pub async fn run(options: Options) -> Result<ExitCode, Unusable> {
    let stack = Stack::describe(&options.stack).await?;
    let secret = stack.output("SecretArn")?;
    let mut keys = options.set.clone();
    if options.rotate && keys.is_empty() && options.file.is_none() {
        keys.push(SHARED.to_owned());
    }
    let present = if keys.is_empty() && !options.rotate {
        Document::new()
    } else {
        present(secret).await?
    };
    let mut problems = Vec::new();
    let mut stored_file = None;
    let mut document = if keys.is_empty() {
        let file = options.file.as_deref().unwrap_or(Path::new(FILE));
        stored_file = Some(file.display());
        let document = from_file(file, &options.stack, &stack.account, &mut problems)?;
        keys = document.keys().cloned().collect();
        document
    } else {
        with_answers(present.clone(), &keys)?
    };
    if options.rotate {
        problems.extend(rotate(&mut document, &present));
        keys.retain(|key| key != PREVIOUS);
        keys.push(PREVIOUS.to_owned());
    }
    let is_set = |name| stack.parameters.get(name).is_some_and(|value| !value.is_empty());
    let is_signed = stack.parameters.get("PurchaselySignature").is_none_or(|value| value != "off");
    problems.extend(self::problems(&document, is_signed, is_set("ClevertapSandboxAccountId")));
    let report = |stored: bool, problems: &[String]| {
        if options.json {
            let report = json!({
                "stack": options.stack, "account": stack.account, "region": stack.region, "secret": secret,
                "keys": keys, "stored": stored, "problems": problems,
            });
            print(&format!("{report}\n"));
        }
    };
    if !problems.is_empty() {
        for problem in &problems {
            eprintln!("error: {problem}");
        }
        report(false, &problems);
        return Ok(ExitCode::FAILURE);
    }
    eprintln!(
        "{} of the stack {} in account {}, {}: {secret}",
        keys.join(", "),
        options.stack,
        stack.account,
        stack.region
    );
    if !ask::is_agreed(options.yes)? {
        eprintln!("Nothing was changed.");
        report(false, &[]);
        return Ok(ExitCode::FAILURE);
    }
    let text = Value::Object(document).to_string();
    let arguments = [secret, "--secret-string", aws::STANDARD_INPUT];
    let stored = aws::run(STORE, arguments, &text).await;
    stored.map_err(|failure| failure.explain(STORE))?;
    report(true, &[]);
    eprintln!("Stored. The function reads it within five minutes.");
    if let Some(file) = stored_file {
        eprintln!("Delete {file}, or keep it where nobody else can read it.");
    }
    Ok(ExitCode::SUCCESS)
}

/// A stored secret's text; `None` if it has no value yet, or a binary one.
pub async fn read(id: &str) -> Result<Option<String>, Unusable> {
    let answer = aws::ask(READ, id).await;
    let answer = answer.map_err(|failure| failure.explain(READ))?;
    Ok(answer["SecretString"].as_str().map(str::to_owned))
}

async fn present(id: &str) -> Result<Document, Unusable> {
    let text = read(id).await?.unwrap_or_default();
    let document = serde_json::from_str(&text);
    Ok(document.map_err(|_| format!("{id}: {}", InvalidSecret::NotAnObject))?)
}

/// The file's document without the keys that say where it belongs.
fn from_file(
    file: &Path,
    stack: &str,
    account: &str,
    problems: &mut Vec<String>,
) -> Result<Document, Unusable> {
    let name = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
    let Ok(mut document) = serde_json::from_str::<Document>(&text) else {
        problems.push(InvalidSecret::NotAnObject.to_string());
        return Ok(Document::new());
    };
    for (key, actual) in [("stack", stack), ("account", account)] {
        if let Some(wanted) = document.remove(key)
            && wanted != actual
        {
            let problem = format!("{name} is for the {key} {wanted}, and this is {actual}");
            problems.push(problem);
        }
    }
    // Not by name: if key and value were swapped, the name is the secret.
    let unknown = document.keys().filter(|key| !KEYS.contains(&key.as_str())).count();
    if unknown > 0 {
        let known = KEYS.join(", ");
        problems.push(format!("{unknown} keys of {name} are not read: they can be {known}"));
    }
    Ok(document)
}

fn with_answers(mut document: Document, keys: &[String]) -> Result<Document, Unusable> {
    for key in keys {
        let value = ask::value(key)?;
        if value.is_empty() {
            document.remove(key);
        } else {
            document.insert(key.clone(), json!(value));
        }
    }
    Ok(document)
}

/// Keeps the present shared secret as the previous one, unless it stays.
fn rotate(document: &mut Document, present: &Document) -> Option<String> {
    let present = present.get(SHARED).filter(|value| **value != "");
    match present {
        None => Some(format!("--rotate: the stored secret has no {SHARED} yet")),
        Some(present) if document.get(SHARED) == Some(present) => {
            Some(format!("--rotate: the new {SHARED} is the present one"))
        }
        Some(present) => {
            document.insert(PREVIOUS.to_owned(), present.clone());
            None
        }
    }
}

/// Everything that the function would not take, by its own parser, which stops at the first key that it requires.
fn problems(document: &Document, is_signed: bool, has_sandbox: bool) -> Vec<String> {
    let mut problems = Vec::new();
    for key in KEYS {
        let value = document.get(key).and_then(Value::as_str).unwrap_or_default();
        if value == "..." || value.starts_with('<') && value.ends_with('>') {
            problems.push(format!("the secret's key `{key}` is still the placeholder"));
        }
    }
    let mut rest = document.clone();
    loop {
        use InvalidSecret::{Binary, Empty, Missing, NotAnObject, NotAscii, WhiteSpace};
        match Secret::parse(&Value::Object(rest.clone()).to_string(), is_signed) {
            Ok(secret) => {
                problems.extend(secret.unusable.iter().map(ToString::to_string));
                if has_sandbox && secret.clevertap_sandbox_passcode.is_none() {
                    problems.push(format!(
                        "the stack has a ClevertapSandboxAccountId, and the secret no `{SANDBOX_PASSCODE}`"
                    ));
                }
                return problems;
            }
            Err(why) => {
                problems.push(why.to_string());
                match why {
                    Missing(key) | Empty(key) | WhiteSpace(key) | NotAscii(key) => {
                        rest.insert(key.to_owned(), json!("usable"));
                    }
                    NotAnObject | Binary => return problems,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(value: Value) -> Document {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn every_problem_is_found_at_once() {
        let secret = document(json!({
            "clevertap_passcode": "p\n", "purchasely_shared_secret_previous": "a b", "other": 7,
        }));
        let expected = [
            "the secret has no text under the key `purchasely_shared_secret`",
            "the secret's key `clevertap_passcode` has white space or a line break: store the bare value",
            "the secret's key `purchasely_shared_secret_previous` has white space or a line break: store the bare value",
            "the stack has a ClevertapSandboxAccountId, and the secret no `clevertap_sandbox_passcode`",
        ];
        assert_eq!(problems(&secret, true, true), expected);
        assert_eq!(problems(&secret, false, false), expected[1..3]);
        let placeholder = document(json!({ "clevertap_passcode": "..." }));
        let found = problems(&placeholder, false, false);
        assert_eq!(found, ["the secret's key `clevertap_passcode` is still the placeholder"]);
    }

    #[test]
    fn a_rotation_keeps_the_present_secret_once() {
        let present = document(json!({ SHARED: "old", PREVIOUS: "oldest" }));
        let mut new = document(json!({ SHARED: "new" }));
        assert_eq!(rotate(&mut new, &present), None);
        assert_eq!(new, document(json!({ SHARED: "new", PREVIOUS: "old" })));
        let again = rotate(&mut new.clone(), &new);
        assert!(again.unwrap().ends_with("is the present one"));
        assert!(rotate(&mut new, &document(json!({ SHARED: "" }))).is_some());
    }
}
