//! Runs the `relay` tool as people run it. It takes Rust alone.

mod deploy;
mod dev;
mod explain;
mod find;
mod send;
mod simulate;
