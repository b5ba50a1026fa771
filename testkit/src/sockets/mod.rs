//! The services of [`crate::world`] on TCP ports, with what only sockets can do: latency, resets, bodies cut short.
//! It does not know what a service answers.

pub mod resources;
pub mod server;
pub mod servers;
pub mod tls;

pub use server::{Latency, Listener, Server, listen};
