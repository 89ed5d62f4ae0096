"""What training reads, item by item."""
