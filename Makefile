# Tunesmith. `make` prints this help; `make demo` and `make test` set up whatever is missing first.
PY := .venv/bin/python
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: check-kills check-upgrade help setup web test-browser screens bench-ui demo demo-agent check test test-loop verify-agent test-clients bench bench-engine bench-gateway bench-sft bench-rft verify check-sandbox check-bad-machines tiny-model learning-curves learning-check learning-curves-tools demo-svg learning-curves-svg learning-check-svg check-vllm check-gguf check-trackers check-statistics wheels clean

help: ## Print this help
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-22s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready .venv/.web .venv/.wheels ## Virtual environment, packages, pages, and what the system lacks

.venv/.ready: constraints.txt requirements-dev.txt sdk/pyproject.toml platform/pyproject.toml scripts/setup.sh
	@bash scripts/setup.sh
	@touch $@

# Evaluator environments install the SDK from a wheel inside the platform: a changed SDK needs a new one.
.venv/.wheels: .venv/.ready $(shell find sdk/src -name '*.py') sdk/pyproject.toml scripts/build_sdk_wheels.py
	@$(PY) scripts/build_sdk_wheels.py
	@touch $@

# The pages of `ep logs` and of the dashboard, built into the two packages.
.venv/.web: .venv/.ready $(shell find web -path web/node_modules -prune -o -path web/dist -prune -o -type f -print) scripts/build_web.sh
	@bash scripts/build_web.sh
	@touch $@

web: .venv/.web ## Build the pages of `ep logs` and of the dashboard

demo: setup ## The whole story in about four minutes: eval, RFT, before and after
	@$(PY) scripts/demo.py

demo-svg: setup ## An agent on a server of its own, trained and drawn before and after (SERVER=py or ts)
	@$(PY) scripts/demo_svg.py --server $(or $(SERVER),py)

demo-agent: setup ## The Agent, from one sentence to a deployed model that beats its base; the report goes to docs/agent-report/
	@$(PY) scripts/demo_agent.py

check: setup ## The gates, in seconds: lint, format, types, import contracts
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/lint-imports
	@.venv/bin/pyright
	@bash scripts/check_web.sh

test: check ## The gates, then the tests
	@bash scripts/test.sh

test-loop: setup ## Only the tests that run whole jobs through the public command line (minutes)
	@$(PY) -m pytest tests/loop --durations=10

bench-rft: setup ## RFT beside TRL's GRPOTrainer: step, whole step, time to a reward; overlap and growth (BENCH="--parts PART ...", --short, --help)
	@$(PY) -m benchmarks.bench_rft $(BENCH)

verify-agent: setup ## Kill sessions of the Agent in every phase, once for each of SEEDS (three minutes each)
	@TUNESMITH_KILL_SEEDS="$(or $(SEEDS),1 2 3 4 5)" $(PY) -m pytest tests/loop/test_session_kills.py -s

check-kills: setup ## kill -9 anywhere: KILLS (100) kills in jobs of SEEDS (1 2 3), held against the same job undisturbed; writes the table
	@$(PY) -m benchmarks.kills --kills $(or $(KILLS),100) --seeds $(or $(SEEDS),1 2 3)

check-upgrade: setup ## From the last release with a job in flight: kill -9, this version on the same data folder, no step lost
	@$(PY) -m pytest -m upgrade tests/loop/test_upgrade.py

test-clients: setup ## Published clients and foreign agents, unmodified, each in an environment of its own
	@bash scripts/published_clients.sh
	@$(PY) -m pytest -m clients tests/clients tests/gateway/test_published_client.py --durations=10

test-browser: setup ## The pages in Chromium: every one at two widths in both themes, and the main stories with a live job
	@bash scripts/browser.sh
	@$(PY) -m pytest -m browser tests/browser --durations=10

screens: setup ## The pictures in docs/screens, taken anew from a studio in which a model learns (about five minutes)
	@bash scripts/browser.sh
	@$(PY) -m scripts.screens

