//! The invariants of the design that neither the compiler nor clippy (`clippy.toml`) checks.
//! It reads the sources as text; it does not know what they do.

use crate::template::template;
use purchasely_clevertap::aws::secret::Secret;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// The Rust files below a folder of the repository, in order.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    assert!(!files.is_empty(), "{folder}");
    files
}

/// A file's lines without comments and unit tests.
fn code(file: &Path) -> Vec<String> {
    if file.ends_with("tests.rs") {
        return Vec::new();
    }
    let text = read(file);
    let code = text.split("#[cfg(test)]").next().unwrap();
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    code.lines().filter(is_code).map(str::to_owned).collect()
}

/// Fails for each file below `src` whose code, without comments and unit tests, contains one of the words although
/// `is_allowed` is false for its path.
#[track_caller]
fn only_where(is_allowed: impl Fn(&str) -> bool, words: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for file in files("src") {
        let path = file.strip_prefix(&root).unwrap().to_str().unwrap();
        let code = code(&file);
        for word in words {
            let is_fine =
                is_allowed(path) || !code.iter().any(|line| line.to_lowercase().contains(word));
            assert!(is_fine, "src/{path} contains `{word}`");
        }
    }
}

#[test]
fn the_vendors_do_not_know_each_other() {
    only_where(|path| !path.starts_with("purchasely"), &["clevertap", "mapping"]);
    only_where(|path| !path.starts_with("clevertap"), &["purchasely", "mapping"]);
}

#[test]
fn mapping_outcome_and_the_vendors_formats_are_pure() {
    let uploads = ["clevertap/client.rs", "clevertap/uploader.rs"];
    let is_pure = |path: &str| {
        let pure = ["mapping", "purchasely", "clevertap", "outcome.rs"];
        pure.iter().any(|pure| path.starts_with(pure)) && !uploads.contains(&path)
    };
    let io = "async .await tokio reqwest std::env std::fs std::io std::net std::thread \
        crate::aws crate::clock crate::http crate::relay";
    let io: Vec<_> = io.split_whitespace().collect();
    only_where(|path| !is_pure(path), &io);
}

#[test]
fn only_outcome_decides_a_status() {
    let reads_statuses = ["outcome.rs", "clevertap/response.rs"];
    let statuses = ["(200,", "(401,", "(405,", "(413,", "(503,", "statuscode"];
    only_where(|path| reads_statuses.contains(&path), &statuses);
}

#[test]
fn only_the_client_of_clevertap_sends_the_passcode() {
    let client = "clevertap/client.rs";
    only_where(|path| path == client, &["clevertap-passcode"]);
    let reads = [client, "aws/secret.rs"];
    only_where(|path| reads.contains(&path), &["expose_secret"]);
}

/// The names on the way to a module from the root of its crate.
type Module = Vec<String>;

/// A crate's modules, each with those that it has or names by `crate::` or `super::` outside comments and unit tests.
fn modules(folder: &str) -> BTreeMap<Module, Vec<Module>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let module_in = |file: &PathBuf| {
        let path = file.strip_prefix(&root).unwrap().with_extension("");
        let names = path.iter().map(|name| name.to_str().unwrap().to_owned());
        names.filter(|name| !["lib", "mod"].contains(&&**name)).collect()
    };
    let files = files(folder);
    let modules: BTreeSet<Module> = files.iter().map(module_in).collect();
    let named_in = |module: &Module, path: &str| {
        let (start, names) = path.split_once("::")?;
        let mut target = match start {
            "crate" => Module::new(),
            "super" => module[..module.len() - 1].to_vec(),
            _ => return None,
        };
        for name in names.split("::") {
            target.push(name.to_owned());
            if !modules.contains(&target) {
                target.pop();
                break;
            }
        }
        Some(target)
    };
    let uses = files.iter().map(|file| {
        let module = module_in(file);
        let is_child = |other: &&Module| other.split_last().is_some_and(|(_, of)| *of == *module);
        let mut uses: Vec<_> = modules.iter().filter(is_child).cloned().collect();
        let is_between_paths = |c: char| !c.is_alphanumeric() && !"_:".contains(c);
        let code = code(file);
        let paths = code.iter().flat_map(|line| line.split(is_between_paths));
        uses.extend(paths.filter_map(|path| named_in(&module, path)));
        (module, uses)
    });
    uses.collect()
}

/// The first circle that the last module of a path leads to.
fn circle<'m>(
    modules: &'m BTreeMap<Module, Vec<Module>>,
    path: &mut Vec<&'m Module>,
    seen: &mut BTreeSet<&'m Module>,
) -> Option<String> {
    for next in &modules[*path.last().expect("a path begins somewhere")] {
        if let Some(start) = path.iter().position(|module| *module == next) {
            let names = path[start..].iter().map(|module| module.join("::"));
            return Some(names.collect::<Vec<_>>().join(" -> "));
        }
        if seen.insert(next) {
            path.push(next);
            let found = circle(modules, path, seen);
            if found.is_some() {
                return found;
            }
            path.pop();
        }
    }
    None
}

#[test]
fn the_modules_of_the_testkit_do_not_import_each_other_in_a_circle() {
    let modules = modules("testkit/src");
    assert!(modules.contains_key(&["simulation", "world"].map(str::to_owned)[..]));
    assert_eq!(circle(&modules, &mut vec![&Module::new()], &mut BTreeSet::new()), None);
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
        for file in files(folder) {
            let text = std::fs::read_to_string(&file).unwrap();
            assert!(text.starts_with("//! "), "{}", file.display());
        }
    }
}

#[track_caller]
fn read(file: &Path) -> String {
    std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

/// The files of a folder with an extension.
fn with_extension(folder: &str, extension: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| path.extension().is_some_and(|found| found == extension))
        .collect()
}

#[test]
fn each_chosen_python_package_is_locked() {
    let is_package = |line: &&str| line.starts_with(|first: char| first.is_ascii_alphanumeric());
    for file in with_extension("requirements", "in") {
        let locked = read(&file.with_extension("txt"));
        for package in read(&file).lines().filter(is_package) {
            // uv leaves out extras, as in `package[extra]==1.0.0`, because it lists what they bring.
            let (name, version) = package.split_once("==").expect("a version");
            let name = name.split('[').next().unwrap();
            let is_locked = locked.lines().any(|line| line == format!("{name}=={version} \\"));
            assert!(is_locked, "{}: {package}: run `make requirements`", file.display());
        }
    }
}

/// Plain `cargo lambda watch` serves the function at `/` only then; `make watch` tries it.
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
    let workflows = with_extension(".github/workflows", "yml");
    let version = |file: &PathBuf| {
        let text = read(file);
        let (_, rest) = text.split_once("RUSTUP_TOOLCHAIN: ").expect("a version of Rust");
        rest.lines().next().unwrap().to_owned()
    };
    assert!(workflows.iter().all(|file| version(file) == version(&workflows[0])));
}
