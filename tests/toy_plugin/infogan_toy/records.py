"""The records of the plugin. They import no torch."""

from infogan_dist.registry.data_sets import DataSetRecord
from infogan_dist.registry.families import FamilyRecord
from infogan_dist.registry.losses import LossRecord
from infogan_dist.registry.metrics import MetricRecord

STRIPES = DataSetRecord(
    name="toy-stripes",
    open="infogan_toy.stripes:open_stripes",
    classes=("horizontal", "vertical", "diagonal"),
    read_labels="infogan_toy.stripes:labels",
    licence="MIT",
)
MLP = FamilyRecord(name="toy-mlp", module="infogan_toy.mlp", image_sizes=(16,))
HINGE = LossRecord(name="toy-hinge", implementation="infogan_toy.hinge:HINGE")
BRIGHTNESS = MetricRecord(
    name="toy_brightness", implementation="infogan_toy.brightness:brightness", during_training=True
)
