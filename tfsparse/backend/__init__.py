"""What the rest of the package stands on: TensorFlow and JAX, replicas, names, files."""
