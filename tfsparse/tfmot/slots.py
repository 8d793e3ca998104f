"""The state that a tf_keras optimizer keeps for a weight: momenta, averages."""

from collections.abc import Callable

import tf_keras


def finder(model: tf_keras.Model) -> Callable[..., list]:
    """`weight -> variables of its shape`; the optimizer is built now, so that a compiled step finds them."""
    optimizer, variables = getattr(model.optimizer, "inner_optimizer", model.optimizer), model.trainable_variables
    with model.distribute_strategy.scope():
        if isinstance(optimizer, tf_keras.optimizers.legacy.Optimizer):
            optimizer._create_all_weights(variables)
            return lambda weight: [optimizer.get_slot(weight, name) for name in optimizer.get_slot_names()]
        if not getattr(optimizer, "_built", False):
            optimizer.build(variables)
    return lambda weight: _of(optimizer, weight)


def _of(optimizer, weight) -> list:
    """Keras keeps slots in lists parallel to the variables."""
    places, key = optimizer._index_dict, optimizer._var_key(weight)
    lists = [v for v in vars(optimizer).values() if isinstance(v, (list, tuple)) and len(v) == len(places)]
    found = [items[places[key]] for items in lists if key in places]
    return [s for s in found if hasattr(s, "assign") and s.shape == weight.shape and s is not weight]
