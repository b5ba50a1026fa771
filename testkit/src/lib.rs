//! What stands in for the world: Lambda's Runtime API, CleverTap, Secrets Manager, certificates, processes.
//!
//! Tests, tools and benches share it. It asserts nothing about the function; a stand-in only refuses
//! what the service it stands for documents as wrong.

pub mod aws_front;
pub mod cargo_lambda;
pub mod clevertap;
pub mod connections;
pub mod dynamodb;
pub mod emulator;
pub mod event_source;
pub mod harness;
pub mod lambda;
pub mod messages;
pub mod process;
pub mod records;
pub mod resources;
pub mod secrets_manager;
pub mod servers;
pub mod simulation;
pub mod sqs;
pub mod tls;
pub mod tool;
pub mod webhook;

pub use hyper;
