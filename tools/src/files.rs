//! Lists the input files of commands. It does not know what is in them.

use std::io;
use std::path::{Path, PathBuf};

/// The `.json` files of a folder, sorted by name; subfolders are not searched.
pub fn json_files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_json = path.extension().is_some_and(|extension| extension == "json");
        if is_json && path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
