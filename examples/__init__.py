"""Runnable examples: `python -m examples.quickstart` and so on."""
