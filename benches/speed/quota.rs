//! Holds a process to a part of one CPU: in each short window it may run for so long and no longer.
//! It does not know what the process does.
//!
//! The kernel does it where a control group can be made (version 1 or 2, as root or in a delegated
//! group). Elsewhere a thread stops the process with a signal once its share of the window is used.

use crate::process::cpu_time;
use rustix::process::{Pid, Signal, kill_process};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Short, so that a start of a few milliseconds is slowed evenly and not by whole tenths of a second.
const WINDOW: Duration = Duration::from_millis(20);
/// How often the thread looks at the process's CPU clock.
const GLANCE: Duration = Duration::from_micros(200);

/// A part of one CPU.
#[derive(Debug, Clone)]
pub struct Quota {
    share: Duration,
    means: Means,
}

#[derive(Debug, Clone)]
enum Means {
    /// Version 1, below this directory.
    Cfs(PathBuf),
    /// Version 2, below this directory.
    CpuMax(PathBuf),
    Signals,
}

/// A process held to its quota until this is dropped, which must be after its end.
#[derive(Debug)]
pub enum Held {
    ByGroup(PathBuf),
    BySignals {
        ended: Arc<AtomicBool>,
        thread: Option<JoinHandle<()>>,
    },
}

impl Quota {
    /// `fraction` of one CPU, by the best means that there is.
    pub fn of(fraction: f64) -> Self {
        let share = WINDOW.mul_f64(fraction);
        let means = control_groups()
            .into_iter()
            .find(|means| make_group(share, means).and_then(fs::remove_dir).is_ok());
        Self {
            share,
            means: means.unwrap_or(Means::Signals),
        }
    }

    /// The same, by signals.
    pub fn by_signals(fraction: f64) -> Self {
        Self {
            share: WINDOW.mul_f64(fraction),
            means: Means::Signals,
        }
    }

    /// The means, in words.
    pub fn means(&self) -> String {
        let means = match self.means {
            Means::Cfs(_) => "a control group (version 1, cpu.cfs_quota_us)",
            Means::CpuMax(_) => "a control group (version 2, cpu.max)",
            Means::Signals => "SIGSTOP and SIGCONT by its CPU clock",
        };
        format!(
            "{:.2} ms of every {} ms, by {means}",
            self.share.as_secs_f64() * 1e3,
            WINDOW.as_millis()
        )
    }

    /// Holds a process, from this moment on.
    pub fn hold(&self, pid: u32) -> io::Result<Held> {
        if matches!(self.means, Means::Signals) {
            return Ok(hold_by_signals(pid, self.share));
        }
        let group = make_group(self.share, &self.means)?;
        fs::write(group.join("cgroup.procs"), pid.to_string())?;
        Ok(Held::ByGroup(group))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self {
            Self::ByGroup(group) => {
                // A process that has just ended may be counted for a moment longer.
                let patience = Instant::now() + Duration::from_secs(1);
                while fs::remove_dir(&*group).is_err() && Instant::now() < patience {
                    thread::sleep(GLANCE);
                }
            }
            Self::BySignals { ended, thread } => {
                ended.store(true, Ordering::Relaxed);
                if let Some(thread) = thread.take() {
                    let _ = thread.join();
                }
            }
        }
    }
}

/// Where groups might be made: below the bench's own, else at the root.
fn control_groups() -> Vec<Means> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut means = Vec::new();
    for mount in mounts.lines() {
        let fields: Vec<_> = mount.split(' ').collect();
        let [_, folder, kind, options, ..] = fields[..] else {
            continue;
        };
        let is_cpu = options.split(',').any(|option| option == "cpu");
        for line in own.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (
                parts.next().unwrap_or_default(),
                parts.next().unwrap_or_default(),
            );
            let below = Path::new(folder).join(path.trim_start_matches('/'));
            if kind == "cgroup" && is_cpu && controllers.split(',').any(|name| name == "cpu") {
                means.push(Means::Cfs(below));
                means.push(Means::Cfs(folder.into()));
            } else if kind == "cgroup2" && controllers.is_empty() {
                means.push(Means::CpuMax(below));
                means.push(Means::CpuMax(folder.into()));
            }
        }
    }
    means
}

fn make_group(share: Duration, means: &Means) -> io::Result<PathBuf> {
    static LAST: AtomicU32 = AtomicU32::new(0);
    let number = LAST.fetch_add(1, Ordering::Relaxed);
    let name = format!("relay-bench-{}-{number}", std::process::id());
    let (share, window) = (share.as_micros(), WINDOW.as_micros());
    let (parent, limits) = match means {
        Means::Cfs(parent) => (
            parent,
            vec![
                ("cpu.cfs_period_us", window.to_string()),
                ("cpu.cfs_quota_us", share.to_string()),
            ],
        ),
        Means::CpuMax(parent) => (parent, vec![("cpu.max", format!("{share} {window}"))]),
        Means::Signals => return Err(io::ErrorKind::Unsupported.into()),
    };
    let group = parent.join(name);
    fs::create_dir(&group)?;
    for (file, limit) in limits {
        if let Err(error) = fs::write(group.join(file), limit) {
            fs::remove_dir(&group)?;
            return Err(error);
        }
    }
    Ok(group)
}

fn hold_by_signals(pid: u32, share: Duration) -> Held {
    let ended = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&ended);
    let used = move || cpu_time(pid);
    let signal = move |signal| {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| kill_process(pid, signal).is_ok())
    };
    let thread = thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            let window_ends = Instant::now() + WINDOW;
            let Ok(before) = used() else {
                return;
            };
            let mut is_stopped = false;
            while Instant::now() < window_ends && !told.load(Ordering::Relaxed) {
                let Ok(now) = used() else {
                    return;
                };
                if !is_stopped && now.saturating_sub(before) >= share {
                    is_stopped = signal(Signal::STOP);
                }
                thread::sleep(GLANCE);
            }
            if is_stopped {
                signal(Signal::CONT);
            }
        }
    });
    Held::BySignals {
        ended,
        thread: Some(thread),
    }
}
