"""What one accelerator does with this project's work: `benchmarks/gpu.sh`."""
