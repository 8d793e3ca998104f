"""Equal masks on all replicas: comparison by digests, push and pull."""
