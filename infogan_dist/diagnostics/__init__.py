"""Checks and measurements of a run: `doctor`, `train --debug`, memory and `bench`. README.md describes them."""
