"""Lists what is linked into the function as a CycloneDX document, checked strictly against CycloneDX's schema.

The same Cargo.lock gives the same document, for both architectures. It does not know what else a release holds: the
`relay` tool is not in the list.
"""

import json
import subprocess
import tomllib
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

FUNCTION = "purchasely-clevertap"
# `normal` leaves out what only builds or tests.
TREE = f"""cargo tree --locked --package {FUNCTION} --edges normal,no-proc-macro
    --target aarch64-unknown-linux-gnu --target x86_64-unknown-linux-gnu --prefix depth --format"""


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


def document() -> str:
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
