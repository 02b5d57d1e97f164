"""The README and the guides: their code runs, prints what they say, and their links lead on."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

import pytest

import pandora_db
from pandora_db import discord, errors, runtime, testing
from tests.examples.blocks import read_blocks, run_blocks

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
WITHOUT_CODE = {"index.md", "architecture.md", "benchmarks.md"}
CODE = re.compile(r"^```.*?^```|`[^`\n]+`", re.MULTILINE | re.DOTALL)
WORD = re.compile(r"\w+")


@pytest.fixture(params=DOCUMENTS, ids=lambda path: path.name)
def document(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_block_runs(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime.REGISTRY, "_definitions", {})  # as in a program of its own
    number = run_blocks(document, tmp_path)
    assert number > 0 or document.name in WITHOUT_CODE


def test_links_between_files_lead_somewhere(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    missing = [target for target in targets if not (document.parent / target).exists()]
    assert missing == []


def test_every_error_is_named_in_a_document() -> None:
    named = set(re.findall(r"`(\w+)`", "".join(page.read_text("utf-8") for page in DOCUMENTS)))
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    tree = {kind.__name__ for kind in kinds if issubclass(kind, errors.PandoraDbError)}
    assert tree - named == set()


@pytest.mark.parametrize("module", [pandora_db, discord, runtime, testing])
def test_every_public_name_stands_in_a_guide(module: ModuleType) -> None:
    guides = [page.read_text("utf-8") for page in DOCUMENTS if page.name != "architecture.md"]
    named = {word for text in guides for code in CODE.findall(text) for word in WORD.findall(code)}
    assert set(module.__all__) - named == set()


def test_every_test_that_a_guide_names_exists() -> None:
    tests = {path.name: path for path in (ROOT / "tests").rglob("test_*.py")}
    text = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if re.search(r"`test_\w+\.py::", line)]
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", text)
    assert len(named) >= len(rows) > 0
    for file, test in named:
        assert f"def {test}(" in tests[file].read_text(encoding="utf-8"), f"{file}::{test}"


def test_the_runner_finds_blocks_and_their_output() -> None:
    blocks = read_blocks(
        "# x\n```python\nprint(1)\n```\n\n```text output\n1\n```\n"
        "```sh\nls\n```\n```python\ny\n```\n"
    )
    assert [(block.line, block.source, block.output) for block in blocks] == [
        (3, "print(1)\n", "1\n"),
        (13, "y\n", None),
    ]


def test_the_runner_notices_a_wrong_output(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n```\n```text output\n2\n```\n")
    with pytest.raises(AssertionError):
        run_blocks(page, tmp_path)
