//! One process under measurement: its start, its CPU time, its peak of memory, its end.
//! It does not know what the process does.

use crate::quota::{Held, Quota};
use std::error::Error;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What to start, and with which variables.
#[derive(Debug, Clone)]
pub struct Start {
    pub program: PathBuf,
    pub arguments: Vec<PathBuf>,
    pub variables: Vec<(&'static str, String)>,
    /// Takes what the process writes.
    pub log: PathBuf,
}

/// Ended when dropped.
pub struct Process {
    child: Child,
    began_at: Instant,
    /// What the shell took that waited for the quota to be in force.
    cpu_before: Duration,
    _held: Option<Held>,
}

impl Process {
    pub fn start(start: &Start, quota: Option<&Quota>) -> Result<Self, Box<dyn Error>> {
        let log = File::create(&start.log)?;
        let mut command = if quota.is_some() {
            // It waits until the quota is in force.
            let mut shell = Command::new("sh");
            shell.args(["-c", r#"read -r go; exec "$0" "$@""#]);
            shell.arg(&start.program);
            shell
        } else {
            Command::new(&start.program)
        };
        command
            .args(&start.arguments)
            .env_clear()
            .envs(start.variables.iter().map(|(name, value)| (name, value)))
            .stdin(if quota.is_some() {
                Stdio::piped()
            } else {
                Stdio::null()
            })
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut began_at = Instant::now();
        let mut child = command
            .spawn()
            .map_err(|error| format!("{} cannot be started: {error}", start.program.display()))?;
        let pid = child.id();
        let mut cpu_before = Duration::ZERO;
        let mut held = None;
        if let (Some(quota), Some(mut go)) = (quota, child.stdin.take()) {
            held = Some(quota.hold(pid)?);
            cpu_before = cpu_time(pid)?;
            began_at = Instant::now();
            go.write_all(b"\n")?;
        }
        Ok(Self {
            child,
            began_at,
            cpu_before,
            _held: held,
        })
    }

    pub fn began_at(&self) -> Instant {
        self.began_at
    }

    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// User and system time of its threads since it began.
    pub fn cpu(&self) -> Result<Duration, Box<dyn Error>> {
        Ok(cpu_time(self.child.id())?.saturating_sub(self.cpu_before))
    }

    /// The most memory that it has held at once, in bytes.
    pub fn peak_memory(&self) -> Result<u64, Box<dyn Error>> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        let kibibytes: u64 = kibibytes.ok_or("no VmHWM in its status")?.trim().parse()?;
        Ok(kibibytes * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Either fails only if the process has already gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long the threads of a process have run. The kernel counts it in nanoseconds.
pub fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut nanoseconds = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while it is looked at.
        let told = fs::read_to_string(thread?.path().join("schedstat")).unwrap_or_default();
        let ran = told.split(' ').next().and_then(|ran| ran.parse().ok());
        nanoseconds += ran.unwrap_or(0);
    }
    Ok(Duration::from_nanos(nanoseconds))
}
