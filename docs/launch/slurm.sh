#!/usr/bin/env bash
# Slurm, one process a GPU machine: sbatch docs/launch/slurm.sh --config train_1b --checkpoint MODEL --data RECORDS ...
# The run directory must lie where all machines see it. The same command continues a run.
#SBATCH --job-name=stableavatar
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --signal=TERM@300          # five minutes before the time is over: the run saves, and ends
#SBATCH --requeue
set -euo pipefail
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY
# JAX gives a process under Slurm one GPU by default; here it takes those of its machine.
export JAX_LOCAL_DEVICE_IDS=0,1,2,3,4,5,6,7
exec srun --kill-on-bad-exit=1 python train.py "$@"
