//! What a command asks its user for, so that it is in no shell's history.
//! It does not know what the answers are used for.

use crate::Unusable;
use console::Term;
use std::io::IsTerminal;

/// The environment variable with Purchasely's client shared secret.
const SHARED_SECRET: &str = "PURCHASELY_SHARED_SECRET";

pub fn shared_secret_from_environment() -> Option<String> {
    std::env::var(SHARED_SECRET).ok().filter(|secret| !secret.is_empty())
}

/// Asks for Purchasely's secret on a terminal; elsewhere the variable must be set.
pub fn shared_secret() -> Result<String, Unusable> {
    if is_on_a_terminal() {
        let secret = value("Client shared secret in Purchasely's console")?;
        if !secret.is_empty() {
            return Ok(secret);
        }
    }
    Err(Unusable::from(format!(
        "{SHARED_SECRET} is not set; set it to the client shared secret in Purchasely's console"
    )))
}

/// A secret value: from a terminal, which does not show it, else a line of standard input.
pub fn value(what: &str) -> Result<String, Unusable> {
    if !is_on_a_terminal() {
        return line(what);
    }
    let terminal = Term::stderr();
    let prompt = format!("{what} (not shown): ");
    let value = terminal.write_str(&prompt).and_then(|()| terminal.read_secure_line());
    let value = value.map_err(|error| format!("{what}: {error}"))?;
    Ok(value.trim().to_owned())
}

/// A line of standard input, without its line break.
pub fn line(what: &str) -> Result<String, Unusable> {
    if std::io::stdin().is_terminal() {
        eprint!("{what}: ");
    }
    let mut line = String::new();
    let read = std::io::stdin().read_line(&mut line);
    read.map_err(|error| format!("{what}: standard input: {error}"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Whether the user agrees to what was just printed: `yes` is their answer on the command line. Without it, nothing is
/// done where nobody can be asked.
pub fn is_agreed(yes: bool) -> Result<bool, Unusable> {
    if yes {
        return Ok(true);
    }
    if !is_on_a_terminal() {
        let problem = "there is no terminal to ask on: add --yes to agree";
        return Err(Unusable::from(problem.to_owned()));
    }
    let answer = line("Go on? [y/N]")?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

pub fn is_on_a_terminal() -> bool {
    std::io::stdin().is_terminal() && Term::stderr().is_term()
}
