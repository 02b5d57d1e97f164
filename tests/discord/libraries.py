"""Runs `library_probe.py` with each of the four libraries, in environments of their own.

    python -m tests.discord.libraries [NAME …] [--keep FOLDER]

discord.py and py-cord are both imported as `discord`, so no environment holds two of them. What
they said is printed and, when all four ran, kept in `libraries.txt`. With `--keep` the environments
stay in that folder and are used again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[2]
KEPT = Path(__file__).with_suffix(".txt")
LIBRARIES = {
    "discord.py": "discord",
    "nextcord": "nextcord",
    "py-cord": "discord",
    "disnake": "disnake",
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(LIBRARIES)}; all by default")
    parser.add_argument("--keep", type=Path, help="a folder for the environments")
    given = parser.parse_args()
    names: list[str] = given.names or list(LIBRARIES)
    if unknown := set(names) - LIBRARIES.keys():
        parser.error(f"no library {', '.join(sorted(unknown))}; there are {', '.join(LIBRARIES)}")
    with tempfile.TemporaryDirectory(prefix="pandora-libraries-") as temporary:
        folder: Path = given.keep or Path(temporary)
        parts = [run(name, folder / name) for name in names]
    text = "\n".join(parts)
    print(text)
    if names == list(LIBRARIES):
        KEPT.write_text(text, encoding="utf-8")
    return 1 if any("FAILED" in part for part in parts) else 0


def run(name: str, folder: Path) -> str:
    """Run the probe with one library; what it said."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        subprocess.run(
            [python, "-m", "pip", "install", "-q", name, *wanted["dependencies"]], check=True
        )
    done = subprocess.run(
        [python, "-W", "ignore::DeprecationWarning", "-m", "tests.discord.library_probe",
         LIBRARIES[name]],
        cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True
    )
    version = next(each["version"] for each in json.loads(listed.stdout) if each["name"] == name)
    verdict = "passed" if done.returncode == 0 else f"FAILED\n{done.stderr}"
    return f"{name} {version}, Python {sys.version.split()[0]}: {verdict}\n{done.stdout}"


if __name__ == "__main__":
    sys.exit(main())
