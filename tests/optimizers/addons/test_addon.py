"""Names, configs and mistakes."""

import keras
import numpy as np
import pytest

import tfsparse
from tfsparse import testing
from tfsparse.optimizers import addons, compiled_model
from tfsparse.testing import fixtures


def test_names():
    assert {"ham", "sparse_opt"} <= {*addons.names()}
    found = addons.get_all([{"name": "ham", "alpha": 3.0}, tfsparse.SparseOpt()])
    assert found == (tfsparse.HAM(alpha=3.0), tfsparse.SparseOpt())


def test_an_optimizer_s_config_holds_them():
    optimizer = tfsparse.SparseOptimizer("sgd", addons=[tfsparse.HAM(3.0, 0.5), "sparse_opt"])
    again = tfsparse.SparseOptimizer.from_config(optimizer.get_config())
    assert tuple(again.addons) == (tfsparse.HAM(3.0, 0.5), tfsparse.SparseOpt())


def test_a_config_from_before_there_were_add_ons_has_none():
    config = tfsparse.SparseOptimizer("sgd").get_config()
    del config["addons"]
    assert tuple(tfsparse.SparseOptimizer.from_config(config).addons) == ()


def test_a_saved_model_holds_them(tmp_path):
    model = fixtures.fit(None, epochs=1, prune=tfsparse.Prune("one_cycle", 0.5, addons=["ham"]))
    model.save(tmp_path / "model.keras")
    loaded = compiled_model.sparse_optimizer(keras.models.load_model(tmp_path / "model.keras"))
    assert tuple(loaded.addons) == (tfsparse.HAM(),)


def test_sparsify_hands_them_over():
    model = testing.small_model()
    model.compile("sgd", "mse")
    assert tuple(tfsparse.sparsify(model, addons=["sparse_opt"], total_steps=9).addons) == (tfsparse.SparseOpt(),)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("ham", r"addons='ham': expected a list of add-ons, for example addons=\[tfsparse.HAM\(\)\]"),
        (tfsparse.HAM(), "expected a list of add-ons"),
        (["hamm"], "Unknown add-on 'hamm': expected one of ham, .*sparse_opt, .* Did you mean 'ham'?"),
        ([{"name": "ham", "alfa": 2}], "HAM has no option 'alfa'; its options are alpha, beta. Did you mean 'alpha'?"),
        (["ham", tfsparse.HAM(3.0)], "has HAM twice: expected at most one of each kind"),
    ],
)
def test_mistakes(given, message):
    for make in (tfsparse.Prune, lambda **options: tfsparse.SparseOptimizer("sgd", **options)):
        with pytest.raises(ValueError, match=message):
            make(addons=given)


def test_a_running_schedule_keeps_its_add_ons():
    with_ham = tfsparse.Prune("one_cycle", 0.5, total_steps=3 * fixtures.STEPS, addons=["ham"])
    model = fixtures.fit(None, epochs=1, prune=with_ham)
    with pytest.raises(ValueError, match="and for other add-ons. Finish the running schedule with its own arguments"):
        fixtures.fit_compiled(model, [tfsparse.Prune("one_cycle", 0.5)], epochs=1)
    fixtures.fit_compiled(model, [with_ham], epochs=2)
    assert compiled_model.sparse_optimizer(model).reached_target()


def test_no_add_on_changes_nothing():
    plain, empty = (fixtures.fit(None, prune=tfsparse.Prune("one_cycle", 0.5, addons=a)) for a in ((), []))
    fixtures.assert_same(plain, empty, "an empty list")
    with_ham = fixtures.fit(None, prune=tfsparse.Prune("one_cycle", 0.5, addons=["ham"]))
    hidden = [np.array(m.get_layer("hidden").kernel.numpy()) for m in (plain, with_ham)]
    assert not np.allclose(*hidden, atol=1e-4)
