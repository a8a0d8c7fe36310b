"""Benchmarks: what this service promises about time, measured beside what one would do without it."""
