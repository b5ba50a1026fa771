//! Runs the function's code against an emulator of AWS, over real sockets: what it asks of DynamoDB, SQS and
//! Secrets Manager is what they take. `make aws` installs the emulator and runs these tests; plain `cargo test` does not.

mod contract;
