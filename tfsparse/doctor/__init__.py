"""Why a file is not smaller or faster, and what to train instead."""
