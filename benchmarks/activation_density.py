"""What does training by activation density save, and what does it cost?

Trains LeNet-5 on MNIST, a small VGG and ResNet-20 on CIFAR-10, dense and with the network shrinking by the default and
by other rules, for as many epochs, and writes the tables of `docs/activation_density.md`. The budget that fits a CPU:
CIFAR-10 as JPEG, resized to 16x16 pixels, 20 epochs. On a GPU, through the JAX backend too, `--full` trains the dense
networks and the default rule as long as the configs say. Runs that are finished are not run again, broken-off ones are
resumed.

    TFDS_DATA_DIR=... python benchmarks/activation_density.py --networks lenet5 resnet20 vgg_small
    TFDS_DATA_DIR=... python benchmarks/activation_density.py --times 11   # seconds per step of every stage, in turns
    python benchmarks/activation_density.py --tables
"""

import argparse
import itertools
import json
import pathlib
import statistics

import machine
import tables
import trainings

from tfsparse.experiments import config
from tfsparse.experiments.differences import paired

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results" / "activation_density"
SMALL = ("epochs=20", "data.name=cifar10_jpeg", "data.image_size=16")
SHORT = "min_epochs: 4, window: 3, max_epochs: 5, min_kept: 0"  # the density alone decides about the widths
LONG = "min_epochs: 10, max_epochs: 10, min_kept: 0"
NETWORKS = {"lenet5": "LeNet-5", "vgg_small": "small VGG", "resnet20": "ResNet-20"}
CONFIGS = {"lenet5": "mnist_lenet5", "vgg_small": "cifar10_vgg_small", "resnet20": "cifar10_resnet20"}
PARTS = {
    "dense": "dense",
    "default": "activation density, defaults",
    "shrinking": "width times density, several cuts",
    "once": "width times density, one cut",
}


def train(network: str, part: str, seed: int, runs: pathlib.Path, full: bool) -> None:
    """One training through the command line, and its run.json among the results."""
    name = f"{network}-{part}-seed{seed}"
    small = () if full or network == "lenet5" else SMALL
    file = f"{CONFIGS[network]}_activation_density"
    smallest = config.load(tables.ROOT / "configs" / f"{file}.yaml").activation_density.smallest
    section = f"activation_density={_section(network, part, smallest)}"
    trainings.train(file, RESULTS / f"{name}.json", runs, name, f"seed={seed}", *small, section)


def _section(network, part, smallest):
    options = {
        "default": "",
        "shrinking": f"rounds: 2, {LONG}" if network == "lenet5" else f"rounds: 3, {SHORT}",
        "once": f"rounds: 1, {SHORT}, tolerance: 0.05",
    }
    return "null" if part == "dense" else f"{{smallest: {smallest}, {options[part]}}}"


def finished(network: str, part: str) -> list[dict]:
    """The runs that are there, one per seed."""
    return [json.loads(file.read_text()) for file in sorted(RESULTS.glob(f"{network}-{part}-seed*.json"))]


def results() -> str:
    """A line per network, dense and shrinking."""
    titles = ["network", "", "accuracy, %", "best, %", "minus dense, by seed"]
    titles += ["parameters", "MACs", "training complexity", "wall time, min"]
    return tables.markdown(titles, [_row(n, p) for n in NETWORKS for p in PARTS if finished(n, p)])


def _row(network, part):
    runs = [run["summary"] for run in finished(network, part)]
    accuracies = [tables.mean([100 * run[key] for run in runs]) for key in ("accuracy", "best_accuracy")]
    sizes = _sizes(runs, finished(network, "default") or finished(network, "shrinking"))
    difference = "" if part == "dense" else _difference(network, part)
    return [NETWORKS[network], PARTS[part], *accuracies, difference, *sizes, _time(network, part)]


def _by_seed(network, part, key):
    return {run["seed"]: run["summary"][key] for run in finished(network, part)}


def _difference(network, part):
    """Points of accuracy above the dense network, with the interval of the seeds that both have."""
    ours, dense = (_by_seed(network, each, "accuracy") for each in (part, "dense"))
    return paired(*({seed: 100 * value for seed, value in row.items()} for row in (ours, dense))).marked(2)


def _time(network, part):
    """Of the whole training with validation, measuring, resizing and writing; its share of the dense ones' with the
    same seeds."""
    seconds, dense = (_by_seed(network, each, "seconds") for each in (part, "dense"))
    mean = statistics.fmean(seconds.values())
    return f"{mean / 60:.1f} ({mean / statistics.fmean(dense[seed] for seed in seconds):.2f})"


