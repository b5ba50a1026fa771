//! Runs the `relay` tool as people run it.

mod explain;
mod replay;
mod tool;
