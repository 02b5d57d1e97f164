"""`pandora_db` against the raw drivers, side by side in one run: `python -m benchmarks`.

Every figure is a ratio of two rates that were measured in turns on the same machine, with the same
durability and the same event loop on both sides; the median of the rounds counts. The raw side has
libpndb's 14 columns and three indexes and nothing else; ours has validation, history and all.
"""
