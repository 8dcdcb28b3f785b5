"""The command line. Everything heavy is imported by the command that needs it, so that `--help` answers at once."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from infogan_dist.errors import InfoganError, StoppedBySignal, UserError
from infogan_dist.launcher import Launch, speaks

if TYPE_CHECKING:
    from infogan_dist.config import Config
    from infogan_dist.generator import Generator

ALTERNATIONS = 5  # of bench --against
LET_SPEAK = 3  # seconds that a silent rank stays: a launcher ends all ranks when the first has failed, said or not


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code of the contract."""
    earlier = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C; training has handlers of its own
    try:
        options = _parse(arguments)
        run: Callable[[argparse.Namespace], None] = options.run
        run(options)
    except InfoganError as error:
        if speaks(os.environ) or error.concerns_one_rank:
            print(f"infogan-dist: {error}", file=sys.stderr, flush=True)
        else:
            time.sleep(LET_SPEAK)
        return error.exit_code
    except KeyboardInterrupt:  # but in training, which saves first
        print("infogan-dist: stopped by a signal", file=sys.stderr, flush=True)
        return StoppedBySignal.exit_code
    finally:
        signal.signal(signal.SIGTERM, earlier)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    options, rest = _parser().parse_known_args(arguments)
    if rest and (not hasattr(options, "overrides") or rest[0].startswith("-")):
        raise UserError(f"unrecognized argument {rest[0]} (see infogan-dist --help)")
    if rest:
        options.overrides += rest  # argparse takes positionals in one place only; ours may stand between options
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="infogan-dist", description="Train InfoGAN and use what its codes learned.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND", parser_class=_Parser)

    def command(
        name: str, help: str, example: str, run: Callable[[argparse.Namespace], None]
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name,
            help=help,
            description=help,
            epilog=f"example: {example}",
            formatter_class=argparse.RawTextHelpFormatter,
        )
        added.set_defaults(run=run)
        return added

    train = command(
        "train",
        "trains; the same command again continues the run where it stopped",
        "infogan-dist train configs/quickstart.yaml train.steps=500",
        _train,
    )
    train.add_argument(
        "config", metavar="CONFIG", help="a YAML file, or the name of a shipped config such as quickstart"
    )
    train.add_argument("overrides", nargs="*", metavar="key.path=value", help="values that replace the file's")
    train.add_argument("--resume", default="auto", metavar="auto|never|CHECKPOINT", help="where to start (auto)")
    train.add_argument("--debug", action="store_true", help="a tiny checked run on one process, into OUTPUT-debug")
    train.add_argument("--profile", action="store_true", help="where the time of some steps goes, into OUTPUT/profile")
    train.add_argument("--dry-run", action="store_true", help="print the resolved config and stop")

    sample = command(
        "sample",
        "draws images with the averaged generator",
        "infogan-dist sample runs/quickstart --out class7.png --count 64 --set categorical_0=7\n"
        "a digit rather than a class, once the classes have names:\n"
        "         infogan-dist evaluate runs/quickstart --name-codes\n"
        "         infogan-dist sample runs/quickstart --out sevens.png --digit 7",
        _sample,
    )
    sample.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a run folder, a checkpoint folder or an exported file"
    )
    sample.add_argument(
        "--out",
        required=True,
        type=Path,
        help="FILE.png, .jpg or .webp (a grid), FILE.npz (uint8, NHWC) or a name without an ending (a folder of PNGs)",
    )
    sample.add_argument("--count", type=_count, default=100, help="how many images (100)")
    sample.add_argument("--seed", type=int, default=0, help="another seed, other images (0)")
    sample.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="CODE=VALUE", help="hold a code at a value"
    )
    sample.add_argument(
        "--digit", type=int, metavar="D", help="draw this digit; the codes need names: evaluate --name-codes"
    )

    evaluate = command(
        "evaluate",
        "scores the codes and images of checkpoints on held-out images",
        "infogan-dist evaluate runs/quickstart --name-codes\n"
        "         torchrun --nproc-per-node 2 -m infogan_dist evaluate runs/quickstart --json figures.json\n"
        "several seeds, in one table with their median, range and failures (code error over 8 %):\n"
        "         for seed in 1 2 3 4 5; do\n"
        "           infogan-dist train configs/quickstart.yaml seed=$seed output=runs/seed-$seed\n"
        "         done\n"
        "         infogan-dist evaluate runs/seed-* --controls",
        _evaluate,
    )
    evaluate.add_argument(
        "checkpoints", nargs="+", type=Path, metavar="CHECKPOINT", help="run folders or checkpoint folders"
    )
    evaluate.add_argument("--data", metavar="NAME", help="other data than the run's own, such as mnist")
    evaluate.add_argument("--root", metavar="DIR", help="where the data lies, if not where the run had it")
    evaluate.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures here as well; - is stdout, the last line"
    )
    evaluate.add_argument(
        "--controls", action="store_true", help="beside them: k-means on pixels, random codes, a single class"
    )
    evaluate.add_argument(
        "--name-codes",
        action="store_true",
        help="keep the matching of classes and digits in the run folder: `sample RUN --digit 7` then works",
    )

    doctor = command(
        "doctor",
        "checks config, data, networks, disk and ranks, and says what to mend, without training",
        "infogan-dist doctor configs/quickstart.yaml\n"
        "         torchrun --nproc-per-node 2 -m infogan_dist doctor configs/quickstart.yaml",
        _doctor,
    )
    doctor.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a shipped config")
    doctor.add_argument("overrides", nargs="*", metavar="key.path=value", help="values that replace the file's")

    bench = command(
        "bench",
        "measures the training step on this machine",
        "infogan-dist bench configs/lab6.yaml --project 8 --bandwidth 25 --latency 10\n"
        "         infogan-dist bench configs/mnist.yaml --against 'python other.py --batch 100'\n"
        "         infogan-dist bench configs/mnist.yaml --until mi=2.2",
        _bench,
    )
    bench.add_argument("config", metavar="CONFIG", help="a YAML file, or the name of a shipped config")
    bench.add_argument("overrides", nargs="*", metavar="key.path=value", help="values that replace the file's")
    bench.add_argument(
        "--json", type=Path, metavar="FILE", help="write the figures here as well; - is stdout, the last line"
    )
    bench.add_argument(
        "--against",
        metavar="COMMAND",
        help="measure it in alternation with ours: any command, run without a shell, that prints a JSON\n"
        "line with images_per_second. Its OMP_NUM_THREADS is set to the threads of our step",
    )
    bench.add_argument("--alternations", type=_count, metavar="N", help=f"of ours and that command ({ALTERNATIONS})")
    bench.add_argument(
        "--until",
        metavar="METRIC=VALUE",
        help="instead of measuring, train until mi (L_I of the categorical codes, nats) or code_error (share of\n"
        "the held-out images, looked at every evaluate.every steps) is reached; saves nothing",
    )
    bench.add_argument("--project", type=_count, metavar="N", help="predict the step on N processes")
    bench.add_argument("--bandwidth", type=_positive, metavar="GB/s", help="of the link of the projection")
    bench.add_argument("--latency", type=_positive, metavar="US", help="of one message, in microseconds")

    convert = command(
        "convert",
        "writes something that samples without this package's training code",
        "infogan-dist convert runs/quickstart --to safetensors --out generator.safetensors",
        _convert,
    )
    convert.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="a run folder, a checkpoint folder or an exported file"
    )
    convert.add_argument("--to", required=True, choices=["safetensors"], help="the format to write")
    convert.add_argument("--out", required=True, type=Path, help="the file to write")
    return parser


