//! How many instructions the function's own work on one event takes: the same on every run of the
//! same binary, whatever else the machine does.
//! It does not know what that work is; it runs the program that does it, under callgrind.

use crate::contestants::build_instructions;
use crate::events::SAMPLE;
use serde::Serialize;
use std::error::Error;
use std::path::Path;
use std::process::Command;

/// Events in the shorter of two runs; the longer has twice as many, and the difference is told.
const EVENTS: u64 = 200;

/// Instructions for one event.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Instructions {
    pub verify: u64,
    pub parse: u64,
    pub map: u64,
    pub write: u64,
}

impl Instructions {
    /// Counts them. `None` where valgrind is not installed.
    pub fn count() -> Result<Option<Self>, Box<dyn Error>> {
        if Command::new("valgrind").arg("--version").output().is_err() {
            return Ok(None);
        }
        let program = build_instructions()?;
        let upto = |stage| -> Result<u64, Box<dyn Error>> {
            let fewer = counted(&program, stage, EVENTS)?;
            let more = counted(&program, stage, 2 * EVENTS)?;
            Ok((more - fewer) / EVENTS)
        };
        let (verify, parse) = (upto("verify")?, upto("parse")?);
        let (map, write) = (upto("map")?, upto("write")?);
        Ok(Some(Self {
            verify,
            parse: parse.saturating_sub(verify),
            map: map.saturating_sub(parse),
            write: write.saturating_sub(map),
        }))
    }

    /// Of verify, parse and map.
    pub fn verify_parse_map(&self) -> u64 {
        self.verify + self.parse + self.map
    }
}

/// The instructions of a whole run.
fn counted(program: &Path, upto: &str, times: u64) -> Result<u64, Box<dyn Error>> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args([SAMPLE, "--upto", upto, "--times", &times.to_string()])
        .current_dir(crate::contestants::root())
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    let collected = told
        .lines()
        .find_map(|line| line.split_once("Collected :"))
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("callgrind told no count: {told}"))?;
    Ok(collected.1.trim().parse()?)
}
