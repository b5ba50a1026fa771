//! Runs the `relay` tool as people run it.

mod demo;
