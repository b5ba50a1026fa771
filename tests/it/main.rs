//! Runs the real function against strict stand-ins of both vendors and of AWS, over real sockets. It takes Rust alone.
//! It does not measure how fast the function is; `make bench` does.

mod claims;
mod connections;
mod dead_letters;
mod documents;
mod envelopes;
mod golden;
mod http;
mod logs;
mod mapping;
mod monitoring;
mod odd_answers;
mod queue;
mod records;
mod samples;
mod secret;
mod sqs;
mod stack;
mod start;
mod template;
mod tidy;
mod tls;
mod uploads;
