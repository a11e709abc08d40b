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
ARGS ?=

# $(call system_package,NAME): a package of Debian or Ubuntu, where it may be installed; fails in silence where not.
define system_package
	if [ "$$(id -u)" = 0 ]; then as=env; else as="sudo -n env"; $$as true 2>/dev/null || exit 1; fi; \
	command -v apt-get >/dev/null || exit 1; \
	echo "installing $(1)"; \
	get="$$as DEBIAN_FRONTEND=noninteractive apt-get -qq -y"; \
	$$get install $(1) >/dev/null 2>&1 || { $$get update && $$get install $(1); } >/dev/null 2>&1
endef

# The system's own mosquitto service is not used: every broker here is started on a port of its own and stopped again.
have_mosquitto = PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v mosquitto >/dev/null
stop_service = { $$as systemctl disable --now $(1) || $$as service $(1) stop; } >/dev/null 2>&1
mosquitto_hint = apt-get install mosquitto

# The same for PostgreSQL, which only the tests of a shared ledger need.
have_postgresql = ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || command -v initdb >/dev/null
postgresql_hint = apt-get install postgresql
need_postgresql = $(have_postgresql) || ( $(call system_package,postgresql) && $(call stop_service,postgresql) ); \
	$(have_postgresql) || echo "PostgreSQL is not installed and may not be, its tests can't run: $(postgresql_hint)" >&2

# Two more brokers, which only `dormouse broker check` is tried on.
have_brokers = PATH="$$PATH:/usr/sbin" command -v nats-server >/dev/null && PATH="$$PATH:/usr/sbin" command -v rabbitmq-server >/dev/null
brokers_hint = apt-get install nats-server rabbitmq-server
need_brokers = $(have_brokers) || ( $(call system_package,nats-server rabbitmq-server) && \
	{ $(call stop_service,nats-server); $(call stop_service,rabbitmq-server); } ); $(have_brokers) || \
	echo "NATS or RabbitMQ is not installed and may not be, their tests can't run: $(brokers_hint)" >&2

.PHONY: help
help: ## list what can be done here
	@grep -hE '^[a-z][a-z-]*:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | sort | \
		awk -F '\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'

.PHONY: setup
setup: $(STAMP) ## make .venv; fetch umqtt.simple and MicroPython into .cache; install mosquitto
	@$(RUN) -m dormouse_host.toolchain all >/dev/null
	@$(have_mosquitto) || ( $(call system_package,mosquitto) && $(call stop_service,mosquitto) ); $(have_mosquitto) || \
		echo "mosquitto is not installed and may not be: $(mosquitto_hint)" >&2

.PHONY: demo
demo: setup ## the three phases with a real broker and a sleeping device; ARGS="--messages 10 --clean"
	@$(VENV)/bin/dormouse demo $(ARGS)

