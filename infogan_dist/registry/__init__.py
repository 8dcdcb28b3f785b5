"""What a config chooses by name: data sets, network families, adversarial losses; and the metrics.

One record each, which names its implementation as "module:attribute". Records import no torch; the implementation is imported
when it is first used. Built-in records stand here, those of plugins in entry points (infogan_dist/README.md, "Extending").
"""
