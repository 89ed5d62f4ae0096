"""What is particular to the training of each part of the model."""
