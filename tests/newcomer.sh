#!/usr/bin/env bash
# The newcomer's walk: the README's commands in order, with the tiny model, from a folder of clips to a video.
#
#     tests/newcomer.sh CLIPS FACE_MODELS IMAGE AUDIO [OUTPUT]
#
# CLIPS is any folder of videos of people who speak, FACE_MODELS holds the two .tflite files that docs/data.md names.
# Run it in an activated environment (`. .venv/bin/activate`) with the extra `face`. OUTPUT must not exist yet.
set -euo pipefail
[ $# -ge 4 ] || { sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 2; }
clips=$(realpath "$1") faces=$(realpath "$2") image=$(realpath "$3") audio=$(realpath "$4")
out=${5:-$(mktemp -d)/newcomer}
cd "$(dirname "$0")/.."

say() { printf '\n%4d s  %s\n' "$SECONDS" "$*"; "$@"; }

say python -m convert random --config tiny --output "$out/weights"
say python -m stableavatar_jax.data prepare --source "$clips" --output "$out/prepared" \
    --detector "$faces/face_detection_short_range.tflite" --landmarks "$faces/face_landmark.tflite"
say python -m stableavatar_jax.data build --source "$out/prepared" --output "$out/clips"
say python -m stableavatar_jax.data inspect "$out/clips"
say python -m stableavatar_jax.data precompute --data "$out/clips" --output "$out/records" \
    --checkpoint "$out/weights" --frames 9 --sizes 64 64 --windows-per-clip 1
say python train.py --config train_tiny --checkpoint "$out/weights" --data "$out/records" --run-dir "$out/run"
say python train.py --run-dir "$out/run" --export "$out/trained"
say python sample.py --checkpoint "$out/trained" --image "$image" --audio "$audio" --output "$out/talk.mp4" \
    --steps 5 --dtype float32
say test -s "$out/talk.mp4"
printf '\n%s is done after %d s\n' "$out/talk.mp4" "$SECONDS"
