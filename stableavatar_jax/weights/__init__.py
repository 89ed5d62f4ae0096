"""How weights lie on disk: file formats, the names that others give tensors, and the rules between those and ours."""
