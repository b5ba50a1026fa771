"""Puts what a release holds into target/dist: the zip, the bundle, the list of dependencies and the checksums.

It builds nothing: `make release` has built the zip and the tool.

    .tools/venv/bin/python scripts/release.py arm64

The same zip and tool give the same bundle, byte for byte.
"""

import gzip
import hashlib
import io
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

from package import ARCHITECTURES, FOLDER

DIST = Path("target/dist")
TOOL = Path("target/lambda/relay/bootstrap")


def bundle(name: str, architecture: str) -> bytes:
    """A tar archive whose entries have no times and no owners."""
    package = FOLDER / f"purchasely-clevertap-{architecture}.zip"
    contents = {
        "LICENSE": (Path("LICENSE"), 0o644),
        "deploy": (Path("scripts/deploy"), 0o755),
        "params.example.yaml": (Path("params.example.yaml"), 0o644),
        package.name: (package, 0o644),
        "relay": (TOOL, 0o755),
        "template.yaml": (FOLDER / f"template-{architecture}.yaml", 0o644),
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, (source, mode) in contents.items():
            content = source.read_bytes()
            entry = tarfile.TarInfo(f"{name}/{path}")
            entry.size, entry.mode = len(content), mode
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def main() -> int:
    if len(sys.argv) != 2 or sys.argv[1] not in ARCHITECTURES:
        print(__doc__, file=sys.stderr)
        return 2
    architecture = sys.argv[1]
    version = re.search('^version = "(.+)"$', Path("Cargo.toml").read_text(), re.MULTILINE)[1]
    release = f"purchasely-clevertap-{version}"
    name = f"{release}-{architecture}"
    DIST.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(FOLDER / f"purchasely-clevertap-{architecture}.zip", DIST / f"{name}.zip")
    (DIST / f"{name}-bundle.tar.gz").write_bytes(bundle(name, architecture))
    subprocess.run([sys.executable, "scripts/sbom.py", DIST / f"{release}.cdx.json"], check=True)
    # Those of other versions stay out.
    files = sorted(DIST.glob(f"{release}[-.]*"))
    sums = "".join(f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (DIST / "SHA256SUMS").write_text(sums)
    for file in files:
        print(f"{file}  {file.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
