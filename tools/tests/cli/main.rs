//! Runs those commands of the `relay` tool that use AWS: against an emulator, and with the real AWS CLI.

mod doctor;
mod replay;
