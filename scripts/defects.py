"""Applies deliberate defects to a copy of the function, one at a time: the simulated worlds must find each.

It does not know what a defect breaks, nor how the simulation finds it. tests/simulation/defects.yaml has the defects.

    .tools/venv/bin/python scripts/defects.py [TEXT]   # all of them, or those whose name contains this

Exit codes: 0, each is found; 1, one is not found; 2, one does not compile, or the simulation fails.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent
COPY, BUILD = ROOT / "target/defects/copy", ROOT / "target/defects/build"
BUILD_COMMAND = "cargo build --locked --quiet --package purchasely-clevertap-tools --example relay"
SIMULATE = [BUILD / "debug/examples/relay", "simulate", "--json", "--first-failure"]
# Optimized a little, a world takes a sixth of the time, and a build after a defect hardly longer.
ENVIRONMENT = {"CARGO_PROFILE_DEV_OPT_LEVEL": "1", "CARGO_PROFILE_DEV_DEBUG": "false", "CARGO_TARGET_DIR": str(BUILD)}
# A hundred times what the short runs take.
TIMEOUT_SECONDS = 1800


def simulate(defect: dict) -> tuple[int, dict | None]:
    """How many worlds ran, and the first that failed."""
    built = subprocess.run(BUILD_COMMAND.split(), cwd=COPY, env=os.environ | ENVIRONMENT, capture_output=True, text=True)
    if built.returncode != 0:
        raise ChildProcessError(f"it does not compile\n{built.stderr}")
    worlds = ["--short-runs"] if defect["worlds"] == "short" else ["--worlds", str(defect["worlds"])]
    done = subprocess.run([*SIMULATE, *worlds], capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    if done.returncode not in (0, 1):
        raise ChildProcessError(f"the simulation itself fails\n{done.stderr}")
    runs = [json.loads(line) for line in done.stdout.splitlines()]
    return next(((number, run) for number, run in enumerate(runs, 1) if run["problems"]), (len(runs), None))


def main(text: str) -> int:
    every = yaml.safe_load((ROOT / "tests/simulation/defects.yaml").read_text())
    defects = [defect for defect in every if text.lower() in defect["name"].lower()]
    # With their times, so that cargo builds only what has changed since.
    shutil.copytree(ROOT, COPY, ignore=shutil.ignore_patterns("target", ".git", ".tools", ".aws-sam"), dirs_exist_ok=True)
    missed = unusable = 0
    for defect in defects:
        name, file = defect["name"], COPY / defect["file"]
        original = file.read_text()
        file.write_text(original.replace(defect["find"], defect["replace"]))
        try:
            count, run = simulate(defect)
        except (ChildProcessError, subprocess.TimeoutExpired) as error:
            print(f"UNUSABLE {name} {error}", flush=True)
            unusable += 1
            continue
        finally:
            file.write_text(original)
        missed += run is None
        verdict = f"World {count}: {run['command']}: {run['problems'][0]}" if run else f"{count} worlds"
        print(f"{'found   ' if run else 'MISSED  '} {name} {verdict}", flush=True)
    print(f"{len(defects)} defects: {len(defects) - missed - unusable} found, {missed} missed, {unusable} could not be tried")
    return 2 if unusable else 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
