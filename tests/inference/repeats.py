"""Repeated n-grams by brute force, for the tests of sampling and decoding."""

from __future__ import annotations


def completes(output, n):
    """Tokens that would make the last n tokens stand twice in `output`."""
    if len(output) < n - 1:
        return set()
    start = output[len(output) - (n - 1) :]
    return {output[i + n - 1] for i in range(len(output) - n + 1) if output[i : i + n - 1] == start}
