"""From inputs to what the transformer is conditioned on."""
