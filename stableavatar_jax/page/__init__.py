"""A page in the browser: a picture and a recording in, a talking video out."""
