"""Scripted dialogues that a run must hold: `python -m benchmarks.dialogues RUN`."""
