//! Who is measured, and how each is built: the function itself and its peers in `benches/peers`.
//! It does not know what is measured.

use crate::process::Start;
use crate::services::{ACCOUNT_ID, SECRET_ID, Services};
use clap::ValueEnum;
use serde::Serialize;
use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One program under measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Contestant {
    /// A `lambda_http` function that does nothing: the floor.
    Nothing,
    /// This function, no table and no queues configured.
    Relay,
    /// This function with its claims table.
    RelayWithTable,
    /// A plain relay in Rust, every crate at its default features.
    Defaults,
    /// A plain relay for Node, with the AWS SDK v3 and fetch.
    Node,
    /// A plain relay for Python 3, with boto3 and its urllib3.
    Python,
}

/// A contestant, ready to be started.
#[derive(Debug)]
pub struct Built {
    pub contestant: Contestant,
    program: PathBuf,
    arguments: Vec<PathBuf>,
    log: PathBuf,
}

impl Contestant {
    /// Its name in tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Nothing => "does nothing (lambda_http)",
            Self::Relay => "**this function**",
            Self::RelayWithTable => "this function, with its table",
            Self::Defaults => "plain relay, Rust, default features",
            Self::Node => "plain relay, Node",
            Self::Python => "plain relay, Python",
        }
    }

    /// Its name in the plot.
    pub fn short_title(self) -> &'static str {
        match self {
            Self::Nothing => "does nothing",
            Self::Relay => "this function",
            Self::RelayWithTable => "with its table",
            Self::Defaults => "default features",
            Self::Node => "Node",
            Self::Python => "Python",
        }
    }

    /// Whether it relays what it is sent.
    pub fn relays(self) -> bool {
        self != Self::Nothing
    }

    /// Whether its binary is all that is deployed.
    pub fn is_one_binary(self) -> bool {
        !matches!(self, Self::Node | Self::Python)
    }

    /// Builds it below `target/peers`; what has not changed is not built again.
    pub fn build(self) -> Result<Built, Box<dyn Error>> {
        let root = root();
        let built_below = root.join("target/peers");
        let peers = root.join("benches/peers");
        fs::create_dir_all(&built_below)?;
        let log = built_below.join(format!("{self:?}.log").to_lowercase());
        let (program, arguments) = match self {
            Self::Relay | Self::RelayWithTable => {
                let target = root.join("target");
                cargo(
                    &["build", "--release", "--bins"],
                    &root.join("Cargo.toml"),
                    &target,
                )?;
                // Cargo may put another build of the same binary in its place.
                let kept = built_below.join("relay");
                fs::copy(root.join("target/release/purchasely-clevertap"), &kept)?;
                (kept, vec![])
            }
            Self::Nothing | Self::Defaults => {
                let name = format!("{self:?}").to_lowercase();
                let target = built_below.join(&name);
                let manifest = peers.join(&name).join("Cargo.toml");
                cargo(&["build", "--release", "--bins"], &manifest, &target)?;
                (target.join("release").join(name), vec![])
            }
            Self::Node => {
                let folder = built_below.join("node");
                install_node_packages(&peers.join("node"), &folder)?;
                (found("node")?, vec![folder.join("runtime.mjs")])
            }
            Self::Python => {
                let folder = built_below.join("python");
                install_python_packages(&peers.join("python"), &folder)?;
                (
                    folder.join("venv/bin/python"),
                    vec![peers.join("python/runtime.py")],
                )
            }
        };
        Ok(Built {
            contestant: self,
            program,
            arguments,
            log,
        })
    }
}

/// Builds the program that callgrind watches, and says where it is.
pub fn build_instructions() -> Result<PathBuf, Box<dyn Error>> {
    let target = root().join("target");
    let arguments = ["bench", "--no-run", "--quiet", "--bench", "instructions"];
    let manifest = root().join("benches/Cargo.toml");
    cargo(&arguments, &manifest, &target)?;
    let built = fs::read_dir(target.join("release/deps"))?.flatten();
    // Cargo leaves earlier builds beside the last one.
    let latest = built
        .filter(|file| {
            let path = file.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("instructions-") && path.extension().is_none()
        })
        .max_by_key(|file| file.metadata().and_then(|about| about.modified()).ok());
    Ok(latest.ok_or("cargo built no program")?.path())
}

/// The function's package.
pub fn root() -> &'static Path {
    let benches = Path::new(env!("CARGO_MANIFEST_DIR"));
    benches.parent().unwrap_or(benches)
}

