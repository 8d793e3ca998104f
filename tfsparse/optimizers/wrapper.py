"""An optimizer around another one."""

import keras

from tfsparse.backend import keras_internals


def _forwarded(name: str) -> property:
    """Return a property that reads and writes the inner optimizer's attribute."""

    def write(self, value):
        if "inner_optimizer" in self.__dict__:  # the base class writes its defaults before there is an inner optimizer
            setattr(self.inner_optimizer, name, value)

    return property(lambda self: getattr(self.inner_optimizer, name), write)


@keras_internals.shows_inner_averages
class OptimizerWrapper(keras.optimizers.Optimizer):
    """Stands for the optimizer inside it: settings, learning rate, variables and count of steps are that one's.

    Args:
        inner_optimizer: The optimizer that makes the steps.
        name: Name of this optimizer.
    """

    use_ema = _forwarded("use_ema")
    ema_momentum = _forwarded("ema_momentum")
    ema_overwrite_frequency = _forwarded("ema_overwrite_frequency")
    loss_scale_factor = _forwarded("loss_scale_factor")
    gradient_accumulation_steps = _forwarded("gradient_accumulation_steps")
    weight_decay = _forwarded("weight_decay")
    clipnorm = _forwarded("clipnorm")
    clipvalue = _forwarded("clipvalue")
    global_clipnorm = _forwarded("global_clipnorm")
    learning_rate = _forwarded("learning_rate")
    iterations = property(lambda self: self.inner_optimizer.iterations)
    optimizers = property(lambda self: self.inner_optimizer.optimizers)  # callbacks ask whether there are several

    def __init__(self, inner_optimizer: keras.optimizers.Optimizer, name: str):
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer

    def build(self, variables):
        if not self.inner_optimizer.built:
            self.inner_optimizer.build(variables)
        keras_internals.set_trained_variables(self, variables)

    @property
    def variables(self):
        return super().variables + self.inner_optimizer.variables

    def set_weights(self, weights):
        num_own = len(super().variables)
        super().set_weights(weights[:num_own])
        self.inner_optimizer.set_weights(weights[num_own:])

    def apply_gradients(self, grads_and_vars):
        super().apply_gradients(grads_and_vars)
        return keras_internals.num_batches(self.inner_optimizer)

    def update_step(self, gradient, variable, learning_rate):
        raise NotImplementedError(
            f"{type(self).__name__} makes no steps of single variables, after which masks would have to be applied: "
            "write optimizer.apply([gradient], [variable])."
        )

    def exclude_from_weight_decay(self, var_list=None, var_names=None):
        self.inner_optimizer.exclude_from_weight_decay(var_list, var_names)

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)