def _started(options: argparse.Namespace) -> tuple[Config, Launch]:
    """The config of a command and how it was launched, which must share the batch evenly."""
    from infogan_dist.config_reading import load_config

    config = load_config(options.config, options.overrides)
    launch = Launch.from_environment(os.environ)
    launch.check_batch(config.train.global_batch, config.train.accumulate)
    return config, launch


def _train(options: argparse.Namespace) -> None:
    from infogan_dist.config_reading import dump_config

    config, launch = _started(options)
    if launch.precision not in (None, config.train.precision) and speaks(os.environ):
        print(
            f"infogan-dist: the launcher asks for {launch.precision}; train.precision = {config.train.precision} counts",
            file=sys.stderr,
        )
    if options.dry_run:
        if speaks(os.environ):
            print(dump_config(config), end="")
        return

    if options.debug and options.profile:
        raise UserError("--debug trains a few checked steps, whose times say nothing; give --profile without it")
    if options.debug:
        from infogan_dist.debugging import debug

        debug(config, launch)
    else:
        from infogan_dist.training import train

        train(config, launch, options.resume, options.profile)


def _sample(options: argparse.Namespace) -> None:
    from infogan_dist.generator import Generator
    from infogan_dist.sampling import batches_of, check_out, to_uint8, write_images

    launch = Launch.from_environment(os.environ)
    if launch.processes == 1:
        check_out(options.out)
    G = Generator.from_pretrained(options.checkpoint)
    codes, names = _held(options, G)
    if launch.processes == 1:
        images = to_uint8(G.sample(options.count, seed=options.seed, **codes))
        _write(lambda: write_images(images, options.out, names), options.out)
        return

    from infogan_dist.config import ProcessesConfig
    from infogan_dist.distributed import Group

    with Group(launch, "auto", ProcessesConfig()) as group:
        group.on_main(lambda: check_out(options.out))
        G.network.to(group.device)
        drawn = group.map_batches(
            batches_of(options.count), lambda ours: to_uint8(G.images_at(ours, options.seed, **codes))
        )
        images = drawn[: options.count].cpu()
        group.on_main(lambda: _write(lambda: write_images(images, options.out, names), options.out))


