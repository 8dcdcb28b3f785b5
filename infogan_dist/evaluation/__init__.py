"""Metrics of a trained model on images that it was not trained on. The only package that reads labels; it trains no network of a run.

A metric is a function `(model, reals, group) -> metrics` in a file of metrics/ and a record in registry/metrics.py. Every rank calls
every metric. Metrics that do not apply are absent, never 0. README.md describes them.
"""
