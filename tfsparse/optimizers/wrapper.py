"""An optimizer around another one."""

import keras


def _forwarded(name: str) -> property:
    """Return a property that reads and writes the inner optimizer's attribute."""

    def write(self, value):
        if "inner_optimizer" in self.__dict__:  # the base class writes its defaults before there is an inner optimizer
            setattr(self.inner_optimizer, name, value)

    return property(lambda self: getattr(self.inner_optimizer, name), write)


class OptimizerWrapper(keras.optimizers.Optimizer):
    """Forwards learning rate, settings, variables and the count of steps to the optimizer inside.

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
    learning_rate = _forwarded("learning_rate")
    iterations = property(lambda self: self.inner_optimizer.iterations)

    def __init__(self, inner_optimizer: keras.optimizers.Optimizer, name: str):
        super().__init__(learning_rate=0.0, name=name)
        self.inner_optimizer = inner_optimizer

    @property
    def variables(self):
        return super().variables + self.inner_optimizer.variables

    def scale_loss(self, loss):
        return self.inner_optimizer.scale_loss(loss)
