"""The only place that knows processes: it prepares, reduces, gathers, agrees, and says which part of a batch is ours."""
