"""Faults on purpose: what the library promises when a caller, a connection or a process goes away.

Each program here has a short form, run by the `test_*.py` beside it, and a long form of its own:
`python -m tests.faults.<name> --long --json tests/faults/results/<name>.json`.

`pipeline_storm` has its journals judged by a program of its own, `python -m tests.faults.check`.
"""