def _sizes(runs, shrinking):
    """Parameters, multiply-adds per image and training complexity; the dense ones are in the runs that shrink."""
    if "macs" in runs[0]:
        shares = [f"{_mean(runs, key):,.0f} (1/{_mean(runs, f'dense_{key}') / _mean(runs, key):.1f})" for key in _SIZES]
        return [*shares, tables.mean([run["training_complexity"] for run in runs])]
    return [*(f"{_mean([r['summary'] for r in shrinking], f'dense_{key}'):,.0f}" for key in _SIZES), "1"]


_SIZES = ("parameters", "macs")


def _mean(runs, key):
    return sum(run[key] for run in runs) / len(runs)


def times(network: str, rounds: int) -> None:
    """Seconds per training step of every stage's network, which take turns in one process; beside its run.json."""
    import slim_latency

    from tfsparse import shrink
    from tfsparse.experiments import assembly
    from tfsparse.experiments.zoo import data as zoo

    run = finished(network, "shrinking")[0]
    settings = config.validate(run["config"])
    data = zoo.load(**settings.data.model_dump(exclude={"dir"}), epochs=1)
    dense = assembly.compiled_model(settings, data)
    widths = [dict(widths) for widths in dict.fromkeys(tuple(e["widths"].items()) for e in run["epochs"])]
    networks = [dense, *(shrink(dense, keep=width) for width in widths[1:])]
    batch = next(iter(data.train))
    steps = {str(stage): lambda model=model: model.train_on_batch(*batch) for stage, model in enumerate(networks)}
    pairs = slim_latency.turns(steps, rounds)
    seconds = {stage: [statistics.median(clock) for clock in zip(*both, strict=True)] for stage, both in pairs.items()}
    measured = {"machine": machine.describe(), "rounds": rounds, "seconds": seconds}
    machine.write(RESULTS / f"{network}-times.json", measured)


def _times(network):
    """What a step of each stage takes of the dense network's time, by the processor's clock; seed 0."""
    path = RESULTS / f"{network}-times.json"
    seconds = json.loads(path.read_text())["seconds"] if path.exists() else {}
    return {int(stage): both[1] / seconds["0"][1] for stage, both in seconds.items()}


def stages() -> str:
    """Every stage of the runs that shrink: how long, how wide, how dense, how accurate."""
    titles = ["network", "epochs", "widths", "density at the end", "MACs, %", "time per step, %", "best accuracy, %"]
    parts = [(network, part) for network in NETWORKS for part in PARTS if part != "dense"]
    rows = [row for n, part in parts for run in finished(n, part) if run["seed"] == 0 for row in _stages(n, part, run)]
    return tables.markdown(titles, rows)


def _stages(network, part, run):
    shares = _times(network) if run["seed"] == 0 and part == "shrinking" else {}
    for stage, epochs in itertools.groupby(run["epochs"], lambda epoch: epoch["stage"]):  # 0 again after a way back
        epochs = list(epochs)
        last = epochs[-1]
        yield [
            f"{NETWORKS[network]}, {PARTS[part]}" if epochs[0]["epoch"] == 1 else "",
            f"{epochs[0]['epoch']} to {last['epoch']}",
            "-".join(map(str, last["widths"].values())),
            f"{last['density']:.2f}",
            f"{100 * last['macs'] / run['summary']['dense_macs']:.0f}",
            f"{100 * shares[stage]:.0f}" if shares else "",
            f"{100 * max(epoch['val_accuracy'] for epoch in epochs):.2f}",
        ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--full", action="store_true", help="the configs' own budget instead of the small one")
    parser.add_argument(
        "--runs", type=pathlib.Path, default=tables.ROOT / "runs" / "activation_density", help="for the runs"
    )
    parser.add_argument("--tables", action="store_true", help="only write the tables")
    parser.add_argument("--times", type=int, metavar="ROUNDS", help="only measure steps")
    arguments = parser.parse_args()
    for which in arguments.networks if arguments.times else ():
        times(which, arguments.times)
    if not arguments.tables and not arguments.times:
        for number in arguments.seeds:
            for which in arguments.networks:
                for how in arguments.parts:
                    train(which, how, number, arguments.runs.resolve(), arguments.full)
    tables.write("docs/activation_density.md", "results", results())
    tables.write("docs/activation_density.md", "stages", stages())
