"""Why zeros do not make a model smaller or faster on a target, and what to train instead."""
