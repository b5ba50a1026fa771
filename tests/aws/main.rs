//! Runs the function's code, and the function, against an emulator of AWS, over real sockets: what it asks of DynamoDB,
//! SQS, Secrets Manager and IAM is what they take. `make aws` installs the emulator and runs these tests; plain
//! `cargo test` does not.

mod contract;
mod permissions;
#[path = "../it/template.rs"]
mod template;
