"""Evaluation of trained runs: rankings beside baselines, metrics with intervals and tests, replies, reports."""
