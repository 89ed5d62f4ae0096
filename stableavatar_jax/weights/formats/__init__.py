"""Weight files as mappings from tensor name to a tensor that is still on disk, and the way back."""
