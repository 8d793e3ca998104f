"""What the configs train: `models`, `data`, and the learning rates `one_cycle` and `step_rate`."""
