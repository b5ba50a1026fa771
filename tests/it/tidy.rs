//! The invariants of the design that neither the compiler nor clippy (`clippy.toml`) checks.
//! It reads the sources as text; it does not know what they do.

use crate::template::template;
use purchasely_clevertap::aws::secret::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// The files below a folder of the repository with an ending, in order.
pub fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let mut found = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(place) = found.iter().position(|path| path.is_dir()) {
        let entries = std::fs::read_dir(found.swap_remove(place)).unwrap();
        found.extend(entries.map(|entry| entry.unwrap().path()));
    }
    found.retain(|path| path.extension().is_some_and(|extension| extension == ending));
    found.sort();
    assert!(!found.is_empty(), "{folder}");
    found
}

#[track_caller]
fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// A file's text without comments and unit tests.
pub fn code(file: &Path) -> String {
    if file.ends_with("tests.rs") {
        return String::new();
    }
    let text = read(file);
    let code = text.split("#[cfg(test)]").next().unwrap().split_inclusive('\n');
    code.filter(|line| !line.trim_start().starts_with("//")).collect()
}

/// Fails for each file below `src` whose code contains one of the words although `is_allowed` is false for its path.
#[track_caller]
fn only_where(is_allowed: impl Fn(&str) -> bool, words: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files("src", "rs") {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let code = code(&file).to_lowercase();
        let found = words.split(' ').find(|word| !is_allowed(path) && code.contains(word));
        assert_eq!(found, None, "in src/{path}");
    }
}

#[test]
fn the_vendors_do_not_know_each_other() {
    only_where(|path| !path.starts_with("purchasely"), "clevertap mapping");
    only_where(|path| !path.starts_with("clevertap"), "purchasely mapping");
}

#[test]
fn mapping_outcome_and_the_vendors_formats_are_pure() {
    let uploads = ["clevertap/client.rs", "clevertap/uploader.rs"];
    let pure = ["mapping", "purchasely", "clevertap", "outcome.rs"];
    let is_pure =
        |path: &str| pure.iter().any(|pure| path.starts_with(pure)) && !uploads.contains(&path);
    let io = "async .await tokio reqwest std::env std::fs std::io std::net std::thread crate::aws crate::clock crate::http crate::relay";
    only_where(|path| !is_pure(path), io);
}

#[test]
fn only_outcome_decides_a_status() {
    let reads_statuses = ["outcome.rs", "clevertap/response.rs"];
    let statuses = "(200, (401, (405, (413, (503, statuscode";
    only_where(|path| reads_statuses.contains(&path), statuses);
}

#[test]
fn only_the_client_of_clevertap_sends_the_passcode() {
    let client = "clevertap/client.rs";
    only_where(|path| path == client, "clevertap-passcode");
    only_where(|path| [client, "aws/secret.rs"].contains(&path), "expose_secret");
}

/// A crate's modules, each with those that it has or names by `crate::` or `super::`.
fn modules(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = files(folder, "rs");
    let name = |file: &PathBuf| -> String {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        let names = path.iter().map(|name| name.to_str().unwrap());
        let names = names.filter(|name| !["lib", "mod"].contains(name));
        names.map(|name| format!("::{name}")).collect()
    };
    let modules: BTreeSet<_> = files.iter().map(name).collect();
    let parent = |path: &str| path[..path.rfind("::").unwrap_or(0)].to_owned();
    let uses = files.iter().map(|file| {
        let (module, code) = (name(file), code(file));
        let is_between_paths = |c: char| !c.is_alphanumeric() && !"_:".contains(c);
        let named = code.split(is_between_paths).filter_map(|path| {
            let mut target = match path.split_once("::")? {
                ("crate", names) => format!("::{names}"),
                ("super", names) => format!("{}::{names}", parent(&module)),
                _ => return None,
            };
            while !modules.contains(&target) {
                target = parent(&target);
            }
            Some(target)
        });
        let own = modules.iter().filter(|other| !other.is_empty() && parent(other) == module);
        let uses = named.chain(own.cloned()).collect();
        (module, uses)
    });
    uses.collect()
}

#[test]
fn the_modules_of_the_testkit_do_not_import_each_other_in_a_circle() {
    let mut left = modules("testkit/src");
    assert!(left["::simulation"].contains("::simulation::world"));
    let is_free = |left: &BTreeMap<_, BTreeSet<_>>, uses: &BTreeSet<String>| {
        !uses.iter().any(|module| left.contains_key(module))
    };
    while let Some((module, _)) = left.iter().find(|(_, uses)| is_free(&left, uses)) {
        let module = module.clone();
        left.remove(&module);
    }
    assert!(left.is_empty(), "in a circle, or with one below: {left:#?}");
}

/// Resolves only while the type has none of the traits: otherwise the compiler cannot choose a marker.
trait Has<Marker> {
    fn nothing() {}
}
impl<T> Has<()> for T {}
impl<T: Display> Has<u8> for T {}
impl<T: serde::Serialize> Has<u16> for T {}

#[test]
fn a_secret_cannot_be_printed_or_serialized() {
    <Secret as Has<_>>::nothing();
    let text = r#"{ "clevertap_passcode": "hidden-1", "clevertap_sandbox_passcode": "hidden-2",
        "purchasely_shared_secret": "hidden-3", "purchasely_shared_secret_previous": "hidden-4" }"#;
    let secret = Secret::parse(text, true).unwrap();
    assert!(!format!("{secret:?} {secret:#?}").contains("hidden"));
}

#[test]
fn the_stack_says_which_version_it_was_deployed_from() {
    assert_eq!(template()["Outputs"]["Version"]["Value"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn every_file_opens_with_what_it_is() {
    for folder in ["benches", "fuzz", "src", "testkit", "tests", "tools"] {
        for file in files(folder, "rs") {
            assert!(read(&file).starts_with("//! "), "{}", file.display());
        }
    }
}

#[test]
fn each_chosen_python_package_is_locked() {
    let is_package = |line: &&str| line.starts_with(|first: char| first.is_ascii_alphanumeric());
    for file in files("requirements", "in") {
        let locked = read(&file.with_extension("txt"));
        for package in read(&file).lines().filter(is_package) {
            // uv leaves out extras, as in `package[extra]==1.0.0`, because it lists what they bring.
            let (name, version) = package.split_once("==").expect("a version");
            let line = format!("{}=={version} \\", name.split('[').next().unwrap());
            let is_locked = locked.lines().any(|locked| locked == line);
            assert!(is_locked, "{}: {package}: run `make requirements`", file.display());
        }
    }
}

/// Plain `cargo lambda watch` serves the function at `/` only then; `make page` tries it.
#[test]
fn the_workspace_has_one_binary() {
    let cargo = std::process::Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let targets = packages.flat_map(|package| package["targets"].as_array().unwrap());
    let binaries = targets.filter(|target| target["kind"][0] == "bin");
    let names: Vec<_> = binaries.map(|target| &target["name"]).collect();
    assert_eq!(names, ["purchasely-clevertap"]);
}

#[test]
fn the_workflows_use_one_version_of_rust() {
    let versions = files(".github/workflows", "yml").into_iter().map(|file| {
        let text = read(&file);
        let version = text.lines().find_map(|line| line.trim().strip_prefix("RUSTUP_TOOLCHAIN: "));
        version.expect("a version of Rust").to_owned()
    });
    assert_eq!(versions.collect::<BTreeSet<_>>().len(), 1);
}
