//! The services that the function talks to, in memory: request in, answer out, on the function's clock.
//! They do not know how a request arrives: over a socket ([`crate::sockets`]), or through the function's HTTP interface
//! ([`crate::in_memory`], [`crate::simulation`]).

pub mod aws;
pub mod backend;
pub mod claims;
pub mod clevertap;
pub mod faulty;
pub mod queues;
pub mod secrets_manager;
pub mod service;

pub use service::{Ending, Service, operation};