impl Built {
    /// How to start it: nothing is in its environment but Lambda's own variables and its settings.
    pub fn start(
        &self,
        runtime_api: String,
        services: &Services,
        authority_file: &Path,
    ) -> Result<Start, Box<dyn Error>> {
        let authority = authority_file.to_str().ok_or("a path that is not UTF-8")?;
        let mut variables = vec![
            ("AWS_LAMBDA_FUNCTION_NAME", "relay".to_owned()),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "128".to_owned()),
            ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
            ("AWS_LAMBDA_RUNTIME_API", runtime_api),
            ("AWS_REGION", "eu-west-1".to_owned()),
            ("AWS_DEFAULT_REGION", "eu-west-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "not-a-secret".to_owned()),
            (
                "AWS_ENDPOINT_URL_SECRETS_MANAGER",
                services.secrets_manager_url(),
            ),
            ("CLEVERTAP_ACCOUNT_ID", ACCOUNT_ID.to_owned()),
            ("CLEVERTAP_API_URL", services.clevertap_url()),
            ("CLEVERTAP_REGION", "in1".to_owned()),
            ("SECRET_ID", SECRET_ID.to_owned()),
            ("PATH", env::var("PATH").unwrap_or_default()),
            // Whom to trust, in each one's own words.
            ("SSL_CERT_FILE", authority.to_owned()),
            ("NODE_EXTRA_CA_CERTS", authority.to_owned()),
            ("AWS_CA_BUNDLE", authority.to_owned()),
        ];
        if self.contestant == Contestant::RelayWithTable {
            variables.push(("DEDUPLICATION_TABLE", "claims".to_owned()));
            variables.push(("AWS_ENDPOINT_URL_DYNAMODB", services.dynamodb_url()));
        }
        Ok(Start {
            program: self.program.clone(),
            arguments: self.arguments.clone(),
            variables,
            log: self.log.clone(),
        })
    }

    /// The bytes of its binary, if that is what is deployed.
    pub fn binary(&self) -> std::io::Result<Option<Vec<u8>>> {
        let deployed = self.contestant.is_one_binary();
        deployed.then(|| fs::read(&self.program)).transpose()
    }

    /// What it wrote last, for when it fails.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

fn cargo(arguments: &[&str], manifest: &Path, target: &Path) -> Result<(), Box<dyn Error>> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    // What `cargo bench` says of this package would make build scripts run again.
    for (name, _) in env::vars_os() {
        let of_this = [
            "CARGO_PKG_",
            "CARGO_MANIFEST_",
            "CARGO_CRATE_",
            "CARGO_PRIMARY_",
        ];
        if name
            .to_str()
            .is_some_and(|name| of_this.iter().any(|prefix| name.starts_with(prefix)))
        {
            command.env_remove(name);
        }
    }
    run(command
        .args(arguments)
        .arg("--locked")
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(target))
}

/// Copies the peer and installs what its lock file says.
fn install_node_packages(source: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    found("node")?;
    fs::create_dir_all(folder)?;
    for file in ["package.json", ".npmrc", "relay.mjs", "runtime.mjs"] {
        fs::copy(source.join(file), folder.join(file))?;
    }
    let lock = source.join("package-lock.json");
    once_for(&lock, &folder.join("package-lock.json"), || {
        fs::copy(&lock, folder.join("package-lock.json"))?;
        run(Command::new(found("npm")?)
            .args(["ci", "--omit=dev", "--no-audit", "--no-fund"])
            .current_dir(folder))
    })
}

/// Makes a virtual environment and installs what the requirements say.
fn install_python_packages(source: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let python = found("python3")?;
    let requirements = source.join("requirements.txt");
    once_for(&requirements, &folder.join("requirements.txt"), || {
        let venv = folder.join("venv");
        run(Command::new(python).args(["-m", "venv"]).arg(&venv))?;
        run(Command::new(venv.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&requirements))
    })
}

/// Does it unless it was done for the same content of `wanted`, which `installed` then holds.
fn once_for(
    wanted: &Path,
    installed: &Path,
    install: impl FnOnce() -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let content = fs::read(wanted)?;
    if fs::read(installed).is_ok_and(|done| done == content) {
        return Ok(());
    }
    let begun = install();
    if begun.is_err() {
        // Half an installation must not pass for a whole one.
        let _ = fs::remove_file(installed);
        return begun;
    }
    fs::write(installed, content)?;
    Ok(())
}

/// A program on the path.
fn found(program: &str) -> Result<PathBuf, Box<dyn Error>> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            format!(
                "{program} is not on the PATH: install it, or leave its peer out: make bench ARGS='--only nothing,relay,defaults'"
            )
            .into()
        })
}

/// Runs a command whose output is progress, not a result.
fn run(command: &mut Command) -> Result<(), Box<dyn Error>> {
    let name = Path::new(command.get_program()).file_name();
    let name = name.map(OsStr::to_string_lossy).unwrap_or_default();
    let what = format!("{name} {:?}", command.get_args().collect::<Vec<_>>());
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(|error| format!("{what} cannot be started: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{what} failed ({status}); its output is above").into())
    }
}
