"""Makes what a release holds: the steps of `make package`, `make release` and the release workflow.

It builds nothing, and does not know GitHub. The same binaries give the same files, byte for byte.

    .tools/venv/bin/python scripts/release.py package arm64 target/lambda/purchasely-clevertap/bootstrap
    .tools/venv/bin/python scripts/release.py dist arm64 target/lambda/relay/bootstrap
    python3 scripts/release.py notes v0.1.0
    python3 scripts/release.py merge built/arm64 built/x86_64 --into dist
"""

import gzip
import io
import json
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

PACKAGES, DIST, SUMS = Path("target/package"), Path("target/dist"), "SHA256SUMS"
# The earliest time that a zip can contain.
MADE_AT = (1980, 1, 1, 0, 0, 0)
UNIX = 3
# `normal` leaves out what only builds or tests.
TREE = """cargo tree --locked --package purchasely-clevertap --edges normal,no-proc-macro
    --target aarch64-unknown-linux-gnu --target x86_64-unknown-linux-gnu --prefix depth --format"""


def packages(architecture: str) -> tuple[Path, Path]:
    """The zip that Lambda runs, and the template that deploys it."""
    return PACKAGES / f"purchasely-clevertap-{architecture}.zip", PACKAGES / f"template-{architecture}.yaml"


def package(architecture: str, binary: str) -> None:
    zipped, template = packages(architecture)
    PACKAGES.mkdir(parents=True, exist_ok=True)
    # The name that provided.al2023 starts.
    entry = zipfile.ZipInfo("bootstrap", MADE_AT)
    entry.create_system, entry.compress_type = UNIX, zipfile.ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o755) << 16
    with zipfile.ZipFile(zipped, "w", compresslevel=9) as archive:
        archive.writestr(entry, Path(binary).read_bytes())

    text = Path("template.yaml").read_text()
    for line, replacement in (
        ("      CodeUri: .\n", f"      CodeUri: {zipped.name}\n"),
        ("    Default: arm64\n    AllowedValues: [arm64, x86_64]\n", "    Default: {0}\n    AllowedValues: [{0}]\n".format(architecture)),
    ):
        if text.count(line) != 1:
            sys.exit(f"template.yaml must contain exactly once:\n{line}If it has changed, change {__file__} too.")
        text = text.replace(line, replacement)
    template.write_text(text)
    print(f"{zipped}  {zipped.stat().st_size:,} bytes, sha256 {digest(zipped)}\n{template}  deploys it")


