"""What a config says, trained: runs in their directories, alone or as a matrix, and figures of them."""
