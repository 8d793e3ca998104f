"""Equal masks on all replicas: push and pull, and comparison by digests."""
