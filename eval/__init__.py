"""Offline evaluation of the service's own pipeline, unchanged: cases, runs, metrics, statistics,
reports, fitting."""