def dist(architecture: str, tool: str) -> None:
    """Puts the zip, the bundle, the list of dependencies and the checksums into target/dist."""
    needed = re.findall(rb"GLIBC_(\d+)\.(\d+)", Path(tool).read_bytes())
    if max((tuple(map(int, pair)) for pair in needed), default=(0, 0)) > (2, 34):
        sys.exit(f"{tool} needs a newer C library than AWS CloudShell has: {set(needed)}")
    release = f"purchasely-clevertap-{version()}"
    name = f"{release}-{architecture}"
    zipped, template = packages(architecture)
    bundle = io.BytesIO()
    with tarfile.open(fileobj=bundle, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, source, mode in (
            ("LICENSE", Path("LICENSE"), 0o644),
            ("params.example.yaml", Path("params.example.yaml"), 0o644),
            (zipped.name, zipped, 0o644),
            ("relay", Path(tool), 0o755),
            ("template.yaml", template, 0o644),
        ):
            # It has no times and no owners.
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode = source.stat().st_size, mode
            archive.addfile(entry, io.BytesIO(source.read_bytes()))
    DIST.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(zipped, DIST / f"{name}.zip")
    (DIST / f"{name}-bundle.tar.gz").write_bytes(gzip.compress(bundle.getvalue(), mtime=0))
    (DIST / f"{release}.cdx.json").write_text(dependencies())
    # Those of other versions stay out.
    write_sums(DIST, DIST.glob(f"{release}[-.]*"))


def linked() -> tuple[dict[tuple[str, str], str], dict[str, set[str]]]:
    """The licence of each package, a name and a version, and what each depends on. The first one is the function."""
    tree = subprocess.run([*TREE.split(), "\t{p}\t{l}\t"], check=True, capture_output=True, text=True).stdout
    licences, edges, above = {}, {}, []
    for depth, package, licence, _ in (line.split("\t") for line in filter(None, tree.splitlines())):
        name, version = package.split()[:2]
        # Old packages write `MIT/Apache-2.0`.
        licences[name, version[1:]] = licence.replace("/", " OR ")
        above[int(depth) :] = [f"{name} {version[1:]}"]
        edges.setdefault(above[-1], set())
        if above[:-1]:
            edges[above[-2]].add(above[-1])
    return licences, edges


def dependencies() -> str:
    """What is linked into the function as a CycloneDX document, which the same Cargo.lock makes the same for both
    architectures. The `relay` tool is not in it."""
    # A package of requirements/verify.txt, which the other steps do without.
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    licences, edges = linked()
    locked = tomllib.loads(Path("Cargo.lock").read_text())["package"]
    checksums = {(package["name"], package["version"]): package.get("checksum") for package in locked}

    def component(name: str, version: str) -> dict:
        licence = [{"expression": licences[name, version]}]
        return {"type": "library", "bom-ref": f"{name} {version}", "name": name, "version": version, "licenses": licence}

    (function, *others) = licences
    made = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": component(*function) | {"type": "application", "description": "The AWS Lambda function."}},
        "components": [
            component(name, version)
            | {"purl": f"pkg:cargo/{name}@{version}", "hashes": [{"alg": "SHA-256", "content": checksums[name, version]}]}
            for name, version in sorted(others)
        ],
        "dependencies": [{"ref": package, "dependsOn": sorted(edges[package])} for package in sorted(edges)],
    }
    text = json.dumps(made, indent=1) + "\n"
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert not problem, f"the list of dependencies does not fit CycloneDX's schema: {problem}"
    return text


def notes(tag: str) -> None:
    """Prints this version's section of CHANGELOG.md, if the tag is this version's and the section has a date."""
    if tag != f"v{version()}":
        sys.exit(f"tag {tag}: Cargo.toml has version {version()}. Delete the tag, and tag the commit that has the version.")
    heading = re.escape(f"## [{version()}] - ") + r"\d{4}-\d\d-\d\d\n"
    section = re.search(rf"^{heading}(.*?)(?=^## |\Z)", Path("CHANGELOG.md").read_text(), re.MULTILINE | re.DOTALL)
    if not section or not section[1].strip():
        sys.exit(f"CHANGELOG.md: no text below a heading `## [{version()}] - YYYY-MM-DD`. Write it, and tag that commit.")
    print(section[1].strip())


def merge(folders: list[str], into: str) -> None:
    """Copies the files of all folders into one, and writes one SHA256SUMS for all. GitHub checks what it transports."""
    Path(into).mkdir(parents=True)
    for file in (file for folder in folders for file in Path(folder).iterdir() if file.name != SUMS):
        copy = Path(into) / file.name
        if copy.exists() and digest(copy) != digest(file):
            sys.exit(f"{file} has another content than in the folder before")
        shutil.copyfile(file, copy)
    write_sums(Path(into), Path(into).iterdir())


def version() -> str:
    return tomllib.loads(Path("Cargo.toml").read_text())["workspace"]["package"]["version"]


def digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def write_sums(folder: Path, files: Iterable[Path]) -> None:
    sums = "".join(f"{digest(file)}  {file.name}\n" for file in sorted(files))
    (folder / SUMS).write_text(sums)
    print(sums, end="")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["package", architecture, binary]: package(architecture, binary)
        case ["dist", architecture, tool]: dist(architecture, tool)
        case ["notes", tag]: notes(tag)
        case ["merge", *folders, "--into", into]: merge(folders, into)
        case _: sys.exit(__doc__)
