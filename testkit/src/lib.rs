//! What stands in for the world: Lambda's Runtime API, CleverTap, the services of AWS, and where and when they are reached.
//!
//! Tests, tools and benches share it. It asserts nothing about the function; a stand-in only refuses
//! what the service it stands for documents as wrong.

pub mod cargo_lambda;
pub mod emulator;
pub mod harness;
pub mod in_memory;
pub mod lambda;
pub mod messages;
pub mod process;
pub mod records;
pub mod simulation;
pub mod sockets;
pub mod template;
pub mod tool;
pub mod webhook;
pub mod world;

pub use hyper;
