//! Runs those commands of the `relay` tool that use AWS: against an emulator, and with the real AWS CLI.

mod deployed;
mod doctor;
mod find;
mod replay;
mod secret;
