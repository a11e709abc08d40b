# Everything a person does here is a target with a `## ` comment; `make help` lists them.
# Must stay true: any target works in a fresh clone, sets up what it needs itself, and leaves nothing running.
#
# Variables: PYTHON (3.11 or newer), MICROPYTHON=/path/to/interpreter, UMQTT=/folder/with/umqtt, ARGS for a target.
# For boards: BOARD, PORT, DEVICE, APP, BROKER, SSID, FIRMWARE; passwords come from dormouse.toml or the environment.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.14; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
RUN := $(VENV)/bin/python
STAMP := $(VENV)/.stamp
SUPPLY := .cache/supply
DOCS := .cache/docs
STUBS := .cache/stubs-esp32 .cache/stubs-esp32-newer .cache/stubs-rp2 .cache/stubs-rp2-newer
ARGS ?=

# $(call need,PROGRAMS,PACKAGES): where a program is missing its packages of Debian or Ubuntu are installed, as root or by
# sudo (a new machine's own first upgrade, which holds dpkg's lock, is waited for); where they may not be, one line says
# what to install and the target fails. Services that come with them are stopped: every broker and database here is
# started on a port of its own and stopped again.
programs = PATH="$$PATH:/usr/sbin:/usr/local/sbin:$$(echo /usr/lib/postgresql/*/bin | tr ' ' ':')"
define need
	missing=; for program in $(1); do $(programs) command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	[ -z "$$missing" ] || { $(call install,$(2)); \
	for program in $(1); do $(programs) command -v $$program >/dev/null || \
		{ echo "$$program is missing and may not be installed from here: apt-get install $(2)" >&2; exit 1; }; done; }
endef
define install
	if [ "$$(id -u)" = 0 ]; then as=env; elif sudo -n true 2>/dev/null; then as="sudo -n env"; else as=; fi; \
	if [ -n "$$as" ] && command -v apt-get >/dev/null; then \
		echo "installing $(1)"; get="$$as DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300"; \
		$$get install $(1) >/dev/null 2>&1 || { $$get update && $$get install $(1); } >/dev/null 2>&1; \
		for service in mosquitto postgresql nats-server rabbitmq-server haproxy; do case " $(1) " in *" $$service "*) \
			{ $$as systemctl disable --now $$service || $$as service $$service stop; } >/dev/null 2>&1;; esac; done; fi
endef
need_mosquitto = $(call need,mosquitto mosquitto_sub mosquitto_passwd,mosquitto mosquitto-clients)
need_postgresql = $(call need,initdb,postgresql)
need_haproxy = $(call need,haproxy,haproxy)
need_tools = $(call need,openssl ps systemd-analyze ip unshare,openssl procps systemd iproute2 util-linux)
need_brokers = $(call need,nats-server rabbitmq-server,nats-server rabbitmq-server)
# The page's tests: a browser, and the library that Playwright's driver needs.
need_chromium = $(call need,chromium,chromium); { PATH="$$PATH:/sbin:/usr/sbin" ldconfig -p | grep -q libatomic.so.1 || { $(call install,libatomic1); }; }
need_all = $(need_mosquitto); $(need_postgresql); $(need_brokers); $(need_tools); $(need_chromium)

.PHONY: help
help: ## list what can be done here
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | \
		awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

.PHONY: setup
setup: $(STAMP) ## make .venv; fetch umqtt.simple and MicroPython into .cache; install mosquitto
	@$(RUN) -m dormouse_host.agent.toolchain all >/dev/null
	@( $(need_mosquitto) ) || true  # without it the demo takes amqtt

.PHONY: demo
demo: setup ## the three phases with a real broker and a sleeping device; ARGS="--messages 10 --clean"
	@$(VENV)/bin/dormouse demo $(ARGS)

# What each board's MicroPython has, for tests/boards/test_stubs.py: two packages with files of the same names, so apart.
.cache/stubs-%: tests/project/stubs-%.txt | $(STAMP)
	@rm -rf $@ && $(RUN) -m pip install --quiet --quiet --disable-pip-version-check --no-deps --require-hashes --target $@ -r $< && touch $@

