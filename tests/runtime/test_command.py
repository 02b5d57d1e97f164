"""A program gets exactly what it was given; what cannot be given is refused before it begins."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pandora_db import ExecutionFailed, InvalidInput
from pandora_db.runtime import run_process

posix = pytest.mark.skipif(sys.platform == "win32", reason="its environment is another kind")

# Byte for byte, as the system handed it over; Python itself adds LC_CTYPE where none is set.
SHOW = "import os; print(*sorted(map(ascii, os.environb.items())), sep=chr(10))"
ODD = {
    "PATH": os.defpath,
    "my.dotted": "1",
    "with-dash": "2",
    "BASH_FUNC_x%%": "() { :; }",
    "empty": "",
    "bytes": "\udcff",
    "lines": "a\nb",
}


@posix
@pytest.mark.parametrize("env", [{}, ODD, None])
async def test_a_program_gets_exactly_its_environment(
    env: dict[str, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("of.this-process", "3")
    monkeypatch.delenv("PWD", raising=False)
    command = [sys.executable, "-c", SHOW]
    plain = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert "my.dotted" in plain.stdout or env is not ODD
    lines: list[str] = []
    await run_process(*command, env=env, on_line=lines.append)
    assert lines == plain.stdout.splitlines()


@posix
async def test_it_stands_where_a_plain_start_puts_it() -> None:
    """Nothing to read, no open files of ours, a session of its own, and no signal ignored."""
    code = """
import os, signal
print(os.getpid() == os.getsid(0) == os.getpgrp(), os.read(0, 1), sorted(os.listdir("/dev/fd"))[3:])
print([s for s in signal.Signals if signal.getsignal(s) is signal.SIG_IGN])
"""
    arguments = [sys.executable, "-c", code]
    plain = subprocess.run(
        arguments, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        start_new_session=True, check=True,
    )  # fmt: skip
    assert list((await run_process(*arguments)).tail) == plain.stdout.splitlines()


@posix
async def test_what_cannot_be_started_is_said_as_by_a_plain_start(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("text")
    bare = tmp_path / "bare"
    bare.write_text("echo no shell was asked\n")
    bare.chmod(0o755)
    lost = tmp_path / "lost"
    lost.write_text("#!/no/such/interpreter\n")
    lost.chmod(0o755)
    for program in (
        "no-such-program", "./missing", str(tmp_path), str(plain), str(bare), str(lost), "-c",
        "exec",
    ):  # fmt: skip
        with pytest.raises(OSError, match="Errno") as said:
            subprocess.run([program], cwd=tmp_path, check=True)
        with pytest.raises(ExecutionFailed, match="cannot be started") as failed:
            await run_process(program, cwd=tmp_path)
        assert str(failed.value).endswith(str(said.value))
    with pytest.raises(ExecutionFailed, match=r"Errno 2\].*nowhere"):
        await run_process("true", cwd=tmp_path / "nowhere")
    with pytest.raises(ExecutionFailed, match="Errno 7"):
        await run_process("true", "x" * 3_000_000)
    tool = tmp_path / "tool"
    tool.write_text("#!/bin/sh\necho $1 $PWD\n")
    tool.chmod(0o755)
    assert (await run_process("./tool", "a b", cwd=tmp_path)).tail == (f"a b {tmp_path}",)
    assert (await run_process("tool", "c", env={"PATH": str(tmp_path)})).tail[0].startswith("c ")


@posix
async def test_nothing_stays_open() -> None:
    def opened() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    await run_process("true")  # the guardian has its pipe
    before = opened()
    for _ in range(5):
        await run_process("true")
        with pytest.raises(ExecutionFailed):
            await run_process("no-such-program")
    assert opened() == before


@pytest.mark.parametrize(
    ("field", "message", "options"),
    [
        ("env", "the value of 'A' in env is of type int", {"env": {"A": 5}}),
        ("env", "the value of 'A' in env is of type bytes", {"env": {"A": b"5"}}),
        ("env", "the value of 'A' in env is text with a NUL", {"env": {"A": "s3cret\0"}}),
        ("env", "a name in env is 'A=B', a text of 3", {"env": {"A=B": "1"}}),
        ("env", "a name in env is an empty text", {"env": {"": "1"}}),
        ("env", "a name in env is 5", {"env": {5: "x"}}),
        ("env", r"a name in env is 'A\\x00', text with a NUL", {"env": {"A\0": "x"}}),
        ("env", "env is a text of 1 character; expected a mapping", {"env": "x"}),
        ("env", "env is a value of type list", {"env": [("A", "1")]}),
        ("cwd", "cwd is 5; expected a path", {"cwd": 5}),
        ("cwd", "cwd is an empty text", {"cwd": ""}),
        ("cwd", "cwd is text with a NUL", {"cwd": "\0"}),
        ("cwd", "cwd is a value of type bytes", {"cwd": b"/"}),
        ("on_line", "on_line is a text of 1 character; expected what is", {"on_line": "x"}),
        ("on_error_line", "on_error_line is 5; expected what is", {"on_error_line": 5}),
        ("check", "check is a text of 2 characters; expected True or False", {"check": "no"}),
    ],
)
async def test_a_bad_option_is_refused_before_anything_is_started(
    field: str, message: str, options: Any, tmp_path: Path
) -> None:
    mark = tmp_path / "begun"
    with pytest.raises(InvalidInput, match=message) as refused:
        await run_process(sys.executable, "-c", f"open({str(mark)!r}, 'w')", **options)
    assert refused.value.field == field
    assert "s3cret" not in str(refused.value)
    assert not mark.exists()


@posix
@pytest.mark.parametrize(
    ("field", "command", "options"),
    [
        ("env", ["true"], {"env": {"A": "\ud800"}}),
        ("env", ["true"], {"env": {"\ud800": "a"}}),
        ("cwd", ["true"], {"cwd": "\ud800"}),
        ("arguments", ["true", "\ud800"], {}),
        ("program", ["\ud800"], {}),
    ],
)
async def test_a_lone_surrogate_is_refused(field: str, command: list[str], options: Any) -> None:
    with pytest.raises(InvalidInput, match="lone surrogate") as refused:
        await run_process(*command, **options)
    assert refused.value.field == field


async def test_a_program_without_name_and_an_argument_that_is_none_are_refused() -> None:
    with pytest.raises(InvalidInput, match="program is an empty text"):
        await run_process("")
    for argument in (5, None, b"x", "a\0b"):
        with pytest.raises(InvalidInput, match="arguments is"):
            await run_process("true", argument)  # type: ignore[arg-type]
