"""What a trained model is worth on images it never saw. The only folder that knows labels; nothing of it trains.

One file per metric. A metric is a function `(model, reals, group) -> metrics` in its own file and a record in registry/metrics.py;
metrics that do not apply are absent, never 0. Every rank calls every metric: the large passes are shared out by the group.
"""