.PHONY: test
test: setup $(STUBS) ## the tests that take about six minutes together, on CPython and on MicroPython; ARGS="-k drain"
	@$(need_all)
	@( $(need_chromium) ) || true  # without it the page's tests are left out, and say so
	@$(RUN) -m pytest -n 6 --dist loadgroup $(ARGS)

.PHONY: proof
proof: setup $(STUBS) ## all that takes longer, in full, with a table at the end; ARGS="attack hostile" for some of its rows
	@$(need_all)
	@$(need_haproxy)
	@PYTHONPATH=tests $(RUN) -m proofs $(ARGS)

.PHONY: rotation
rotation: setup $(STUBS) ## `make test` with the samples of this day instead of this commit's: over the days, all of it
	@$(need_all)
	@DORMOUSE_SEED=$$(date -u +%F) $(RUN) -m pytest -n 6 --dist loadgroup $(ARGS)

SUITE ?= bookworm
.PHONY: fresh
fresh: ## `make demo` and `make test` on a machine with nothing but git, make and python3: [SUITE=trixie]; needs root
	@[ "$$(id -u)" != 0 ] || ( $(call need,debootstrap unshare,debootstrap util-linux) ) 2>/dev/null || true
	@PYTHONPATH=tests:host $(PYTHON) -m proofs.fresh $(SUITE) $(ARGS)

.PHONY: matrix
matrix: setup $(STUBS) ## the device's tests on each MicroPython and each umqtt.simple, as a table; ARGS="preview 1.8.0" for some
	@$(need_mosquitto)
	@PYTHONPATH=tests $(RUN) -m proofs.matrix $(ARGS)

.PHONY: flash
flash: setup ## onto a board: BOARD=RPI_PICO_W DEVICE=greenhouse [PORT=/dev/ttyACM0] [APP=app.py] [BROKER=mqtt://…] [SSID=…]
	@$(VENV)/bin/dormouse flash $(DEVICE) --board "$(BOARD)" $(if $(PORT),--port "$(PORT)") $(if $(BROKER),--broker "$(BROKER)") \
		$(if $(SSID),--ssid "$(SSID)") $(if $(APP),--app "$(APP)",$(if $(wildcard dormouse.toml),,--app device/app.py)) $(ARGS)

.PHONY: firmware
firmware: setup ## MicroPython itself onto a board: BOARD=… [PORT=…] [FIRMWARE=file]
	@$(VENV)/bin/dormouse firmware --board "$(BOARD)" $(if $(PORT),--port "$(PORT)") $(if $(FIRMWARE),--file "$(FIRMWARE)") $(ARGS)

.PHONY: romfs
romfs: setup ## the agent as a ROMFS image, which a board runs where it lies, 35 KiB of RAM less: BOARD=… [OUT=agent.romfs]
	@$(VENV)/bin/dormouse romfs --board "$(BOARD)" $(if $(OUT),--out "$(OUT)") $(ARGS)

.PHONY: monitor
monitor: setup ## a board's log, over its sleeps: [PORT=/dev/ttyACM0]
	@$(VENV)/bin/dormouse monitor $(if $(PORT),"$(PORT)") $(ARGS)

.PHONY: brokers
brokers: setup ## try mosquitto, amqtt, NATS and RabbitMQ with `dormouse broker check`: the table of docs/brokers.md
	@$(need_brokers)
	@PYTHONPATH=tests $(RUN) -m proofs.broker_table $(ARGS)

.PHONY: cluster
cluster: setup ## each of three nodes of a RabbitMQ cluster killed under a relay and its devices: nothing lost; ARGS="quorum"
	@$(need_brokers)
	@$(need_haproxy)
	@PYTHONPATH=tests $(RUN) -m proofs.cluster $(ARGS)

.PHONY: test-flash
test-flash: setup ## flash every kind of virtual board in every way; `make test` has a sample
	@$(RUN) -m pytest -n 2 -m "" tests/boards/test_flash.py $(ARGS)

