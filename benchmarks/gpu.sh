#!/usr/bin/env bash
# What one GPU does with this project's work, in under 8 minutes: a table, and the same as JSON, in OUTPUT.
#     bash benchmarks/gpu.sh [OUTPUT [options of `python -m benchmarks.gpu`]]
# From a checkout, with a Python that has JAX for the GPU (PYTHON=..., default python3). Nothing is installed: what is
# missing is named, and its sections fail alone.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
output=$(realpath -m "${1:-outputs/gpu}")
shift || true

"$python" - <<'PYTHON'
import importlib.util
needed = {
    "all": "jax flax numpy einops jaxtyping safetensors", "step": "optax", "pytorch": "torch",
    "sample": "optax orbax.checkpoint PIL av soxr tokenizers tyro tqdm",
}
def there(name):
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False
for section, names in needed.items():
    if missing := [name for name in names.split() if not there(name)]:
        print(f"missing for {section}: {', '.join(missing)}")
PYTHON

# The package as an installation would show it: `convert` and `configs` are parts of it, and lie beside it here.
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
mkdir "$tree/stableavatar_jax"
ln -s "$PWD"/stableavatar_jax/* "$PWD/convert" "$PWD/configs" "$tree/stableavatar_jax/"
ln -s "$PWD/benchmarks" "$tree/benchmarks"
mkdir -p "$output"
cd "$tree"
PYTHONPATH="$tree${PYTHONPATH:+:$PYTHONPATH}" PYTHONDONTWRITEBYTECODE=1 "$python" -m benchmarks.gpu --output "$output" "$@"