bench-ui: setup ## `ep logs` beside the published one at 5,000 rows, alone at 100,000: paint, filter, idle CPU, memory
	@bash scripts/browser.sh
	@bash scripts/published_clients.sh
	@$(PY) -m benchmarks.bench_ui $(BENCH)

check-vllm: setup ## vLLM behind the Engine API, in an environment of its own (3.4 GB, minutes): contract, a job, the mismatch
	@bash scripts/check_vllm.sh $(CHECK)

learning-curves: setup ## RFT on the example for three seeds, with controls; prints the table and writes benchmarks/results/
	@$(PY) benchmarks/learning_curves.py

learning-check: setup ## The short form of learning-curves: one seed, judged on learning alone (about four minutes)
	@$(PY) benchmarks/learning_curves.py --seeds 0 --controls constant --no-cost-claim --results .tools/learning-check

learning-curves-tools: setup ## RFT on the tool agent for one seed, every trained token held against the gateway's record
	@$(PY) benchmarks/learning_curves_tools.py

learning-curves-svg: setup ## RFT on the SVG agent: three seeds with the Python server, one with TypeScript (CURVES: more options)
	@$(PY) benchmarks/learning_curves_svg.py $(CURVES)

learning-check-svg: setup ## The short form of learning-curves-svg: one seed, one pass, the Python server
	@$(PY) benchmarks/learning_curves_svg.py --seeds 0 --ts-seeds --epochs 1 --problems 150 --pass-problems 25 --results .tools/learning-check

bench: setup ## Engine and learner beside their peers, as ratios
	@$(PY) -m benchmarks.bench_engine
	@$(PY) benchmarks/bench_learner.py

bench-engine: setup ## The engine beside transformers' generate and a floor of matrix products, as ratios (BENCH: more options)
	@$(PY) -m benchmarks.bench_engine $(BENCH)

bench-gateway: setup ## What a recorded model call costs the gateway, beside a forwarder, a floor and LiteLLM
	@$(PY) -m benchmarks.bench_gateway $(BENCH)

bench-sft: setup ## Supervised fine-tuning beside TRL's SFTTrainer: speed, memory, equal losses (BENCH: more options)
	@$(PY) -m benchmarks.bench_sft $(BENCH)

check-sandbox: setup ## Attack the sandbox in the long form, and print what came of each attack
	@TUNESMITH_LONG_ATTACKS=1 $(PY) -m pytest -q -s tests/evaluators/test_attacks.py

check-bad-machines: setup ## Full disks, dead proxies, no UTF-8, few files, another user, a set clock: one by one, as root; prints a table
	@TUNESMITH_LONG_BAD_MACHINES=1 $(PY) -m pytest -q -s tests/loop/test_bad_machines.py

tiny-model: setup ## Pre-train the bundled model again from its seed (about 20 minutes)
	@$(PY) -m scripts.tiny_model.pretrain --task sums --seed 0 --out .tools/tiny-model

check-gguf: setup ## GGUF exports run by llama.cpp itself beside transformers: bundled model and seven small architectures (a minute)
	@bash scripts/check_gguf.sh
	@$(PY) -m scripts.check_gguf

check-trackers: ## Trackers against TensorBoard's reader, an MLflow server and W&B's package, in an environment of their own
	@bash scripts/check_trackers.sh

check-statistics: setup ## Coverage of the intervals and false positives of the comparison, simulated (about two minutes)
	@$(PY) -m scripts.check_statistics

verify: setup ## Check the claims on this machine, one line each (VERIFY: more options)
	@$(PY) -m scripts.verify $(VERIFY)

wheels: setup ## Build both wheels into dist/
	@$(PY) scripts/build_sdk_wheels.py
	@$(PY) -m build --wheel --outdir dist sdk
	@$(PY) -m build --wheel --outdir dist platform

clean: ## Remove what the demo and the builds left
	rm -rf .demo dist .tools
