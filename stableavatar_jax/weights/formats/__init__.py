"""Weight files, read as mappings from names to tensors that are still on disk, and written."""
