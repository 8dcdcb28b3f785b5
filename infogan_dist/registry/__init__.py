"""Data sets, network families, adversarial losses and metrics, registered by name.

A record names its implementation as "module:attribute". Records import no torch; the implementation is imported on first use.
Built-in records are in this folder, those of plugins in entry points (infogan_dist/README.md, "Extending").
"""
