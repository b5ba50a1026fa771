//! Runs the real function against an emulator of AWS, over real sockets: what it asks of DynamoDB, SQS and IAM is what
//! they take. `make emulator` installs the emulator and runs these tests; plain `cargo test` does not.

mod claims;
mod dead_letters;
mod permissions;
#[path = "../it/template.rs"]
mod template;
