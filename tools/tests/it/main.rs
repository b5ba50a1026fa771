//! Runs the `relay` tool as people run it. It takes Rust alone.

mod deploy;
mod dev;
mod digest;
mod explain;
mod send;
mod simulate;
