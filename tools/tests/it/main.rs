//! Runs the `relay` tool as people run it.

mod demo;
mod explain;
mod replay;
mod tool;
