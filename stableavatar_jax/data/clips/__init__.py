"""Raw clips to a data set."""