.PHONY: powercut
powercut: setup ## cut the power at every instant, then at every second one too; ARGS="long/3:flash:17:torn" for one
	@PYTHONPATH=tests $(RUN) -m proofs.powercut $(ARGS)

.PHONY: update-proof
update-proof: setup ## updates over the air: power and connection cut everywhere, bad releases, a fleet, costs; ARGS="transfer cost", "resets"
	@PYTHONPATH=tests $(RUN) -m proofs.update $(ARGS)

.PHONY: pythons
pythons: setup ## the package and the host's tests on each Python from 3.11 on that is here, newest libraries; ARGS="3.12"
	@$(need_all)
	@PYTHONPATH=tests $(RUN) -m proofs.pythons $(ARGS)

.PHONY: hostile
hostile: setup ## silent, slow, lying and breaking peers, plain and TLS, as a table; then a cut at every byte; ARGS="fence"
	@PYTHONPATH=tests $(RUN) -m proofs.hostile $(ARGS)

.PHONY: wire
wire: setup ## networks that hurt, on real TCP: loss, black holes, a second each way; Linux and root; ARGS="vanish"
	@PYTHONPATH=tests $(RUN) -m proofs.wire $(ARGS)

.PHONY: unruly
unruly: setup ## programs that hang, raise, spoil and patch, on virtual boards and as processes, as a table; ARGS="hanging posix"
	@PYTHONPATH=tests $(RUN) -m proofs.unruly $(ARGS)

.PHONY: years
years: setup ## device-years in minutes: agent, relay and ledger in one simulated world; ARGS="--seconds 30 --seed 7", "--planted"
	@PYTHONPATH=tests $(RUN) -m proofs.years $(ARGS)

.PHONY: trial
trial: setup ## fifty boards at 100 times the speed, with deaths and faults: each alert told once; ARGS="--minutes 60"
	@$(need_mosquitto)
	@PYTHONPATH=tests $(RUN) -m proofs.trial $(ARGS)

.PHONY: endtoend
endtoend: setup ## broker, relays and devices through every fault, on both databases; ARGS="--case quiet --seeds 9 --jobs 4"
	@$(need_postgresql)
	@PYTHONPATH=tests $(RUN) -m proofs.endtoend $(ARGS)

.PHONY: model
model: $(STAMP) ## play seeded schedules of a model of the protocol, faults between any two steps; ARGS="--seeds 0:3000"
	@PYTHONPATH=tests $(RUN) -m proofs.model $(ARGS)

.PHONY: bench-host
bench-host: setup ## what ledger, relay and broker do in a second, and how it grows with the devices; ARGS="100 1000"
	@PYTHONPATH=tests $(RUN) -m proofs.scale $(ARGS)

.PHONY: bench-desk
bench-desk: setup ## seconds of `dormouse status` and of the page with 10,000 devices and 2 million records
	@$(need_chromium)
	@PYTHONPATH=tests $(RUN) -m proofs.scale.desk

.PHONY: flash-cost
flash-cost: setup ## what a wake costs: erases, bytes and milliseconds of flash, its life in years, and memory
	@PYTHONPATH=tests $(RUN) -m proofs.powercut.bounds

.PHONY: bench
bench: setup ## what a wake costs, beside umqtt.simple's own: round trips, bytes, erases, heap; ARGS="--svg bench.svg"
	@$(VENV)/bin/dormouse bench $(ARGS)

.PHONY: fuzz
fuzz: setup ## made-up bytes for every parser, on both interpreters; ARGS="--seconds 600 --seed 7"
	@PYTHONPATH=tests $(RUN) -m proofs.fuzz $(ARGS)

.PHONY: size
size: $(STAMP) ## bytes of .mpy of each module of the agent, and of what is flashed; fails above the limit
	@$(RUN) -m dormouse_host.lab.size

