//! Runs the real function against strict stand-ins of both vendors, over real sockets.

mod data;
mod documents;
mod door;
mod fit;
mod golden;
mod kept;
mod local_run;
mod samples;
mod secret;
mod stack;
mod start;
mod template;
mod tidy;
mod tls;
mod upload;
