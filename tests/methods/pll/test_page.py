"""The page of a model that PLL has pruned."""

import re

import keras

import tfsparse
from tfsparse import testing
from tfsparse.reporting import page


def test_the_page_of_a_model_trained_by_pll_shows_when_pruning_began_and_ended():
    model = testing.small_model()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = testing.small_data()
    pll = tfsparse.PLL((x[:16], y[:16]), sparsity=0.5, every=2)
    model.fit(x, y, batch_size=16, epochs=4, verbose=0, callbacks=[pll])
    steps = re.search(r"started at step (\d+), ended at (\d+) of (\d+)", pll.summary()).groups()
    table = re.search(r">PLL</h2>.*?<table>(.*?)</table>", page.render(model=model), re.DOTALL)[1]
    events = ("pruning began", "pruning ended", "training ends")
    cells = r'<tr><td class="word">([^<]*)</td><td>([^<]*)</td></tr>'
    assert re.findall(cells, table) == list(zip(events, steps, strict=True))
