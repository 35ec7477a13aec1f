"""Baselines, intervals and reports."""