.PHONY: board
board: setup ## run a virtual board until Ctrl-C: BOARD=RPI_PICO_W DIR=build/board [APP=app.py BROKER=… DEVICE=…]
	@$(VENV)/bin/dormouse board run $(BOARD) --dir $(or $(DIR),build/board) $(if $(APP),--app $(APP)) \
		$(if $(BROKER),--broker $(BROKER)) $(if $(DEVICE),--device $(DEVICE)) $(ARGS)

.PHONY: wakes
wakes: setup ## 1000 wakes of each virtual board at 1000 times the speed: messages lost, heap leaked; ARGS="RPI_PICO_W"
	@PYTHONPATH=tests $(RUN) -m proofs.board_wakes $(ARGS)

.PHONY: pico
pico: setup ## the agent on MicroPython's own firmware, emulated: FIRMWARE=RPI_PICO_W.uf2 [ARGS="--jobs 4 tls cuts"]
	@$(need_mosquitto)
	@PYTHONPATH=tests $(RUN) -m proofs.pico $(if $(FIRMWARE),--firmware "$(FIRMWARE)") $(ARGS)

.PHONY: attack
attack: setup ## attack devices, relay and broker for real, one row each; ARGS="forged sql" for some
	@$(need_mosquitto)
	@$(need_tools)
	@PYTHONPATH=tests $(RUN) -m proofs.attack $(ARGS)

.PHONY: docs
docs: $(DOCS)/.stamp ## write docs/cli.md from the help, check every page, build the site in build/site
	@PYTHONPATH=tests $(RUN) -m project.cli_page
	@$(RUN) -m pytest -q tests/project/test_pages.py tests/project/test_readme.py tests/project/test_formats.py $(ARGS)
	@NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --quiet --strict

.PHONY: lint
lint: $(STAMP) ## ruff and mypy over everything
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

.PHONY: format
format: $(STAMP) ## rewrite the sources as ruff has them
	@$(VENV)/bin/ruff check --fix-only --quiet .
	@$(VENV)/bin/ruff format .

# $(call locked,FILE,FROM,EXTRAS): versions and hashes of what FROM needs; the machine's own index is not named in it.
define locked
	CUSTOM_COMPILE_COMMAND="make lock" $(SUPPLY)/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-emit-options \
		$(addprefix --extra ,$(3)) --output-file $(1) $(ARGS) $(2)
endef

.PHONY: lock
lock: $(SUPPLY)/.stamp ## write the locks anew from pyproject.toml, supply.in and docs.in; ARGS=--upgrade for the newest of what is not pinned
	@$(call locked,requirements.lock,pyproject.toml,alerts embedded-broker emulator metrics web dev)
	@$(call locked,supply.lock,supply.in)
	@$(call locked,docs.lock,docs.in)

.PHONY: audit
audit: $(SUPPLY)/.stamp ## look everything that `make` installs up among known vulnerabilities
	@PYTHONPATH=tests $(RUN) -m project.audit $(SUPPLY)/bin/pip-audit requirements.lock supply.lock docs.lock -- $(ARGS)

.PHONY: clean
clean: ## remove what the tools left behind
	@rm -rf build dist .mypy_cache .pytest_cache .ruff_cache
	@find . -path ./$(VENV) -prune -o -path ./.cache -prune -o \
		-name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove .venv and .cache too: back to a fresh clone
	@rm -rf $(VENV) .cache *.egg-info

$(STAMP): pyproject.toml requirements.lock
	@[ -n "$(PYTHON)" ] || { echo "Dormouse needs Python 3.11 or newer: install it, or say where it is with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Dormouse needs Python 3.11 or newer, and $(PYTHON) is not: install it, or say where it is with PYTHON=" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { $(call install,python3-venv); }; \
		$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make a virtual environment:" \
		"apt-get install python3-venv mosquitto mosquitto-clients" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(RUN) -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@


$(SUPPLY)/.stamp: supply.lock $(STAMP)
	@$(PYTHON) -m venv $(SUPPLY)
	@$(SUPPLY)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r supply.lock
	@touch $@

$(DOCS)/.stamp: docs.lock $(STAMP)
	@$(PYTHON) -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r docs.lock
	@touch $@