# What each board's MicroPython has, for tests/test_stubs.py: two packages with files of the same names, so apart.
.cache/stubs-%: tests/stubs-%.txt | $(STAMP)
	@rm -rf $@ && $(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --target $@ -r $< && touch $@

.PHONY: test
test: setup .cache/stubs-esp32 .cache/stubs-rp2 ## every test, the device's on CPython and on MicroPython; ARGS="-k drain"
	@$(have_mosquitto) || { echo "make test needs mosquitto: $(mosquitto_hint)" >&2; exit 1; }
	@$(need_postgresql)
	@$(need_brokers)
	@$(RUN) -m pytest -n 4 --dist loadgroup $(ARGS)

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
brokers: setup ## try mosquitto, amqtt, NATS and RabbitMQ with `dormouse broker check`: the README's table
	@$(need_brokers)
	@PYTHONPATH=tests $(RUN) -m broker_table $(ARGS)

.PHONY: test-flash
test-flash: setup ## flash every kind of virtual board in every way; `make test` takes turns at them
	@FLASH_ALL=1 $(RUN) -m pytest -n 2 tests/test_flash.py $(ARGS)

.PHONY: powercut
powercut: setup ## cut the power at every instant, then at every second one too; ARGS="long/3:flash:17:torn" for one
	@PYTHONPATH=tests $(RUN) -m powercut $(ARGS)

.PHONY: hostile
hostile: setup ## silent, slow, lying and breaking peers, plain and TLS, as a table; then a cut at every byte; ARGS="fence"
	@PYTHONPATH=tests $(RUN) -m hostile $(ARGS)

.PHONY: endtoend
endtoend: setup ## broker, relays and devices through every fault, each effect counted; ARGS="--seed 7 --case quiet"
	@$(need_postgresql)
	@PYTHONPATH=tests $(RUN) -m endtoend $(ARGS)

.PHONY: bench-host
bench-host: setup ## what ledger, relay and broker do in a second, and how it grows with the devices; ARGS="100 1000"
	@PYTHONPATH=tests $(RUN) -m scale $(ARGS)

.PHONY: flash-cost
flash-cost: setup ## what a wake costs: erases, bytes and milliseconds of flash, its life in years, and memory
	@PYTHONPATH=tests $(RUN) -m powercut.bounds

.PHONY: bench
bench: setup ## what a wake costs, beside umqtt.simple's own: round trips, bytes, erases, heap; ARGS="--svg bench.svg"
	@$(VENV)/bin/dormouse bench $(ARGS)

.PHONY: fuzz
fuzz: setup ## made-up bytes for every parser, on both interpreters; ARGS="--seconds 600 --seed 7"
	@PYTHONPATH=tests $(RUN) -m fuzz $(ARGS)

.PHONY: size
size: $(STAMP) ## bytes of .mpy of each module of the agent, and of what is flashed; fails above the limit
	@$(RUN) -m dormouse_host.build

.PHONY: board
board: setup ## run a virtual board until Ctrl-C: BOARD=RPI_PICO_W DIR=build/board [APP=app.py BROKER=… DEVICE=…]
	@$(VENV)/bin/dormouse board run $(BOARD) --dir $(or $(DIR),build/board) $(if $(APP),--app $(APP)) \
		$(if $(BROKER),--broker $(BROKER)) $(if $(DEVICE),--device $(DEVICE)) $(ARGS)

.PHONY: wakes
wakes: setup ## 1000 wakes of each virtual board at 1000 times the speed: messages lost, heap leaked; ARGS="RPI_PICO_W"
	@PYTHONPATH=tests $(RUN) -m board_wakes $(ARGS)

.PHONY: attack
attack: setup ## attack devices, relay and broker for real, one row each; ARGS="forged sql" for some
	@$(have_mosquitto) || { echo "make attack needs mosquitto: $(mosquitto_hint)" >&2; exit 1; }
	@PYTHONPATH=tests $(RUN) -m attack $(ARGS)

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
lock: $(SUPPLY)/.stamp ## write requirements.lock anew from pyproject.toml; ARGS=--upgrade for the newest of what is not pinned
	@$(call locked,requirements.lock,pyproject.toml,embedded-broker dev)
	@$(call locked,supply.lock,supply.in)

.PHONY: audit
audit: $(SUPPLY)/.stamp ## look everything that `make` installs up among known vulnerabilities
	@PYTHONPATH=tests $(RUN) -m audit $(SUPPLY)/bin/pip-audit requirements.lock supply.lock -- $(ARGS)

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
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || ( $(call system_package,python3-venv) ) || \
		{ echo "$(PYTHON) cannot make a virtual environment: install python3-venv" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(RUN) -m pip install --quiet --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@


$(SUPPLY)/.stamp: supply.lock $(STAMP)
	@$(PYTHON) -m venv $(SUPPLY)
	@$(SUPPLY)/bin/python -m pip install --quiet --quiet --disable-pip-version-check --require-hashes -r supply.lock
	@touch $@
