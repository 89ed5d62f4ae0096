#!/usr/bin/env bash
# Plain machines that see one folder: docs/launch/hosts.sh "HOST0 HOST1 ..." --config train_1b ... (by ssh, no scheduler).
set -euo pipefail
read -ra hosts <<< "$1"; shift
port=${PORT:-12355} here=$PWD
for i in "${!hosts[@]}"; do
  ssh "${hosts[$i]}" "cd $here && .venv/bin/python train.py $(printf '%q ' "$@") \
    --distributed.coordinator ${hosts[0]}:$port --distributed.processes ${#hosts[@]} --distributed.process $i" &
done
wait
