//! Where the programs of this workspace and its tools are, and small needs of those who start them.

use std::path::{Path, PathBuf};
use tokio::net::TcpListener;

/// The root of the workspace.
pub fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A program that cargo built beside this test: `purchasely-clevertap` or `examples/relay`.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this process");
    let profile = test
        .ancestors()
        .find(|folder| folder.join(".fingerprint").exists());
    let path = profile.expect("a test run by cargo").join(name);
    assert!(
        path.exists(),
        "{} is missing: run `cargo test --workspace`",
        path.display()
    );
    path
}

/// A tool that `make` installs. There is no test without it.
pub fn tool(variable: &str, name: &str) -> PathBuf {
    let installed = repository().join(".tools/venv/bin").join(name);
    let path = std::env::var_os(variable).map_or(installed, PathBuf::from);
    assert!(
        path.exists(),
        "{} is missing: `make tools` installs it",
        path.display()
    );
    path
}

pub fn plain_client() -> reqwest::Client {
    crate::webhook::http_client().unwrap().build().unwrap()
}

pub async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}
