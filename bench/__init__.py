"""Benchmarks: ``pytest bench/`` measures, on pytest-benchmark; results/ keeps one JSON a run.

Here belongs what runs and records measurements. Cases, contenders and the float64 check are in
accel/benchmark, shared with the installed command; tests of correctness are in tests/.
"""
