#!/usr/bin/env bash
# Makes the venv of the Python oracles, once: transformers, torch, peft, llama.cpp and their kin.
# Prints the interpreter's path. Only `make golden`, `make peers` and the scripts here need it.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tools/versions.env
source "$here/../../tools/versions.env"
venv=${RETORT_PEERS_VENV:-${RETORT_CACHE:-$HOME/.cache/retort}/venv-peers}
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import transformers, torch, gguf, trl, llama_cpp, bitsandbytes' 2>/dev/null; then
  echo "peers: installing transformers and torch into ${venv/#$HOME/\~}" >&2
  [ -x "$venv/bin/python" ] || /usr/bin/python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check \
    "torch==$TORCH_VERSION" transformers==5.24.0 tokenizers==0.23.3 safetensors==0.8.0 \
    gguf==0.19.0 numpy==2.4.6 accelerate==1.15.0 \
    trl==1.16.0 peft==0.21.2 datasets==5.2.0 xxhash==4.1.0 jinja2==3.1.6 bitsandbytes==0.50.2
  # Comes as source: compiled for this processor, some minutes.
  CMAKE_ARGS=-DGGML_NATIVE=ON "$venv/bin/pip" install --quiet --disable-pip-version-check \
    llama-cpp-python==0.3.36
fi
# Only their loss functions are called (peer_losses.py), so what they depend on stays away.
if [ ! -d "$venv/oracles/verl" ]; then
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$venv/oracles" \
    liger-kernel==0.8.5 torchtune==0.6.1 verl==0.9.1
fi
echo "$venv/bin/python"
