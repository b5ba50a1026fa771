//! Runs the real function against an emulator of AWS, over real sockets: what it asks of IAM is what it takes.
//! `make emulator` installs the emulator and runs these tests; plain `cargo test` does not.

mod permissions;
#[path = "../it/template.rs"]
mod template;
