"""A procedural world of talking characters that knows the truth: what is said when, and how far each mouth is open."""
