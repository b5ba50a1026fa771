//! Runs the `relay` tool as people run it. It takes Rust alone.

mod demo;
mod digest;
mod explain;
mod simulate;
