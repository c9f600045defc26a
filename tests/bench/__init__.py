"""Benchmarks: `python -m tests.bench [a b c d e f] [--json] [--scale 0.1]`. Each prints ratios,
measured in turns."""
