"""Tables of tensor names, one module for each part of the avatar; `rules` reads them in both directions."""
