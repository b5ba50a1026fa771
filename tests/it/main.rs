//! Runs the real function against strict stand-ins of both vendors, over real sockets.

mod aws;
#[path = "../../examples/sandbox/clevertap.rs"]
mod clevertap;
#[path = "../../examples/sandbox/connections.rs"]
mod connections;
mod runtime_api;
#[path = "../../examples/sandbox/secrets_manager.rs"]
mod secrets_manager;
#[path = "../../examples/sandbox/watch.rs"]
mod watch;
#[path = "../../examples/send/webhook.rs"]
mod webhook;
mod world;

mod data;
mod deploy;
mod doctor;
mod documents;
mod door;
mod explain;
mod fit;
mod golden;
mod kept;
mod local_run;
mod monitoring;
mod replay;
mod samples;
mod secret;
mod start;
mod template;
mod tidy;
mod tls;
mod upload;
