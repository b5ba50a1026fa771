//! The zip that `make package` made: what Lambda asks of it, its budget, and one webhook through it.
//! It does not know how the zip is made.

use object::Endianness;
use object::elf::{EM_AARCH64, EM_X86_64, FileHeader64};
use object::read::elf::FileHeader;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use zip::ZipArchive;

/// What a cold start loads may grow by a tenth over what it was when this was set (7.2 and 3.2 MB), and no further:
/// each megabyte is some milliseconds of the first webhook. What is worth more than that raises both numbers here.
const GREATEST_BINARY: usize = 7_900_000;
const GREATEST_ZIP: u64 = 3_600_000;

/// The C library of provided.al2023.
const GLIBC: (u32, u32) = (2, 34);

fn path() -> PathBuf {
    let path = std::env::var_os("PACKAGE").map(PathBuf::from);
    path.filter(|path| path.is_file())
        .expect("PACKAGE names no zip: `make packaged` makes it and runs these tests")
}

fn open() -> ZipArchive<File> {
    ZipArchive::new(File::open(path()).unwrap()).expect("a zip")
}

fn binary() -> Vec<u8> {
    let mut binary = Vec::new();
    let mut archive = open();
    let mut entry = archive.by_name("bootstrap").expect("an entry bootstrap");
    entry.read_to_end(&mut binary).unwrap();
    binary
}

#[test]
fn it_holds_one_executable_bootstrap_and_nothing_else() {
    let mut archive = open();
    let entries: Vec<_> = (0..archive.len())
        .map(|index| {
            let entry = archive.by_index(index).unwrap();
            (entry.name().unwrap().into_owned(), entry.unix_mode())
        })
        .collect();
    assert_eq!(entries, [("bootstrap".to_owned(), Some(0o100_755))]);
}

#[test]
fn it_is_within_its_budget() {
    let binary = binary().len();
    let zip = path().metadata().unwrap().len();
    assert!(
        binary <= GREATEST_BINARY && zip <= GREATEST_ZIP,
        "the binary has {binary} bytes of {GREATEST_BINARY}, the zip {zip} of {GREATEST_ZIP}: `cargo bloat --release` \
         tells what takes them"
    );
}

#[test]
fn it_is_a_program_for_the_architecture_that_its_name_tells() {
    let binary = binary();
    let header = FileHeader64::<Endianness>::parse(&binary[..]).expect("an ELF file");
    let machine = header.e_machine(header.endian().unwrap());
    let name = path().file_stem().unwrap().to_str().unwrap().to_owned();
    let expected = match name.strip_prefix("purchasely-clevertap-") {
        Some("arm64") => EM_AARCH64,
        Some("x86_64") => EM_X86_64,
        other => panic!("Lambda knows no architecture {other:?}"),
    };
    assert_eq!(machine, expected);
}

#[test]
fn it_asks_for_no_newer_c_library_than_lambdas() {
    let binary = binary();
    let header = FileHeader64::<Endianness>::parse(&binary[..]).expect("an ELF file");
    let endian = header.endian().unwrap();
    let sections = header.sections(endian, &binary[..]).unwrap();
    let (mut needs, link) = sections
        .gnu_verneed(endian, &binary[..])
        .unwrap()
        .expect("versions of the C library");
    let strings = sections.strings(endian, &binary[..], link).unwrap();
    let mut asked = Vec::new();
    while let Some((_, mut versions)) = needs.next().unwrap() {
        while let Some(version) = versions.next().unwrap() {
            let name = version.name(endian, strings).unwrap();
            let name = String::from_utf8_lossy(name).into_owned();
            if let Some(number) = name.strip_prefix("GLIBC_") {
                let mut parts = number.split('.').map(|part| part.parse().unwrap());
                asked.push((parts.next().unwrap(), parts.next().unwrap()));
            }
        }
    }
    let newest: (u32, u32) = asked.into_iter().max().expect("a version of glibc");
    assert!(newest <= GLIBC, "it asks for glibc {newest:?}");
}

/// Elsewhere a program for Linux does not start.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn it_relays_a_webhook() {
    use std::os::unix::fs::OpenOptionsExt;
    use testkit::harness::{
        PASSCODE, SECRET_ID, SHARED_SECRET, World, body, relayed, secret_value,
    };
    use testkit::secrets_manager::SecretsManager;

    let folder = tempfile::tempdir().unwrap();
    let bootstrap = folder.path().join("bootstrap");
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(&bootstrap)
        .unwrap();
    std::io::Write::write_all(&mut file, &binary()).unwrap();
    drop(file);
    let secret = secret_value(PASSCODE, SHARED_SECRET);
    let secrets_manager = SecretsManager::new(SECRET_ID, &secret);
    let world = World::start_binary(&bootstrap, secrets_manager, &[]).await;

    assert_eq!(world.post(&body()).await, relayed());
    assert_eq!(world.clevertap.accepted().len(), 2);
}
