#!/usr/bin/env bash
# A TPU slice of VMs: the same command on every host, which find one another.
#   docs/launch/tpu_vm.sh NAME ZONE --config train_14b --checkpoint MODEL --data RECORDS --run-dir gs-mounted/run ...
set -euo pipefail
name=$1 zone=$2; shift 2
exec gcloud compute tpus tpu-vm ssh "$name" --zone "$zone" --worker=all \
  --command "cd stableavatar-jax && .venv/bin/python train.py $(printf '%q ' "$@")"
