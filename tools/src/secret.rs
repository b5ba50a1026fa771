//! Where a command gets Purchasely's client shared secret from, so that it is in no shell's history.
//! It does not know what the secret is used for.

use crate::Unusable;
use console::Term;
use std::io::IsTerminal;

/// The environment variable with Purchasely's client shared secret.
const SHARED_SECRET: &str = "PURCHASELY_SHARED_SECRET";

pub fn from_environment() -> Option<String> {
    std::env::var(SHARED_SECRET).ok().filter(|secret| !secret.is_empty())
}

/// Asks for the secret on a terminal; elsewhere the variable must be set.
pub fn ask() -> Result<String, Unusable> {
    let terminal = Term::stderr();
    if std::io::stdin().is_terminal() && terminal.is_term() {
        let prompt = "Client shared secret in Purchasely's console (not shown): ";
        let secret = terminal.write_str(prompt).and_then(|()| terminal.read_secure_line());
        let secret = secret.map_err(|error| format!("no secret: {error}"))?;
        if !secret.trim().is_empty() {
            return Ok(secret.trim().to_owned());
        }
    }
    Err(Unusable::from(format!(
        "{SHARED_SECRET} is not set; set it to the client shared secret in Purchasely's console"
    )))
}
