//! Runs the real function against strict stand-ins of both vendors, over real sockets.

mod data;
mod door;
mod fit;
mod golden;
mod kept;
mod local_run;
mod monitoring;
mod permissions;
mod samples;
mod secret;
mod start;
mod template;
mod tidy;
mod tls;
mod upload;
