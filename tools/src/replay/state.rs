//! The state file: the events that were settled, so that a later run does not send them again.
//! It does not know what an event is: it stores keys.

use purchasely_clevertap::aws::queues::group_id as digest;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::fs::{File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// A receiver and a set of events: what one has settled, another has not.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// In a dry run, there may be none.
    #[serde(rename = "replayed_to")]
    pub receiver: Option<String>,
    /// The digest of the events' keys, in any order.
    pub events: String,
}

/// Every other line of the file.
#[derive(Serialize, Deserialize)]
struct Entry {
    key: String,
    outcome: String,
}

#[derive(Default)]
pub struct State {
    /// Outcomes by key.
    settled: HashMap<String, String>,
    /// None in a dry run.
    file: Option<File>,
}

impl Replay {
    pub fn new(receiver: Option<String>, keys: BTreeSet<String>) -> Self {
        let keys: Vec<_> = keys.into_iter().collect();
        Self {
            receiver,
            events: digest(keys.join("\n").as_bytes()),
        }
    }

    /// Its state file: beside the inputs, named after the set of events.
    pub fn path(&self, inputs: &[PathBuf]) -> PathBuf {
        let first = inputs.iter().min().map_or(Path::new("."), PathBuf::as_path);
        // `.` and the like have a parent only when they are resolved.
        let resolved = first.canonicalize().unwrap_or_else(|_| first.to_owned());
        let first = first.file_name().map_or(resolved.as_path(), |_| first);
        first.with_file_name(format!("{}.replay", &self.events[..16]))
    }
}

impl State {
    /// Continues after the last run of this replay, or forgets it.
    pub fn open(path: &Path, replay: &Replay, restart: bool) -> Result<Self, String> {
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
        let mut settled = parse(path, &content, Some(replay).filter(|_| !restart))?;
        if restart {
            file.set_len(0).map_err(in_file)?;
            content.clear();
            settled.clear();
        }
        if content.is_empty() {
            write_line(&mut file, replay).map_err(in_file)?;
        } else if !content.ends_with(b"\n") {
            // The last run was killed while it wrote a line; the next entry needs a line of its own.
            file.write_all(b"\n").map_err(in_file)?;
        }
        let file = Some(file);
        Ok(Self { settled, file })
    }

    /// Reads what [`State::open`] would read, of any receiver if none is given, and writes nothing.
    pub fn peek(path: &Path, replay: &Replay) -> Result<Self, String> {
        let content = match std::fs::read(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("{}: {error}", path.display()));
            }
            content => content.unwrap_or_default(),
        };
        let settled = parse(path, &content, Some(replay))?;
        Ok(Self { settled, file: None })
    }

    /// How the event was settled, if it was.
    pub fn outcome(&self, key: &str) -> Option<&str> {
        self.settled.get(key).map(String::as_str)
    }

    /// The event is in the file when this returns.
    pub fn add(&mut self, key: String, outcome: String) -> io::Result<()> {
        let entry = Entry { key, outcome };
        if let Some(file) = &mut self.file {
            write_line(file, &entry)?;
        }
        self.settled.insert(entry.key, entry.outcome);
        Ok(())
    }
}

/// The entries of a state file. An incomplete line is ignored: its event is sent again.
fn parse(
    path: &Path,
    content: &[u8],
    replay: Option<&Replay>,
) -> Result<HashMap<String, String>, String> {
    if content.is_empty() {
        return Ok(HashMap::new());
    }
    let path = path.display();
    let mut lines = content.split(|&byte| byte == b'\n');
    let Ok(head) = serde_json::from_slice::<Replay>(lines.next().unwrap_or_default()) else {
        return Err(format!(
            "{path}: not a state file of replay, left unchanged; name another one with --state"
        ));
    };
    let other = replay.and_then(|replay| {
        let is_elsewhere = replay.receiver.is_some() && replay.receiver != head.receiver;
        let receiver = head.receiver.as_deref().unwrap_or_default();
        let other = is_elsewhere.then(|| format!("to {receiver}"));
        other.or_else(|| (replay.events != head.events).then(|| "of other events".to_owned()))
    });
    if let Some(other) = other {
        return Err(format!(
            "{path}: the state of a replay {other}; name another file with --state, or start over with --restart"
        ));
    }
    let entries = lines.filter_map(|line| serde_json::from_slice(line).ok());
    Ok(entries.map(|Entry { key, outcome }| (key, outcome)).collect())
}

/// One write per line, so that a killed run leaves a whole line or none.
fn write_line(file: &mut File, line: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(line)?;
    line.push(b'\n');
    file.write_all(&line)
}
