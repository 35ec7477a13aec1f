"""Exports: what a run has learned, in the formats of other programs, and checked with these programs."""
