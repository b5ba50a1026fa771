//! The state file: which events were acknowledged, so that a later run does not send them again.
//! It does not know what an event is; it keeps keys.

use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// The first line of the file. What one receiver acknowledged, another has not.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    replayed_to: String,
}

/// Every other line.
#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    key: String,
    outcome: String,
}

/// What was acknowledged, in memory and, except in a dry run, in the file.
#[derive(Debug)]
pub struct State {
    acknowledged: HashSet<String>,
    file: Option<File>,
}

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// The system says no.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Some other file; it is left as it is.
    #[error("is not a state file of replay, and stays as it is: name another with --state")]
    Foreign,
    /// Of another receiver.
    #[error(
        "tells what {0} acknowledged: name another file with --state, or begin anew with --restart"
    )]
    OtherReceiver(String),
    /// Two runs would send the same events.
    #[error("is in use by another replay")]
    InUse,
}

/// The state file of an input: beside it, `.replay` behind its name.
pub fn beside(input: &Path) -> PathBuf {
    // `events/`, `..` and the like have a name only once they are resolved.
    let resolved = input.canonicalize().unwrap_or_else(|_| input.to_owned());
    let named = match input.file_name() {
        Some(_) => input,
        None => &resolved,
    };
    let mut name = named
        .file_name()
        .map_or_else(|| OsString::from("state"), OsString::from);
    name.push(".replay");
    named.with_file_name(name)
}

impl State {
    /// Goes on where the last run to this receiver ended; there may have been none.
    pub fn resume(path: &Path, receiver: &str) -> Result<Self, Unusable> {
        Self::open(path, receiver, false)
    }

    /// Forgets earlier runs.
    pub fn restart(path: &Path, receiver: &str) -> Result<Self, Unusable> {
        Self::open(path, receiver, true)
    }

    /// Knows what [`State::resume`] would know and writes nothing. Without a receiver, that of any.
    pub fn peek(path: &Path, receiver: Option<&str>) -> Result<Self, Unusable> {
        let content = match std::fs::read(path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self {
            acknowledged: read(&content, receiver)?,
            file: None,
        })
    }

    /// A state of nothing, kept nowhere.
    pub fn empty() -> Self {
        Self {
            acknowledged: HashSet::new(),
            file: None,
        }
    }

    /// Whether the event was acknowledged.
    pub fn holds(&self, key: &str) -> bool {
        self.acknowledged.contains(key)
    }

    /// Keeps that an event was acknowledged; it is in the file when this returns.
    pub fn acknowledge(&mut self, key: String, outcome: String) -> io::Result<()> {
        let entry = Entry { key, outcome };
        if let Some(file) = &mut self.file {
            write_line(file, &entry)?;
        }
        self.acknowledged.insert(entry.key);
        Ok(())
    }

    fn open(path: &Path, receiver: &str, forget: bool) -> Result<Self, Unusable> {
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Unusable::InUse),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let acknowledged = if forget {
            read(&content, None)?;
            file.set_len(0)?;
            file.rewind()?;
            content.clear();
            HashSet::new()
        } else {
            read(&content, Some(receiver))?
        };
        if content.is_empty() {
            let replayed_to = receiver.to_owned();
            write_line(&mut file, &Head { replayed_to })?;
        } else if !content.ends_with(b"\n") {
            // The last run ended within a line; the next entry must not become a part of it.
            file.write_all(b"\n")?;
        }
        Ok(Self {
            acknowledged,
            file: Some(file),
        })
    }
}

/// The keys in a state file. A line that was cut off is as good as none: its event is sent again.
fn read(content: &[u8], receiver: Option<&str>) -> Result<HashSet<String>, Unusable> {
    if content.is_empty() {
        return Ok(HashSet::new());
    }
    let mut lines = content.split(|&byte| byte == b'\n');
    let head = lines.next().unwrap_or_default();
    let Head { replayed_to } = serde_json::from_slice(head).map_err(|_| Unusable::Foreign)?;
    if receiver.is_some_and(|receiver| receiver != replayed_to) {
        return Err(Unusable::OtherReceiver(replayed_to));
    }
    let keys = lines.filter_map(|line| serde_json::from_slice(line).ok());
    Ok(keys.map(|Entry { key, .. }| key).collect())
}

/// In one write, so that a run that is killed leaves a whole line or none.
fn write_line(file: &mut File, line: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    file.write_all(&line)
}
