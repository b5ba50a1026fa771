//! Runs the `relay` tool as people run it.

mod demo;
mod dev;
mod digest;
mod doctor;
mod explain;
mod page;
mod replay;
mod simulate;
mod tool;
