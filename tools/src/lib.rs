//! The commands of `cargo relay`, one module each.
//!
//! Each module has `Options`, its command line (`#[derive(clap::Args)]`, examples in `after_help`), and
//! `pub async fn run(options: Options) -> Result<ExitCode, Unusable>`. Exit codes: 0, everything is as it
//! should be; 1, the command ran and found something that is not; 2, it could not run ([`Unusable`]); 130,
//! interrupted. With `--json` standard output has one JSON value per line. Colour and progress are for a
//! terminal only.
//!
//! A command adds itself in three places: here, in `Command` of `examples/relay.rs`, and in `tests/it/main.rs`.

pub mod explain;
mod files;
pub mod replay;
pub mod send;

/// Why a command could not run, one line per problem; exit code 2.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable(pub Vec<String>);

impl From<String> for Unusable {
    fn from(problem: String) -> Self {
        Self(vec![problem])
    }
}
