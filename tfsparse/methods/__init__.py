"""One folder per paper: everything of a method that is not a pruner or a schedule alone."""
