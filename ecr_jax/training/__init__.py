"""Optimiser, shardings, checkpoints, the step and the loop."""
