//! The invariants of the design that a compiler does not hold.

use std::path::{Path, PathBuf};

/// One source file: its path below `src/`, and its code without comments and unit tests.
struct Source {
    path: String,
    code: String,
}

fn sources() -> Vec<Source> {
    fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, into);
            } else {
                into.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let tested = text.split("#[cfg(test)]").next().unwrap();
        let code: Vec<_> = tested
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
            .collect();
        Source {
            path: path.strip_prefix(&root).unwrap().display().to_string(),
            code: code.join("\n"),
        }
    };
    let sources: Vec<_> = paths.iter().map(read).collect();
    assert!(sources.len() > 15, "the sources were found");
    sources
}

/// Fails for each file outside `allowed` (path prefixes) whose code holds one of the words.
#[track_caller]
fn only_in(allowed: &[&str], words: &[&str]) {
    for Source { path, code } in sources() {
        if allowed.iter().any(|prefix| path.starts_with(prefix)) {
            continue;
        }
        for word in words {
            assert!(!code.contains(word), "{path} holds `{word}`");
        }
    }
}

#[track_caller]
fn never_in(prefix: &str, words: &[&str]) {
    for Source { path, code } in sources() {
        for word in words {
            let held = path.starts_with(prefix) && code.contains(word);
            assert!(!held, "{path} holds `{word}`");
        }
    }
}

#[test]
fn the_vendors_do_not_know_each_other() {
    never_in("purchasely/", &["clevertap", "mapping"]);
    never_in("clevertap/", &["purchasely", "mapping"]);
    only_in(
        &[
            "mapping/",
            "relay.rs",
            "handler.rs",
            "config",
            "outcome.rs",
            "main.rs",
            "lib.rs",
        ],
        &["crate::purchasely"],
    );
}

#[test]
fn only_the_edge_waits() {
    let edge = [
        "handler.rs",
        "relay",
        "clevertap/client.rs",
        "aws/",
        "main.rs",
    ];
    only_in(&edge, &["async ", ".await"]);
    // The ids of an invocation are local to its task.
    only_in(
        &[&edge[..], &["telemetry/diagnostics.rs"]].concat(),
        &["tokio::"],
    );
    // Writing the line is the one output beside these.
    only_in(
        &[&edge[..], &["telemetry.rs"]].concat(),
        &["std::net::Tcp", "std::fs", "std::io"],
    );
}

#[test]
fn only_config_reads_the_environment() {
    only_in(&["config.rs"], &["env::var", "env::vars"]);
}

#[test]
fn only_outcome_decides_a_status() {
    only_in(
        &["outcome.rs", "clevertap/answer.rs"],
        &["(200,", "(401,", "(503,", "StatusCode"],
    );
}

#[test]
fn a_secret_is_a_type_that_does_not_show_itself() {
    only_in(
        &["aws/secret.rs", "clevertap/client.rs"],
        &["expose_secret"],
    );
    let secret = sources()
        .into_iter()
        .find(|source| source.path == "aws/secret.rs")
        .unwrap();
    assert!(secret.code.contains("pub clevertap_passcode: SecretString"));
    assert!(secret.code.contains("shared_secrets: Vec<SecretString>"));
}

#[test]
fn redirects_are_off_and_only_the_client_sends_the_passcode() {
    let main = sources()
        .into_iter()
        .find(|source| source.path == "main.rs")
        .unwrap();
    assert_eq!(main.code.matches("reqwest::Client::builder()").count(), 1);
    assert!(
        main.code
            .contains(".redirect(reqwest::redirect::Policy::none())")
    );
    only_in(&["main.rs"], &["Client::builder()"]);
    only_in(&["clevertap/client.rs"], &["X-CleverTap-Passcode"]);
}

#[test]
fn every_file_says_what_it_is_and_what_it_does_not_know() {
    for entry in walk(&["benches", "src", "examples", "tests"]) {
        let text = std::fs::read_to_string(&entry).unwrap();
        let doc: Vec<_> = text
            .lines()
            .take_while(|line| line.starts_with("//!"))
            .collect();
        assert!(
            !doc.is_empty(),
            "{} opens without a sentence",
            entry.display()
        );
    }
}

fn walk(folders: &[&str]) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<_> = folders.iter().map(|folder| root.join(folder)).collect();
    let mut files = Vec::new();
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
