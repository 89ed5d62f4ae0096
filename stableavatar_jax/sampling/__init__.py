"""From conditions to a video: options, denoising, decoding."""
