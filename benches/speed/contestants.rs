//! The programs that are measured, and how each is built: the function and its peers in `benches/peers`.
//! It does not know what is measured.

use clap::ValueEnum;
use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Contestant {
    /// A `lambda_http` function that does nothing: the floor.
    Nothing,
    /// Posts the same bytes for each event: an upload without a relay.
    Bare,
    /// The same with two bare requests to a table: the limit.
    Limit,
    /// This function as the template deploys it: with a claims table and queues.
    Relay,
    /// This function without them.
    RelayAlone,
    /// The same work in Rust, every crate at its default features.
    Defaults,
    /// The same work in TypeScript for Node, with Powertools.
    Node,
    /// The same work in Python, with Powertools.
    Python,
}

/// A contestant that can be started.
pub struct Built {
    pub contestant: Contestant,
    pub program: PathBuf,
    pub arguments: Vec<PathBuf>,
}

impl Contestant {
    /// Its names in the tables and in the plot.
    pub fn titles(self) -> (&'static str, &'static str) {
        match self {
            Self::Nothing => ("does nothing", "does nothing"),
            Self::Bare => ("bare forward", "bare forward"),
            Self::Limit => ("the limit: bare forward, two bare table requests", "the limit"),
            Self::Relay => ("**this function**", "this function"),
            Self::RelayAlone => ("this function, without table and queues", "without table"),
            Self::Defaults => ("Rust, default features", "Rust, defaults"),
            Self::Node => ("Node, Powertools", "Node, Powertools"),
            Self::Python => ("Python, Powertools", "Python, Powertools"),
        }
    }

    pub fn uploads(self) -> bool {
        self != Self::Nothing
    }

    pub fn has_table(self) -> bool {
        !matches!(self, Self::Nothing | Self::Bare | Self::RelayAlone)
    }

    /// Whether it uploads an event once, however often it comes.
    pub fn claims(self) -> bool {
        self.has_table() && self != Self::Limit
    }

    /// Builds it in `target/peers`, unless nothing has changed.
    pub fn build(self) -> Result<Built, Box<dyn Error>> {
        let output = root().join("target/peers");
        let peers = root().join("benches/peers");
        fs::create_dir_all(&output)?;
        let rust = |name: &str| {
            let target = output.join(name);
            build_release(&peers.join(name).join("Cargo.toml"), &target)?;
            Ok::<_, Box<dyn Error>>((target.join("release").join(name), vec![]))
        };
        let (program, arguments) = match self {
            Self::Relay | Self::RelayAlone => {
                build_release(&root().join("Cargo.toml"), &root().join("target"))?;
                // Cargo may replace its own file by another build of the same binary. A copy that still runs
                // cannot be written, but replaced.
                let (copy, new) = (output.join("relay"), output.join("relay.new"));
                fs::copy(root().join("target/release/purchasely-clevertap"), &new)?;
                fs::rename(new, &copy)?;
                (copy, vec![])
            }
            Self::Nothing => rust("nothing")?,
            Self::Bare | Self::Limit => rust("bare")?,
            Self::Defaults => rust("defaults")?,
            Self::Node => {
                let folder = output.join("node");
                bundle_for_node(&peers.join("node"), &folder)?;
                (find_program("node")?, vec![folder.join("bundle.mjs")])
            }
            Self::Python => {
                let folder = output.join("python");
                install_python_packages(&peers.join("python"), &folder)?;
                (folder.join("venv/bin/python"), vec![peers.join("python/runtime.py")])
            }
        };
        Ok(Built { contestant: self, program, arguments })
    }
}

impl Built {
    /// The bytes of its binary; `None` where that is not what is deployed, or is another contestant's.
    pub fn binary(&self) -> std::io::Result<Option<Vec<u8>>> {
        use Contestant::{Bare, Defaults, Nothing, Relay};
        let has_own = matches!(self.contestant, Nothing | Bare | Relay | Defaults);
        has_own.then(|| fs::read(&self.program)).transpose()
    }
}

/// The folder of the function's package.
pub fn root() -> &'static Path {
    testkit::process::repository()
}

/// Cargo, without what `cargo bench` sets for this package: that would make build scripts run again.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in env::vars_os() {
        let prefixes = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        let text = name.to_string_lossy();
        if prefixes.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

fn build_release(manifest: &Path, target: &Path) -> Result<(), Box<dyn Error>> {
    let mut command = cargo();
    command.args(["build", "--locked", "--release", "--bins", "--manifest-path"]);
    run(command.arg(manifest).arg("--target-dir").arg(target))
}

/// One file, as a function for Node is deployed.
fn bundle_for_node(source: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let npm = find_program("npm")?;
    fs::create_dir_all(folder)?;
    for file in ["package.json", ".npmrc", "tsconfig.json", "relay.ts", "runtime.ts"] {
        fs::copy(source.join(file), folder.join(file))?;
    }
    let lock = folder.join("package-lock.json");
    install_once(&source.join("package-lock.json"), &folder.join("installed"), || {
        fs::copy(source.join("package-lock.json"), &lock)?;
        let mut command = Command::new(npm);
        command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
        run(command.current_dir(folder))
    })?;
    run(Command::new(folder.join("node_modules/.bin/tsc")).current_dir(folder))?;
    let mut bundle = Command::new(folder.join("node_modules/.bin/esbuild"));
    bundle.args(["runtime.ts", "--bundle", "--minify", "--platform=node", "--format=esm"]);
    bundle.args(["--main-fields=module,main", "--outfile=bundle.mjs", "--log-level=warning"]);
    run(bundle.current_dir(folder))
}

fn install_python_packages(source: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let python = find_program("python3")?;
    fs::create_dir_all(folder)?;
    let requirements = source.join("requirements.txt");
    install_once(&requirements, &folder.join("installed"), || {
        let venv = folder.join("venv");
        run(Command::new(python).args(["-m", "venv"]).arg(&venv))?;
        let mut command = Command::new(venv.join("bin/pip"));
        command.args(["install", "--quiet", "--disable-pip-version-check", "-r"]);
        run(command.arg(&requirements))
    })
}

/// Installs, unless `installed` is a copy of `wanted` from an installation that succeeded.
fn install_once(
    wanted: &Path,
    installed: &Path,
    install: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let content = fs::read(wanted)?;
    if fs::read(installed).is_ok_and(|installed| installed == content) {
        return Ok(());
    }
    install()?;
    Ok(fs::write(installed, content)?)
}

/// The path of a program on the `PATH`.
fn find_program(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let path = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|file| file.is_file());
    Ok(found.ok_or_else(|| {
        format!(
            "{name} is not on the PATH: install it, or leave its peer out: make bench ARGS='--only nothing,relay,defaults'"
        )
    })?)
}

/// Runs a command whose output is progress.
fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if !status.success() {
        return Err(format!("{command:?} failed ({status}); its output is above").into());
    }
    Ok(())
}
