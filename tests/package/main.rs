//! The zip that `make package` builds: what Lambda requires of it, its size, a webhook and a panic in its binary.
//! It does not know how the zip is built.

use flate2::bufread::DeflateDecoder;
use object::Endianness;
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64};
use object::read::elf::FileHeader;
use rawzip::ZipArchive;
use std::io::Read;
use std::path::PathBuf;

/// A tenth above the sizes when this was set (7.2 and 3.2 MB). Each megabyte costs a cold start some milliseconds. If a
/// change is worth more than that, raise both.
const MAX_BINARY_BYTES: usize = 7_900_000;
const MAX_ZIP_BYTES: u64 = 3_600_000;

/// The version of the C library of provided.al2023.
const GLIBC: (u32, u32) = (2, 34);

fn path() -> PathBuf {
    let path = std::env::var_os("PACKAGE").map(PathBuf::from);
    path.filter(|path| path.is_file())
        .expect("PACKAGE is not the path of a zip: run `make packaged`, which builds one and runs these tests")
}

/// The name, the Unix mode and the checked content of each entry.
fn entries() -> Vec<(String, u32, Vec<u8>)> {
    let zip = std::fs::read(path()).unwrap();
    let archive = ZipArchive::from_slice(&zip).expect("a zip");
    let mut found = Vec::new();
    let mut entries = archive.entries();
    while let Some(entry) = entries.next_entry().expect("a directory") {
        let name = entry.file_path().try_normalize().expect("a name").as_ref().to_owned();
        let packed = archive.get_entry(entry.wayfinder()).expect("an entry");
        let mut content = Vec::new();
        let inflated = DeflateDecoder::new(packed.data());
        packed
            .verifying_reader(inflated)
            .read_to_end(&mut content)
            .expect("its content");
        found.push((name, entry.mode().value(), content));
    }
    found
}

fn binary() -> Vec<u8> {
    entries().pop().expect("an entry").2
}

#[test]
fn it_contains_one_executable_bootstrap_and_nothing_else() {
    let entries: Vec<_> = entries().into_iter().map(|(name, mode, _)| (name, mode)).collect();
    assert_eq!(entries, [("bootstrap".to_owned(), 0o100_755)]);
}

#[test]
fn it_is_not_too_large() {
    let binary = binary().len();
    let zip = path().metadata().unwrap().len();
    assert!(
        binary <= MAX_BINARY_BYTES && zip <= MAX_ZIP_BYTES,
        "the binary has {binary} bytes of {MAX_BINARY_BYTES}, the zip {zip} of {MAX_ZIP_BYTES}: \
         `cargo bloat --release` shows what takes them"
    );
}

#[test]
fn it_is_for_the_architecture_in_its_name_and_needs_no_newer_c_library_than_lambdas() {
    let binary = &binary()[..];
    let header = FileHeader64::<Endianness>::parse(binary).expect("an ELF file");
    let endian = header.endian().unwrap();
    let name = path().file_stem().unwrap().to_str().unwrap().to_owned();
    let expected = match name.strip_prefix("purchasely-clevertap-") {
        Some("arm64") => EM_AARCH64,
        Some("x86_64") => EM_X86_64,
        other => panic!("{other:?} is not an architecture of Lambda"),
    };
    assert_eq!(header.e_machine(endian), expected);

    let sections = header.sections(endian, binary).unwrap();
    let needs = sections.gnu_verneed(endian, binary).unwrap();
    let (mut needs, link) = needs.expect("versions of the C library");
    let strings = sections.strings(endian, binary, link).unwrap();
    let mut needed = Vec::new();
    while let Some((_, mut versions)) = needs.next().unwrap() {
        while let Some(version) = versions.next().unwrap() {
            let name = String::from_utf8_lossy(version.name(endian, strings).unwrap());
            if let Some((major, minor)) =
                name.strip_prefix("GLIBC_").and_then(|number| number.split_once('.'))
            {
                let minor = minor.split('.').next().unwrap();
                needed.push((major.parse().unwrap(), minor.parse().unwrap()));
            }
        }
    }
    let newest: (u32, u32) = needed.into_iter().max().expect("a version of glibc");
    assert!(newest <= GLIBC, "it needs glibc {newest:?}");
}

/// Other systems cannot start a program for Linux.
#[cfg(target_os = "linux")]
mod running {
    use super::binary;
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    use tempfile::TempDir;
    use testkit::harness::{
        PASSCODE, SECRET_ID, SHARED_SECRET, World, body, relayed, secret_value, signed,
    };
    use testkit::webhook::Front;
    use testkit::world::secrets_manager::SecretsManager;

    async fn start(settings: &[(&str, &str)]) -> (World, TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let bootstrap = folder.path().join("bootstrap");
        let mut options = std::fs::File::options();
        let options = options.write(true).create_new(true).mode(0o755);
        let mut file = options.open(&bootstrap).unwrap();
        file.write_all(&binary()).unwrap();
        drop(file);
        let secret = secret_value(PASSCODE, SHARED_SECRET);
        let secrets_manager = SecretsManager::new(SECRET_ID, &secret);
        let world = World::start_binary(&bootstrap, secrets_manager, settings).await;
        (world, folder)
    }

    #[tokio::test]
    async fn it_relays_a_webhook() {
        let (world, _folder) = start(&[]).await;
        assert_eq!(world.post(&body()).await, relayed());
        assert_eq!(world.clevertap.accepted().len(), 2);
    }

    /// The name `localhost` is resolved on a thread of its own. The standard library makes its stack as large as
    /// `RUST_MIN_STACK` says, no system has room for this one, and tokio panics without the thread.
    #[tokio::test]
    async fn it_answers_503_to_a_panic_and_goes_on() {
        let (world, _folder) = start(&[
            ("DEDUPLICATION_TABLE", "claims"),
            ("AWS_ENDPOINT_URL_DYNAMODB", "http://localhost:9"),
            ("RUST_MIN_STACK", "1000000000000000"),
        ])
        .await;
        for _ in 0..2 {
            // Had the table been unavailable without a panic, the event would have been relayed.
            assert_eq!(world.post(&body()).await.status, 503);
        }
        world.line(|line| line["message"] == "panicked").await;
        let forged = signed(&body(), "another secret").envelope(Front::HttpApi);
        assert_eq!(world.invoke(&forged).await.status, 401);
    }
}
