"""Applies deliberate defects to a copy of the function, one at a time: the simulated worlds must find each.

It does not know what a defect breaks, nor how the simulation finds it. tests/simulation/defects.yaml has the defects.

    .tools/venv/bin/python scripts/defects.py                 # all of them
    .tools/venv/bin/python scripts/defects.py --only "claim"  # those whose name contains a text
    .tools/venv/bin/python scripts/defects.py --check         # only whether each still applies

Exit codes: 0, each is found; 1, one is not found, or does not apply; 2, one does not compile, or the simulation fails.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
DEFECTS = ROOT / "tests/simulation/defects.yaml"
COPY = ROOT / "target/defects/copy"
BUILD = ROOT / "target/defects/build"
BUILD_COMMAND = "cargo build --locked --quiet --package purchasely-clevertap-tools --example relay"
SIMULATE = [BUILD / "debug/examples/relay", "simulate", "--json", "--first-failure"]
# Optimized a little, a world takes a sixth of the time, and a build after a defect hardly longer.
ENVIRONMENT = {"CARGO_PROFILE_DEV_OPT_LEVEL": "1", "CARGO_PROFILE_DEV_DEBUG": "false", "CARGO_TARGET_DIR": str(BUILD)}
# A hundred times what the short runs take.
TIMEOUT_SECONDS = 1800


def problem_of(defect: dict) -> str | None:
    """Why a defect does not apply, if so."""
    found = (ROOT / defect["file"]).read_text().count(defect["find"])
    if found != 1:
        return f"its text to find occurs {found} times in {defect['file']}: write it as it is there"
    return "it replaces the text with itself" if defect["find"] == defect["replace"] else None


def write(path: str, content: bytes) -> None:
    """Writes a file of the copy, unless it has the content: cargo builds again what has a new time."""
    file = COPY / path
    if not file.exists() or file.read_bytes() != content:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)


def copy_sources() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for path in filter(None, listed.split("\0")):
        if (ROOT / path).is_file():
            write(path, (ROOT / path).read_bytes())


def build() -> None:
    done = subprocess.run(BUILD_COMMAND.split(), cwd=COPY, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    if done.returncode != 0:
        raise ChildProcessError(f"it does not compile\n{done.stderr}")


def simulate(worlds: int | str) -> tuple[int, dict | None]:
    """How many worlds ran, and the first that failed."""
    chosen = ["--short-runs"] if worlds == "short" else ["--worlds", str(worlds)]
    done = subprocess.run([*SIMULATE, *chosen], capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    if done.returncode not in (0, 1):
        raise ChildProcessError(f"the simulation itself fails\n{done.stderr}")
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    failed = [(number, run) for number, run in enumerate(runs, 1) if run["problems"]]
    return failed[0] if failed else (len(runs), None)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="only defects whose name contains this text")
    parser.add_argument("--check", action="store_true", help="only check that each defect applies")
    parser.add_argument("--json", action="store_true", help="print one JSON object per defect")
    options = parser.parse_args()
    every = yaml.safe_load(DEFECTS.read_text())
    defects = [defect for defect in every if options.only.lower() in defect["name"].lower()]
    broken = [f"{defect['name']} {problem}" for defect in defects if (problem := problem_of(defect))]
    if broken or not defects:
        print("\n".join(broken) or f"no defect's name contains {options.only}", file=sys.stderr)
        return 1
    if options.check:
        print(f"defects: {len(defects)} apply")
        return 0
    copy_sources()
    missed = unusable = 0
    for number, defect in enumerate(defects, 1):
        name, path, worlds = defect["name"], defect["file"], defect["worlds"]
        if sys.stderr.isatty():
            print(f"\r\033[K{number} of {len(defects)}: {name}", end="", file=sys.stderr, flush=True)
        started = time.monotonic()
        original = (ROOT / path).read_text()
        write(path, original.replace(defect["find"], defect["replace"]).encode())
        try:
            build()
            count, run = simulate(worlds)
        except (ChildProcessError, subprocess.TimeoutExpired) as error:
            print(f"{name} {error}", file=sys.stderr)
            unusable += 1
            continue
        finally:
            write(path, original.encode())
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr, flush=True)
        missed += run is None
        found_by, problem = (run["command"], run["problems"][0]) if run else (None, None)
        if options.json:
            seconds = round(time.monotonic() - started, 1)
            line = {"name": name, "found_by": found_by, "problem": problem, "worlds": count, "seconds": seconds}
            print(json.dumps(line), flush=True)
        else:
            print(f"found    {name} World {count}: {found_by}: {problem}" if run else f"MISSED   {name} {count} worlds", flush=True)
    if not options.json:
        found = len(defects) - missed - unusable
        print(f"{len(defects)} defects: {found} found, {missed} missed, {unusable} could not be tried")
    return 2 if unusable else 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
