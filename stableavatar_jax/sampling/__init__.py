"""From conditions to a video: what to sample, the denoising, the decoding."""
