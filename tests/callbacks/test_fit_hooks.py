"""What callbacks say of a `fit` that ends early."""

import keras
import pytest
from keras import layers

from tfsparse.callbacks import fit_hooks

RECALIBRATE = r"After a cut, measure the statistics of BatchNormalization again: tfsparse.recalibrate\(model, data\)"


@pytest.mark.parametrize(
    "middle", [layers.BatchNormalization(), keras.Sequential([layers.Dense(2), layers.BatchNormalization()])]
)
def test_a_cut_names_what_measures_batch_normalization_again(middle):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), middle])
    with pytest.warns(UserWarning, match=rf"step 4 of 12, .*a smaller total_steps. {RECALIBRATE}"):
        fit_hooks.warn_of_final_cut(model, 4, 12, 0.5, 0.8)


def test_without_batch_normalization_it_is_not_named():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.LayerNormalization()])
    with pytest.warns(UserWarning, match=r"to the target 0.8 now, .*a smaller total_steps\.$"):
        fit_hooks.warn_of_final_cut(model, 4, 12, 0.5, 0.8)
