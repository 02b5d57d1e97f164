"""Runs the Python blocks of a Markdown file, in order, in one namespace and one event loop.

- ```` ```python ```` is executed; `await`, `async with` and `async for` may stand at the top level.
- ```` ```text output ```` right after it is what it must have printed.
- A block whose first line is `# name.py` is written to that file instead; afterwards pytest runs on
  the test files written like that.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# (\w+\.py)\n")


@dataclass(frozen=True, slots=True)
class Block:
    """A Python block, the line it begins on, and what it must print (None: anything)."""

    line: int
    source: str
    output: str | None

    @property
    def file(self) -> str | None:
        """The file that the block is for; None when it is to be executed."""
        named = _FILE.match(self.source)
        return named[1] if named else None


def read_blocks(markdown: str) -> list[Block]:
    """The Python blocks of `markdown`."""
    fences = list(_FENCE.finditer(markdown))
    blocks: list[Block] = []
    for fence, following in zip_longest(fences, fences[1:]):
        if fence[1].strip() != "python":
            continue
        output = None
        if (
            following is not None
            and following[1].strip() == "text output"
            and not markdown[fence.end() : following.start()].strip()
        ):
            output = following[2]
        line = markdown.count("\n", 0, fence.start(2)) + 1
        blocks.append(Block(line, fence[2], output))
    return blocks


def run_blocks(path: Path, folder: Path) -> int:
    """Run every block of the file `path`, with `folder` as the working directory; how many ran."""
    blocks = read_blocks(path.read_text(encoding="utf-8"))
    with contextlib.chdir(folder), asyncio.Runner() as runner:
        namespace: dict[str, object] = {"__name__": "blocks"}
        for block in blocks:
            if block.file:
                (folder / block.file).write_text(block.source, encoding="utf-8")
                continue
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                runner.run(_execute(block, path.name, namespace))
            if block.output is not None:
                where = f"{path.name}, line {block.line}"
                assert printed.getvalue() == block.output, where
    if any((block.file or "").startswith("test_") for block in blocks):
        _run_pytest(folder)
    return len(blocks)


async def _execute(block: Block, name: str, namespace: dict[str, object]) -> None:
    code = compile(
        "\n" * (block.line - 1) + block.source,
        name,
        "exec",
        flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
        dont_inherit=True,
    )
    if code.co_flags & inspect.CO_COROUTINE:
        await eval(code, namespace)  # noqa: S307
    else:
        # In a thread, where `asyncio.run` finds no running loop.
        await asyncio.to_thread(eval, code, namespace)


def _run_pytest(folder: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            folder,
            folder,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
