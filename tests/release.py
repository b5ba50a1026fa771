"""Tests of what scripts/release.py does after the build. They do not know GitHub.

    .tools/venv/bin/python tests/release.py
"""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-02\n\n### Added\n\n- This.\n\n## [1.2.2] - 2025-01-02\n\n- That.\n"


class Release(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.write("Cargo.toml", '[workspace.package]\nversion = "1.2.3"\n')
        self.write("CHANGELOG.md", CHANGELOG)

    def write(self, path: str, text: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / path).write_text(text)

    def built(self, folder: str, **files: str) -> None:
        for name, text in ({"SHA256SUMS": "of its own"} | files).items():
            self.write(f"{folder}/{name}", text)

    def check(self, *arguments: str, problem: str = "") -> str:
        command = [sys.executable, CLONE / "scripts/release.py", *arguments]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True)
        self.assertEqual(done.returncode, 1 if problem else 0, done.stderr)
        self.assertIn(problem, done.stderr)
        return done.stdout

    def test_the_notes_are_the_section_of_the_version(self) -> None:
        self.assertEqual(self.check("notes", "v1.2.3"), "### Added\n\n- This.\n")

    def test_a_tag_of_another_version_is_refused(self) -> None:
        self.check("notes", "v1.2.2", problem="version 1.2.3")

    def test_a_version_without_a_dated_section_is_refused(self) -> None:
        self.write("CHANGELOG.md", CHANGELOG.replace("2026-01-02", "unreleased"))
        self.check("notes", "v1.2.3", problem="no text below a heading")

    def test_the_project_has_a_section_for_its_version(self) -> None:
        version = (CLONE / "Cargo.toml").read_text().split('\nversion = "')[1].split('"')[0]
        self.assertIn(f"\n## [{version}]", (CLONE / "CHANGELOG.md").read_text())

    def test_both_architectures_are_merged_into_one_list_that_sha256sum_accepts(self) -> None:
        self.built("a", both="same", arm64="one")
        self.built("x", both="same", x86_64="two")
        self.check("merge", "a", "x", "--into", "dist")
        checked = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=self.folder / "dist", capture_output=True, text=True)
        self.assertEqual(checked.stdout, "arm64: OK\nboth: OK\nx86_64: OK\n")

    def test_a_file_that_differs_between_the_architectures_is_refused(self) -> None:
        self.built("a", both="one")
        self.built("x", both="two")
        self.check("merge", "a", "x", "--into", "dist", problem="another content")


if __name__ == "__main__":
    unittest.main()
