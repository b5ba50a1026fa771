"""Lists what is linked into the function as a CycloneDX document, and checks it strictly against CycloneDX's schema.

It does not know what else a release holds: the `relay` tool is not in the list.

    .tools/venv/bin/python scripts/sbom.py target/purchasely-clevertap.cdx.json

The same Cargo.lock gives the same document. It covers both architectures.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

FUNCTION = "purchasely-clevertap"
TARGETS = ("aarch64-unknown-linux-gnu", "x86_64-unknown-linux-gnu")


def tree(target: str) -> list[tuple[int, str, str]]:
    """Depth, `name version` and licence of each line of `cargo tree`."""
    # `normal` leaves out what only builds or tests.
    command = ["cargo", "tree", "--locked", "--package", FUNCTION, "--edges", "normal,no-proc-macro", "--target", target]
    form = ["--prefix", "depth", "--format", "\t{p}\t{l}\t"]
    lines = subprocess.run([*command, *form], check=True, capture_output=True, text=True).stdout.splitlines()
    rows = [line.split("\t") for line in lines]
    return [(int(depth), " ".join(package.split()[:2]).replace(" v", " "), licence) for depth, package, licence, _ in rows]


def linked() -> tuple[dict[str, str], dict[str, set[str]]]:
    """The licence of each package, and what each depends on. The first one is the function."""
    licences: dict[str, str] = {}
    edges: dict[str, set[str]] = {}
    for target in TARGETS:
        above: list[str] = []
        for depth, package, licence in tree(target):
            licences[package] = licence
            edges.setdefault(package, set())
            above[depth:] = [package]
            if depth:
                edges[above[depth - 1]].add(package)
    return licences, edges


def checksums() -> dict[str, str]:
    packages = Path("Cargo.lock").read_text().split("[[package]]")[1:]
    fields = [dict(re.findall(r'^(name|version|checksum) = "(.*)"$', package, re.MULTILINE)) for package in packages]
    return {f"{package['name']} {package['version']}": package["checksum"] for package in fields if "checksum" in package}


def component(package: str, licence: str, checksum: str | None) -> dict:
    name, version = package.split(" ")
    # Old packages write `MIT/Apache-2.0`.
    entry = {"type": "library", "bom-ref": package, "name": name, "version": version}
    entry["licenses"] = [{"expression": licence.replace("/", " OR ")}]
    if checksum:
        entry |= {"purl": f"pkg:cargo/{name}@{version}", "hashes": [{"alg": "SHA-256", "content": checksum}]}
    return entry


def document() -> dict:
    licences, edges = linked()
    known = checksums()
    function, *others = [component(package, licence, known.get(package)) for package, licence in licences.items()]
    unknown = [entry["name"] for entry in others if "hashes" not in entry]
    assert not unknown, f"Cargo.lock has no checksum of {unknown}"
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": function | {"type": "application", "description": "The AWS Lambda function."}},
        "components": sorted(others, key=lambda entry: entry["bom-ref"]),
        "dependencies": [{"ref": package, "dependsOn": sorted(edges[package])} for package in sorted(edges)],
    }


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    made = document()
    text = json.dumps(made, indent=1) + "\n"
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem:
        print(f"the list does not fit CycloneDX's schema: {problem}", file=sys.stderr)
        return 1
    Path(sys.argv[1]).write_text(text)
    print(f"{sys.argv[1]}  {len(made['components'])} packages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
