//! The state file: the events that were delivered, so that a later run does not send them again.
//! It does not know what an event is: it stores keys.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The first line of the file: what one receiver has, another has not.
#[derive(Serialize, Deserialize)]
struct Head {
    replayed_to: String,
}

/// Every other line of the file.
#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    outcome: String,
}

#[derive(Default)]
pub struct State {
    delivered: HashSet<String>,
    /// None in a dry run.
    file: Option<File>,
}

/// The state file of an input: beside it, with `.replay` appended to its name.
pub fn beside(input: &Path) -> PathBuf {
    // `.` and the like have a name only when they are resolved.
    let resolved = input.canonicalize().unwrap_or_else(|_| input.to_owned());
    let input = input.file_name().map_or(resolved.as_path(), |_| input);
    let mut name = input.file_name().unwrap_or("state".as_ref()).to_owned();
    name.push(".replay");
    input.with_file_name(name)
}

impl State {
    /// Continues after the last run to this receiver, or forgets it.
    pub fn open(path: &Path, receiver: &str, restart: bool) -> Result<Self, String> {
        let in_file = |error: io::Error| format!("{}: {error}", path.display());
        let mut options = File::options();
        let file = options.read(true).append(true).create(true).open(path);
        let mut file = file.map_err(in_file)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("{}: another replay uses this state file", path.display()));
            }
            Err(TryLockError::Error(error)) => return Err(in_file(error)),
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(in_file)?;
        let mut delivered = parse(path, &content, Some(receiver).filter(|_| !restart))?;
        if restart {
            file.set_len(0).map_err(in_file)?;
            content.clear();
            delivered.clear();
        }
        if content.is_empty() {
            let replayed_to = receiver.to_owned();
            write_line(&mut file, &Head { replayed_to }).map_err(in_file)?;
        } else if !content.ends_with(b"\n") {
            // The last run was killed while it wrote a line; the next entry needs a line of its own.
            file.write_all(b"\n").map_err(in_file)?;
        }
        let file = Some(file);
        Ok(Self { delivered, file })
    }

    /// Reads what [`State::open`] would read, of any receiver if none is given, and writes nothing.
    pub fn peek(path: &Path, receiver: Option<&str>) -> Result<Self, String> {
        let content = match std::fs::read(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("{}: {error}", path.display()));
            }
            content => content.unwrap_or_default(),
        };
        let delivered = parse(path, &content, receiver)?;
        Ok(Self { delivered, file: None })
    }

    pub fn contains(&self, key: &str) -> bool {
        self.delivered.contains(key)
    }

    /// The event is in the file when this returns.
    pub fn add(&mut self, key: String, outcome: String) -> io::Result<()> {
        let entry = Entry { key, outcome };
        if let Some(file) = &mut self.file {
            write_line(file, &entry)?;
        }
        self.delivered.insert(entry.key);
        Ok(())
    }
}

/// The keys in a state file. An incomplete line is ignored: its event is sent again.
fn parse(path: &Path, content: &[u8], receiver: Option<&str>) -> Result<HashSet<String>, String> {
    if content.is_empty() {
        return Ok(HashSet::new());
    }
    let mut lines = content.split(|&byte| byte == b'\n');
    let head = serde_json::from_slice(lines.next().unwrap_or_default());
    let Ok(Head { replayed_to }) = head else {
        return Err(format!(
            "{}: not a state file of replay, left unchanged; name another one with --state",
            path.display()
        ));
    };
    if receiver.is_some_and(|receiver| receiver != replayed_to) {
        return Err(format!(
            "{}: the state of a replay to {replayed_to}; name another file with --state, or start over with --restart",
            path.display()
        ));
    }
    let entries = lines.filter_map(|line| serde_json::from_slice(line).ok());
    Ok(entries.map(|Entry { key, .. }| key).collect())
}

/// One write per line, so that a killed run leaves a whole line or none.
fn write_line(file: &mut File, line: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    file.write_all(&line)
}
