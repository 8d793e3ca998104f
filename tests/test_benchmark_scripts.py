"""Benchmarks run: at sizes that mean nothing, so that they are known to work where they mean something."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

BENCHMARKS = pathlib.Path(__file__).parents[1] / "benchmarks"

pytestmark = pytest.mark.exhaustive


def run(script, *arguments):
    command = [sys.executable, str(BENCHMARKS / script), *arguments]
    return subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        env=os.environ
        | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )


def test_the_benchmark_for_gpus_prints_one_table_of_both_backends(tmp_path):
    done = run("gpu.py", "--tiny", "--out", str(tmp_path / "gpu.json"))
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "gpu.json").read_text())
    for backend in ("jax", "tensorflow"):
        assert [list(m) for m in results[backend]["steps"].values()] == 2 * [["seconds", "needed", "weights"]]
        reached = {method: r["sparsity"] for method, r in results[backend]["comparison"].items()}
        assert reached == {
            "dense": 0,
            "one-cycle, global": pytest.approx(0.9, abs=1e-4),
            "RigL": pytest.approx(0.9, abs=1e-4),
        }
        assert f"│ {backend}" in done.stdout
    assert done.stdout.count("┏") == 1


def test_the_benchmark_for_gpus_says_that_there_is_none(tmp_path):
    done = run("gpu.py", "--backend", "tensorflow")
    assert done.returncode == 2
    assert (
        "no GPU (tensorflow: sees no GPU): install jax[cuda12] or tensorflow[and-cuda], or write --tiny" in done.stderr
    )


def test_the_benchmark_of_large_models_measures_each_training_and_operation(tmp_path):
    done = run("scale.py", "--sizes", "0.1", "--parts", "memory", "operations", "--out", str(tmp_path / "scale.json"))
    assert done.returncode == 0, done.stderr
    measured = {
        tuple(m["arguments"][1:]): m["result"]
        for m in json.loads((tmp_path / "scale.json").read_text())["measurements"]
    }
    assert len(measured) == 9
    assert measured["dense",]["mask_bytes"] == 0
    sparse = measured["global, every step",]
    assert 0 < sparse["mask_bytes"] <= sparse["weight_bytes"]
    assert sparse["optimizer_bytes"] - measured["dense",]["optimizer_bytes"] >= sparse["mask_bytes"]
    assert sparse["step_without_update"] is None
    assert measured["prune",]["peak_bytes"] > 0
