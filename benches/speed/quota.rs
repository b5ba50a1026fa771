//! A control group that limits a process to a part of one CPU.
//! It does not know what runs in the group.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Short, so that a start of a few milliseconds is slowed evenly and not by a tenth of a second at once.
const PERIOD_US: u32 = 20_000;
/// A Lambda function with so many megabytes has a whole CPU
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>).
const WHOLE_CPU_MB: f64 = 1769.0;

/// A part of one CPU, and how the kernel of this machine limits a group to it.
pub struct Quota {
    parent: &'static Path,
    /// The files to write in a new group.
    limits: Vec<(&'static str, String)>,
    pub description: String,
}

/// Removed when dropped, which must be after the end of the processes in it.
pub struct Group(PathBuf);

impl Quota {
    /// The part that a Lambda function of this size has. `None` where no group can be created: that needs Linux and
    /// root, or a control group that this user may write to.
    pub fn of(memory_mb: u32) -> Option<Self> {
        let share_us = f64::from(PERIOD_US) * f64::from(memory_mb) / WHOLE_CPU_MB;
        let (share, period) = (format!("{share_us:.0}"), PERIOD_US.to_string());
        let both = format!("{share} {period}");
        let mechanisms = [
            (
                "/sys/fs/cgroup/cpu",
                vec![("cpu.cfs_period_us", period), ("cpu.cfs_quota_us", share)],
            ),
            ("/sys/fs/cgroup", vec![("cpu.max", both)]),
        ];
        let quotas = mechanisms.map(|(parent, limits)| {
            let (ms, files) =
                (share_us / 1e3, limits.last().map(|(file, _)| *file).unwrap_or_default());
            let description = format!("{ms:.2} ms of every 20 ms, by a control group ({files})");
            Self { parent: Path::new(parent), limits, description }
        });
        quotas.into_iter().find(|quota| quota.create_group().is_ok())
    }

    pub fn create_group(&self) -> io::Result<Group> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("relay-bench-{}-{number}", std::process::id());
        let group = Group(self.parent.join(name));
        fs::create_dir(&group.0)?;
        for (file, limit) in &self.limits {
            // Not `fs::write`: where the controller is missing it would create the file.
            let mut file = fs::OpenOptions::new().write(true).open(group.0.join(file))?;
            io::Write::write_all(&mut file, limit.as_bytes())?;
        }
        Ok(group)
    }
}

impl Group {
    /// From here on the process is limited.
    pub fn add(&self, pid: u32) -> io::Result<()> {
        fs::write(self.0.join("cgroup.procs"), pid.to_string())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A process that has just ended is a member for a moment longer.
        for _ in 0..1000 {
            if fs::remove_dir(&self.0).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}
