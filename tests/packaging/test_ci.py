"""What .ci/run runs is what the README tells people to run."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    found = re.search(r'^test_command="(.*)"$', script, re.MULTILINE)

    assert found is not None
    assert found[1] in (ROOT / "README.md").read_text("utf-8").splitlines()
