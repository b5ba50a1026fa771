//! Counts the instructions of the function's own work on one event, by running `../instructions.rs` under callgrind.
//! It does not know what that work is.

use crate::contestants::{cargo, root};
use crate::events::SAMPLE;
use std::error::Error;
use std::process::Command;

/// Events in the shorter of two runs. The longer one has twice as many; the difference leaves out the program's start.
const EVENTS: u64 = 200;

/// Makes cargo start what it has built under callgrind.
const RUNNER: &str = "target.'cfg(all())'.runner = ['valgrind', '--tool=callgrind', '--callgrind-out-file=/dev/null']";

/// Instructions for one event, by step.
pub struct Instructions {
    /// The signature's hash, which is a part of `verify`.
    pub hash: u64,
    pub verify: u64,
    pub parse: u64,
    pub map: u64,
    pub write: u64,
    /// To parse, map and write events that have 100 and 200 unknown fields and none but the required ones beside.
    pub unknown_100: u64,
    pub unknown_200: u64,
}

impl Instructions {
    /// All of the function's own code: valgrind lacks the SHA instructions that the hash uses.
    pub fn without_hash(&self) -> u64 {
        (self.verify + self.parse + self.map + self.write).saturating_sub(self.hash)
    }

    /// `None` where valgrind is not installed.
    pub fn count() -> Result<Option<Self>, Box<dyn Error>> {
        if Command::new("valgrind").arg("--version").output().is_err() {
            return Ok(None);
        }
        let up_to = |step| count(step, None);
        let (verify, parse, map) = (up_to("verify")?, up_to("parse")?, up_to("map")?);
        let unknown = |fields| -> Result<u64, Box<dyn Error>> {
            Ok(count("write", Some(fields))?.saturating_sub(count("verify", Some(fields))?))
        };
        Ok(Some(Self {
            hash: up_to("hash")?,
            verify,
            parse: parse.saturating_sub(verify),
            map: map.saturating_sub(parse),
            write: up_to("write")?.saturating_sub(map),
            unknown_100: unknown(100)?,
            unknown_200: unknown(200)?,
        }))
    }
}

/// The instructions for one event of those that the longer run has more.
fn count(up_to: &str, unknown_fields: Option<u32>) -> Result<u64, Box<dyn Error>> {
    let shorter = run(up_to, unknown_fields, EVENTS)?;
    Ok((run(up_to, unknown_fields, 2 * EVENTS)? - shorter) / EVENTS)
}

/// The instructions of a whole run.
fn run(up_to: &str, unknown_fields: Option<u32>, times: u64) -> Result<u64, Box<dyn Error>> {
    let mut command = cargo();
    command
        .args(["bench", "--locked", "--quiet", "--bench", "instructions"])
        .arg("--manifest-path")
        .arg(root().join("benches/Cargo.toml"))
        .args(["--config", RUNNER, "--"])
        .arg(root().join(SAMPLE))
        .args(["--up-to", up_to, "--times", &times.to_string()]);
    if let Some(fields) = unknown_fields {
        command.args(["--unknown-fields", &fields.to_string()]);
    }
    let output = command.output()?;
    let messages = String::from_utf8_lossy(&output.stderr);
    let (_, collected) = messages
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("callgrind reported no count: {messages}"))?;
    Ok(collected.trim().parse()?)
}
