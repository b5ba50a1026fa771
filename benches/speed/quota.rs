//! A control group that limits a process to a part of one CPU.
//! It does not know what runs in the group.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use std::{fs, io, thread};

/// Short, so that a start of a few milliseconds is slowed evenly and not by a tenth of a second at once.
const PERIOD_US: u32 = 20_000;
/// A Lambda function with so many megabytes has a whole CPU
/// (<https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>).
const WHOLE_CPU_MB: u32 = 1769;

/// A part of one CPU, as the file of this machine's control groups and what to write into it.
pub struct Quota {
    parent: &'static str,
    limits: Vec<(&'static str, String)>,
    pub description: String,
}

/// Removed when dropped, which must be after the end of the processes in it.
pub struct Group(PathBuf);

impl Quota {
    /// The part that a Lambda function of this size has. `None` where no group can be created: that needs Linux and
    /// root, or a control group that this user may write to.
    pub fn of(memory_mb: u32) -> Option<Self> {
        let share = PERIOD_US * memory_mb / WHOLE_CPU_MB;
        let period = ("cpu.cfs_period_us", PERIOD_US.to_string());
        let version_1 = vec![period, ("cpu.cfs_quota_us", share.to_string())];
        let version_2 = vec![("cpu.max", format!("{share} {PERIOD_US}"))];
        let mut groups =
            [("/sys/fs/cgroup/cpu", version_1), ("/sys/fs/cgroup", version_2)].into_iter();
        groups.find_map(|(parent, limits)| {
            let description = format!("{share} µs of every {PERIOD_US} µs, by a control group");
            let quota = Self { parent, limits, description };
            quota.create_group().is_ok().then_some(quota)
        })
    }

    pub fn create_group(&self) -> io::Result<Group> {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let number = CREATED.fetch_add(1, Ordering::Relaxed);
        let name = format!("relay-bench-{}-{number}", std::process::id());
        let group = Group(Path::new(self.parent).join(name));
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
        let mut attempts = 0..1000;
        while fs::remove_dir(&self.0).is_err() && attempts.next().is_some() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