def _held(options: argparse.Namespace, G: Generator) -> tuple[dict[str, float], list[str]]:
    """The codes that `sample` holds; and the digit of each image of a grid, where the codes have names."""
    codes = dict(_code(setting) for setting in options.set)
    from infogan_dist.sampling import is_grid

    if options.digit is None and not is_grid(options.out):
        return codes, []

    import torch

    from infogan_dist.evaluation.code_names import held_by, names_of

    names = names_of(Path(options.checkpoint))
    if options.digit is not None:
        codes = held_by(names, options.digit, codes, options.checkpoint)
    if names is None or names.code not in G.spec.categorical_names:
        return codes, []
    drawn = G.latents_at(torch.arange(options.count), options.seed, **codes).codes.categorical
    return codes, names.of(drawn[:, G.spec.categorical_names.index(names.code)])


def _evaluate(options: argparse.Namespace) -> None:
    from infogan_dist.evaluation.command import Request, evaluate

    request = Request(
        paths=tuple(options.checkpoints),
        data=options.data,
        root=options.root,
        controls=options.controls,
        name_codes=options.name_codes,
        out=options.json,
    )
    evaluate(request, Launch.from_environment(os.environ))


def _doctor(options: argparse.Namespace) -> None:
    config, launch = _started(options)

    from infogan_dist.doctor import doctor

    doctor(config, launch)


def _bench(options: argparse.Namespace) -> None:
    if (options.bandwidth is None) != (options.latency is None):
        raise UserError("--bandwidth and --latency describe one link; give both or neither")
    if options.bandwidth is not None and options.project is None:
        raise UserError("--bandwidth and --latency are of a projection; give --project N as well")
    if options.alternations is not None and options.against is None:
        raise UserError("--alternations are with a command; give --against COMMAND as well")
    config, launch = _started(options)

    from infogan_dist.bench import Goal, Opponent, Request, Target, bench
    from infogan_dist.scaling import Link

    link = None if options.bandwidth is None else Link(options.bandwidth * 1e9, options.latency * 1e-6)
    request = Request(
        target=Target(options.project, link) if options.project else None,
        opponent=None
        if options.against is None
        else Opponent.parse(options.against, options.alternations or ALTERNATIONS),
        goal=Goal.parse(options.until) if options.until is not None else None,
        out=options.json,
    )
    bench(config, launch, request)


def _convert(options: argparse.Namespace) -> None:
    from infogan_dist.checkpoints import holder
    from infogan_dist.generator import Generator

    if options.out.suffix != ".safetensors":
        raise UserError(f"--out {options.out} does not end in .safetensors")
    run = holder(options.out)
    if run is not None:
        raise UserError(f"--out {options.out} lies in the run {run}; choose a path outside it")
    G = Generator.from_pretrained(options.checkpoint)
    _write(lambda: G.save(options.out), options.out)


def _write(write: Callable[[], Any], out: Path) -> None:
    """Write a result, making the folders above it; UserError where that cannot be done."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write()
    except OSError as error:
        raise UserError(f"--out {out} cannot be written: {error}") from error
    print(out)


def _code(setting: str) -> tuple[str, float]:
    name, _, value = setting.partition("=")
    try:
        return name, float(value)
    except ValueError:
        raise UserError(f"--set {setting} is not of the form CODE=NUMBER, such as categorical_0=7") from None


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a count")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
