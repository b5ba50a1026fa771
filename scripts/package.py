"""Makes the zip for Lambda from the built function, and a template that deploys this zip.

It does not know how the function is built. tests/package checks the zip.

    python3 scripts/package.py arm64 target/lambda/purchasely-clevertap/bootstrap

The same binary gives the same zip, byte for byte, at any time and on any machine.
"""

import hashlib
import os
import stat
import sys
import zipfile
from pathlib import Path

FOLDER = Path("target/package")
TEMPLATE = Path("template.yaml")
ARCHITECTURES = ("arm64", "x86_64")

# The name that provided.al2023 starts, and the earliest time that a zip can contain.
NAME = "bootstrap"
MADE_AT = (1980, 1, 1, 0, 0, 0)
UNIX = 3


def pack(binary: bytes, package: Path) -> None:
    """Writes the zip under another name first, so that there is never half a zip."""
    entry = zipfile.ZipInfo(NAME, MADE_AT)
    entry.create_system = UNIX
    entry.external_attr = (stat.S_IFREG | 0o755) << 16
    entry.compress_type = zipfile.ZIP_DEFLATED
    unfinished = package.with_suffix(".part")
    with zipfile.ZipFile(unfinished, "w", compresslevel=9) as archive:
        archive.writestr(entry, binary)
    os.replace(unfinished, package)


def template_of(package: Path, architecture: str) -> str:
    """The template with this zip as the function's code, instead of a build."""
    text = TEMPLATE.read_text()
    for line, replacement in (
        ("      CodeUri: .\n", f"      CodeUri: {package.name}\n"),
        (
            "    Default: arm64\n    AllowedValues: [arm64, x86_64]\n",
            f"    Default: {architecture}\n    AllowedValues: [{architecture}]\n",
        ),
    ):
        if text.count(line) != 1:
            raise SystemExit(f"{TEMPLATE} must contain exactly once:\n{line}If it has changed, change {__file__} too.")
        text = text.replace(line, replacement)
    return text


def main() -> int:
    if len(sys.argv) != 3 or sys.argv[1] not in ARCHITECTURES:
        print(__doc__, file=sys.stderr)
        return 2
    architecture, binary = sys.argv[1], Path(sys.argv[2])
    if not binary.is_file():
        print(f"there is no {binary}: run `make package`", file=sys.stderr)
        return 1
    package = FOLDER / f"purchasely-clevertap-{architecture}.zip"
    FOLDER.mkdir(parents=True, exist_ok=True)
    pack(binary.read_bytes(), package)
    template = FOLDER / f"template-{architecture}.yaml"
    template.write_text(template_of(package, architecture))
    packed = package.read_bytes()
    print(f"{package}  {len(packed):,} bytes, from {binary.stat().st_size:,}")
    print(f"sha256  {hashlib.sha256(packed).hexdigest()}")
    print(f"{template}  deploys it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
