//! The programs that are measured, and how each is built: the function and its peers in `benches/peers`.
//! It does not know what is measured.

use clap::ValueEnum;
use std::env;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One file, as a function for Node is deployed.
const BUILD_NODE: &str = "cp $SOURCE/.npmrc $SOURCE/* .
cmp -s package-lock.json installed ||
    { npm ci --ignore-scripts --no-audit --no-fund; cp package-lock.json installed; }
npm run --silent build";
const BUILD_PYTHON: &str = "cmp -s $SOURCE/requirements.txt installed && exit
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check -r $SOURCE/requirements.txt
cp $SOURCE/requirements.txt installed";

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
            Self::Limit => ("the limit", "the limit"),
            Self::Relay => ("**this function**", "this function"),
            Self::RelayAlone => ("this function, without table and queues", "without table"),
            Self::Defaults => ("Rust, default features", "Rust, defaults"),
            Self::Node => ("Node, Powertools", "Node, Powertools"),
            Self::Python => ("Python, Powertools", "Python, Powertools"),
        }
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
        let peer = |name: &str| root().join("benches/peers").join(name);
        let output = |name: &str| root().join("target/peers").join(name);
        let rust = |name: &str| -> Result<_, Box<dyn Error>> {
            build_release(&peer(name).join("Cargo.toml"), &output(name))?;
            Ok((output(name).join("release").join(name), vec![]))
        };
        let script = |name: &str, script| -> Result<PathBuf, Box<dyn Error>> {
            fs::create_dir_all(output(name))?;
            let mut command = Command::new("sh");
            command.args(["-euc", script]).env("SOURCE", peer(name));
            run(command.current_dir(output(name)))?;
            Ok(output(name))
        };
        let (program, arguments) = match self {
            Self::Relay | Self::RelayAlone => {
                build_release(&root().join("Cargo.toml"), &root().join("target"))?;
                // Cargo may replace its own file by another build of the same binary. A copy that still runs
                // cannot be written, but replaced.
                fs::create_dir_all(output(""))?;
                let (copy, new) = (output("relay"), output("relay.new"));
                fs::copy(root().join("target/release/purchasely-clevertap"), &new)?;
                fs::rename(new, &copy)?;
                (copy, vec![])
            }
            Self::Nothing => rust("nothing")?,
            Self::Bare | Self::Limit => rust("bare")?,
            Self::Defaults => rust("defaults")?,
            Self::Node => ("node".into(), vec![script("node", BUILD_NODE)?.join("bundle.mjs")]),
            Self::Python => {
                let program = script("python", BUILD_PYTHON)?.join("venv/bin/python");
                (program, vec![peer("python").join("runtime.py")])
            }
        };
        Ok(Built { contestant: self, program, arguments })
    }
}

impl Built {
    /// The bytes of its binary; `None` where that is not what is deployed, or is another contestant's.
    pub fn binary(&self) -> std::io::Result<Option<Vec<u8>>> {
        use Contestant::{Defaults, Limit, Nothing, Relay};
        let has_own = matches!(self.contestant, Nothing | Limit | Relay | Defaults);
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

/// Runs a command whose output is progress.
fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let status = command.stdin(Stdio::null()).stdout(std::io::stderr()).status();
    match status.map_err(|error| format!("cannot start {command:?}: {error}"))? {
        status if status.success() => Ok(()),
        status => Err(format!(
            "{command:?} failed ({status}); its output is above. `--only` leaves a peer out"
        )
        .into()),
    }
}
