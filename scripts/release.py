"""Makes what a release holds, and publishes it: the steps of `make package`, `make release` and the release workflow.

It builds nothing, and does not know GitHub. The same binaries give the same files, byte for byte.

    .tools/venv/bin/python scripts/release.py package arm64 target/lambda/purchasely-clevertap/bootstrap
    .tools/venv/bin/python scripts/release.py dist arm64 target/lambda/relay/bootstrap
    python3 scripts/release.py notes v0.1.0
    python3 scripts/release.py merge built/arm64 built/x86_64 --into dist
    python3 scripts/release.py application dist/purchasely-clevertap-0.1.0-arm64-bundle.tar.gz --id ARN --bucket NAME
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
import tempfile
import tomllib
import zipfile
from hashlib import sha256
from pathlib import Path

PACKAGES, DIST, SUMS = Path("target/package"), Path("target/dist"), "SHA256SUMS"
# The earliest time that a zip can contain.
MADE_AT = (1980, 1, 1, 0, 0, 0)
UNIX = 3


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
    # Needs a package of requirements/verify.txt, which the other steps do without.
    import sbom

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
    (DIST / f"{release}.cdx.json").write_text(sbom.document())
    # Those of other versions stay out.
    files = sorted(DIST.glob(f"{release}[-.]*"))
    write_sums(DIST, {file.name: digest(file) for file in files})
    for file in files:
        print(f"{file}  {file.stat().st_size:,} bytes")


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
    """Copies the files of each folder, checked against its SHA256SUMS, and writes one SHA256SUMS for all."""
    Path(into).mkdir(parents=True)
    sums: dict[str, str] = {}
    for folder in map(Path, folders):
        listed = dict(reversed(line.split("  ", 1)) for line in (folder / SUMS).read_text().splitlines())
        found = {path.name for path in folder.iterdir()} - {SUMS}
        if found != listed.keys():
            sys.exit(f"{folder}: {SUMS} lists {sorted(listed)}, but there are {sorted(found)}")
        for name, expected in listed.items():
            if digest(folder / name) != expected:
                sys.exit(f"{folder / name}: its checksum is not that of {SUMS}")
            if sums.setdefault(name, expected) != expected:
                sys.exit(f"{name}: {folder} has another content than the folder before")
            shutil.copyfile(folder / name, Path(into) / name)
    write_sums(Path(into), sums)


def application(bundle: str, identifier: str, bucket: str) -> None:
    """Publishes the bundle's template as a version of an application in the Serverless Application Repository."""
    with tempfile.TemporaryDirectory() as folder, tarfile.open(bundle) as archive:
        archive.extractall(folder, filter="data")
        (template,) = Path(folder).glob("*/template.yaml")
        packaged = Path(folder) / "packaged.yaml"
        aws("cloudformation", "package", "--template-file", template, "--s3-bucket", bucket, "--output-template-file", packaged)
        created = json.loads(aws(
            "serverlessrepo", "create-application-version", "--application-id", identifier,
            "--semantic-version", version(), "--template-body", f"file://{packaged}", "--output", "json"))
    if not created["ResourcesSupported"]:
        sys.exit("published, but the repository does not support a resource of the template in this region, so nobody can deploy it")


def version() -> str:
    return tomllib.loads(Path("Cargo.toml").read_text())["workspace"]["package"]["version"]


def digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def write_sums(folder: Path, sums: dict[str, str]) -> None:
    (folder / SUMS).write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def aws(*arguments: object) -> str:
    done = subprocess.run(["aws", *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"aws {arguments[0]} {arguments[1]} failed")
    return done.stdout


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["package", architecture, binary]: package(architecture, binary)
        case ["dist", architecture, tool]: dist(architecture, tool)
        case ["notes", tag]: notes(tag)
        case ["merge", *folders, "--into", into]: merge(folders, into)
        case ["application", bundle, "--id", identifier, "--bucket", bucket]: application(bundle, identifier, bucket)
        case _: sys.exit(__doc__)
