"""What every export starts from: G with its config, FE and Q where they are wanted, and the scores that its run recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infogan_dist.checkpoints import store as checkpoints
from infogan_dist.checkpoints.run_folder import read_metrics
from infogan_dist.evaluation.code_names import CodeNames, names_in
from infogan_dist.sampling import pretrained
from infogan_dist.sampling.generator import Generator
from infogan_dist.sampling.pretrained import Pretrained
from infogan_dist.sampling.recognizer import Recognizer


@dataclass(frozen=True)
class Model:
    """A trained model in memory. `scores` are the metrics of its evaluation during training, empty where there was none."""

    G: Generator
    Q: Recognizer | None = None
    code_names: CodeNames | None = None
    scores: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def from_pretrained(cls, path: str, with_q: bool = False) -> Model:
        """From all that `Generator.from_pretrained` takes, and as it raises."""
        loaded = pretrained.load(path, "G", *(("FE", "Q") if with_q else ()))
        config, known = loaded.config, loaded.provenance
        G = Generator(loaded.network("G"), config, known)
        Q = Recognizer(loaded.network("FE"), loaded.network("Q"), config, known) if with_q else None
        return cls(G, Q, names_in(known, path), _scores(Path(path), known.step))

    def as_tensors(self) -> Pretrained:
        """The same as named tensors."""
        networks = {"G": self.G.network}
        if self.Q is not None:
            networks |= {"FE": self.Q.FE, "Q": self.Q.Q}
        tensors = {name: dict(network.state_dict()) for name, network in networks.items()}
        return Pretrained(self.G.config, tensors, self.G.provenance)


def _scores(path: Path, step: int | None) -> dict[str, float]:
    """The metrics that the run at `path`, or around the checkpoint at `path`, recorded for this step."""
    run = checkpoints.holder(path) if path.is_dir() else None
    if run is None:
        return {}
    if checkpoints.is_checkpoint(run):
        run = run.parent.parent
    rows = [row for row in read_metrics(run / "metrics.jsonl") if row["kind"] == "evaluate" and row["step"] == step]
    counts = ("kind", "step", "images_seen")
    return {key: value for row in rows[-1:] for key, value in row.items() if key not in counts and value is not None}
