# The README's commands. Programs land in build/release/bin/.
# SPDX-License-Identifier: Apache-2.0
SHELL := /bin/bash
export RETORT_VENV := $(shell tools/setup.sh venv)
export CCACHE_DIR ?= $(HOME)/.cache/retort/ccache
export CCACHE_BASEDIR := $(CURDIR)
export CCACHE_NOHASHDIR := 1
export CCACHE_SLOPPINESS := pch_defines,time_macros
PRESET ?= release
BUILD := build/$(PRESET)
JOBS ?= $(shell nproc)

.PHONY: setup build test demo lint golden signature bench peers soak clean
.DEFAULT_GOAL := build

setup: ## installs what the build needs (Debian packages, LibTorch, a small model)
	@tools/setup.sh

$(BUILD)/build.ninja: CMakeLists.txt CMakePresets.json
	@cmake --preset $(PRESET) > $(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }

build: setup
	@mkdir -p build
	@$(MAKE) --no-print-directory $(BUILD)/build.ninja
	@cmake --build $(BUILD) -j $(JOBS)

test: build ## builds and runs every test, lint included
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

clean:
	rm -rf build
