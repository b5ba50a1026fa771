//! Where programs are, and how to end one with all that it started.
//! It does not know what a program does.

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, io};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};

/// How long a program may take to end after a signal.
const ENDING: Duration = Duration::from_secs(10);

/// A process and all that it started, killed on drop.
pub struct Group {
    child: Child,
    id: Pid,
}

impl Group {
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let child = command.process_group(0).kill_on_drop(true).spawn()?;
        let id = child.id().and_then(|id| i32::try_from(id).ok());
        let id = Pid::from_raw(id.expect("a process that was not waited for"));
        Ok(Self { child, id })
    }

    /// Resolves when the process ends by itself.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.child.wait().await
    }

    /// Sends a signal to all of it, and kills what does not end in time.
    pub async fn end(mut self, signal: Signal) {
        let _ = killpg(self.id, signal);
        let _ = tokio::time::timeout(ENDING, self.child.wait()).await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // It fails if all of it has ended.
        let _ = killpg(self.id, Signal::SIGKILL);
    }
}

pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A program of the workspace, `purchasely-clevertap` or `examples/relay`, in the profile of this one. Cargo builds it
/// where it is missing or older than one of its sources, so that no test runs against yesterday's code.
pub fn built(name: &str) -> PathBuf {
    find_built(name).unwrap_or_else(|problem| panic!("{problem}"))
}

/// The same, or why there is none.
pub fn find_built(name: &str) -> Result<PathBuf, String> {
    static BUILD: OnceLock<Result<(), String>> = OnceLock::new();
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let profile = own.ancestors().find(|folder| folder.join(".fingerprint").exists());
    let profile = profile
        .ok_or("this program was not built by cargo: run it in a clone of the repository")?;
    let program = profile.join(name);
    if is_stale(&program) {
        BUILD.get_or_init(|| build(profile)).clone()?;
    }
    Ok(program)
}

/// Whether a source of the program is newer, by the list that cargo writes beside it.
fn is_stale(program: &Path) -> bool {
    let changed_at = |path: &Path| fs::metadata(path)?.modified();
    let (Ok(built_at), Ok(list)) =
        (changed_at(program), fs::read_to_string(program.with_extension("d")))
    else {
        return true;
    };
    // The one line is `program: source source`; a space in a path is escaped.
    let list = list.replace("\\ ", "\0");
    let mut sources = list.split_whitespace().skip(1).map(|path| path.replace('\0', " "));
    sources.any(|source| changed_at(Path::new(&source)).is_ok_and(|at| at > built_at))
}

fn build(profile: &Path) -> Result<(), String> {
    let mut cargo = std::process::Command::new("cargo");
    for name in cargo_variables() {
        cargo.env_remove(name);
    }
    let (target, name) = (profile.parent(), profile.file_name());
    let name = name.filter(|name| *name != "debug").unwrap_or("dev".as_ref());
    // The packages of `cargo test --workspace`, and so its features: nothing is compiled twice.
    cargo.args(["build", "--locked", "--workspace", "--bins", "--example", "relay", "--profile"]);
    cargo.arg(name).arg("--target-dir").args(target).current_dir(repository());
    match cargo.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("cargo build: {status}")),
        Err(error) => Err(format!("cargo: {error}")),
    }
}

/// A tool that `make` installs. There is no test without it.
pub fn tool(variable: &str, name: &str) -> PathBuf {
    let installed = repository().join(".tools/venv/bin").join(name);
    let path = std::env::var_os(variable).map_or(installed, PathBuf::from);
    assert!(path.exists(), "{} is missing: `make tools` installs it", path.display());
    path
}

pub fn plain_client() -> reqwest::Client {
    crate::webhook::http_client().unwrap().build().unwrap()
}

/// Variables that cargo sets for a test; in a cargo that a test starts they would cause needless compiling.
pub fn cargo_variables() -> impl Iterator<Item = OsString> {
    let names = std::env::vars_os().map(|(name, _)| name);
    names.filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    })
}

/// A port for a program that cannot choose one itself. It is below those that systems hand out, so that nobody else is
/// given it in between.
pub async fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).await.is_ok() {
            return port;
        }
    }
}
