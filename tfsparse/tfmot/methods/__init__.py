"""What tf_keras forces of each method: one file per folder of `tfsparse.methods`, used only if that folder is there."""
