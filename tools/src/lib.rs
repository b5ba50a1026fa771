//! The commands of `cargo relay`, one module each.
//!
//! Each module has `Options`, its command line, and `run`. A command prints for people, or JSON with
//! `--json`, and ends with the exit codes that `examples/relay.rs` documents.

pub mod doctor;

/// Why a command could not run, one line per problem; exit code 2.
#[derive(Debug, PartialEq, Eq)]
pub struct Unusable(pub Vec<String>);
