"""Drawn characters that talk, and the truth about them: phonemes with their times, and how far each mouth is open."""
