"""The steps between `make release` and a published release, each run by .github/workflows/release.yml.

It does not build, and does not know GitHub.

    python3 scripts/publish.py notes v0.1.0
    python3 scripts/publish.py merge built/arm64 built/x86_64 --into dist
    python3 scripts/publish.py application dist/purchasely-clevertap-0.1.0-arm64-bundle.tar.gz --id ARN --bucket NAME
"""

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

SUMS = "SHA256SUMS"


def version() -> str:
    return re.search('^version = "(.+)"$', Path("Cargo.toml").read_text(), re.MULTILINE)[1]


def notes(tag: str) -> None:
    """Prints this version's section of CHANGELOG.md, if the tag is this version's and the section has a date."""
    if tag != f"v{version()}":
        sys.exit(f"tag {tag}: Cargo.toml has version {version()}. Delete the tag, and tag the commit that has the version.")
    heading = re.escape(f"## [{version()}] - ") + r"\d{4}-\d\d-\d\d\n"
    section = re.search(rf"^{heading}(.*?)(?=^## |\Z)", Path("CHANGELOG.md").read_text(), re.MULTILINE | re.DOTALL)
    if not section or not section[1].strip():
        sys.exit(f"CHANGELOG.md: no text below a heading `## [{version()}] - YYYY-MM-DD`. Write it, and tag that commit.")
    print(section[1].strip())


def merge(folders: list[Path], into: Path) -> None:
    """Copies the files of each folder, checked against its SHA256SUMS, and writes one SHA256SUMS for all."""
    into.mkdir(parents=True)
    sums: dict[str, str] = {}
    for folder in folders:
        listed = dict(reversed(line.split("  ", 1)) for line in (folder / SUMS).read_text().splitlines())
        found = {path.name for path in folder.iterdir()} - {SUMS}
        if found != listed.keys():
            sys.exit(f"{folder}: {SUMS} lists {sorted(listed)}, but there are {sorted(found)}")
        for name, expected in listed.items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                sys.exit(f"{folder / name}: its checksum is not that of {SUMS}")
            if sums.setdefault(name, expected) != expected:
                sys.exit(f"{name}: {folder} has another content than the folder before")
            shutil.copyfile(folder / name, into / name)
    (into / SUMS).write_text("".join(f"{sums[name]}  {name}\n" for name in sorted(sums)))


def application(bundle: Path, identifier: str, bucket: str) -> None:
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


def aws(*arguments: object) -> str:
    done = subprocess.run(["aws", *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"aws {arguments[0]} {arguments[1]} failed")
    return done.stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("notes", help=notes.__doc__)
    command.set_defaults(run=notes)
    command.add_argument("tag")
    command = commands.add_parser("merge", help=merge.__doc__)
    command.set_defaults(run=merge)
    command.add_argument("folders", nargs="+", type=Path)
    command.add_argument("--into", required=True, type=Path)
    command = commands.add_parser("application", help=application.__doc__)
    command.set_defaults(run=application)
    command.add_argument("bundle", type=Path)
    command.add_argument("--id", dest="identifier", required=True)
    command.add_argument("--bucket", required=True)
    arguments = vars(parser.parse_args())
    arguments.pop("run")(**arguments)


if __name__ == "__main__":
    main()
