# The front door. Meson and Ninja do the work: packagers need only `meson setup build && ninja -C build`.
# Each target first looks whether the packages it needs are installed, installs what is missing (scripts/deps), and is
# quick when nothing has changed.

PREFIX ?= /usr/local
# lib: what the loader and pkg-config look through on every distribution.
LIBDIR ?= lib

.DEFAULT_GOAL := all
.PHONY: all deps run quick test test-long torture peers-loss test-kernels coverage lint format bench bench-waiters symbols install uninstall clean help

all:
	@scripts/deps build
	@scripts/build plain

deps:
	@scripts/deps build run test lint bench long kernels
	@echo "All packages are installed."

run:
	@scripts/deps build run
	@scripts/build plain
	@exec scripts/demo $(DEMO)

quick:
	@scripts/deps build test
	@scripts/test quick

test:
	@scripts/deps build test
	@scripts/test gate

test-long:
	@scripts/deps build test long
	@scripts/test long

# Crash, cut, break and fuzz for as long as one likes: TIME=8h SEED=1 ONLY="sim-log power" JOBS=2.
torture:
	@scripts/deps build test long
	@scripts/build plain -Dtests=enabled
	@scripts/build fuzz
	@scripts/torture $(if $(TIME),--time $(TIME)) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only "$(ONLY)") $(if $(JOBS),--jobs $(JOBS))

# What whilst and its peers lose of what they have acknowledged when the power goes: CUTS=20 PEERS="whilst redis".
peers-loss:
	@scripts/deps build test bench
	@scripts/build plain -Dtests=enabled
	@tests/power/peers.py $(if $(CUTS),--cuts $(CUTS)) $(PEERS)

# The conformance tests, and some of the server's, on the kernels of Debian 11 and 12, in virtual machines: KERNEL="6.1 5.10" or
# images, MINUTES=60 at most; GO_ON=1 leaves out what has passed before.
test-kernels:
	@scripts/deps build test kernels
	@scripts/build plain -Dtests=enabled
	@scripts/test-kernels $(if $(GO_ON),--go-on) $(if $(MINUTES),--minutes $(MINUTES)) $(KERNEL)

coverage:
	@scripts/deps build test long
	@scripts/coverage $(COVERAGE)

lint:
	@scripts/deps build test lint
	@scripts/lint

format:
	@scripts/deps lint
	@git ls-files '*.c' '*.h' | xargs clang-format-14 -i

bench:
	@scripts/deps build bench
	@scripts/build plain -Dbench_peers=enabled
	@bench/run $(BENCH)

# 100,000 callers that wait, in a virtual machine, where a process may have so many descriptors.
bench-waiters:
	@scripts/deps build bench kernels
	@scripts/build plain -Dbench_peers=enabled
	@bench/many-waiters $(WAITERS)

# The list of what the shared library exports, after a deliberate change to it.
symbols:
	@scripts/build plain
	@scripts/check-symbols --update

install:
	@scripts/deps build
	@scripts/build plain -Dprefix=$(abspath $(PREFIX)) -Dlibdir=$(LIBDIR)
	@DESTDIR="$(DESTDIR)" meson install -C build --no-rebuild
	@if [ -z "$(DESTDIR)" ] && [ "$$(id -u)" = 0 ]; then ldconfig; fi

# What the last "make install" of this build folder installed, be it below DESTDIR or not.
uninstall:
	@ninja -C build uninstall
	@if [ "$$(id -u)" = 0 ]; then ldconfig; fi

clean:
	rm -rf build build-asan build-tsan build-clang build-fuzz build-lint build-coverage

help:
	@echo "make             build (build/)"
	@echo "make run         build, start the server with a real backend and workers, show what it does; DEMO=--once ends after that"
	@echo "make quick       the tests that take seconds"
	@echo "make test        what CI runs: all engines, plain and with sanitizers"
	@echo "make test-long   everything, and valgrind"
	@echo "make torture     crash, cut, break and fuzz for as long as one likes; TIME=8h SEED=1 ONLY='sim power' JOBS=2"
	@echo "make peers-loss  what whilst and its peers lose when the power goes; CUTS=20 PEERS='whilst redis'"
	@echo "make test-kernels  the conformance tests on the kernels of Debian 11 and 12, in virtual machines; MINUTES=60 GO_ON=1"
	@echo "make coverage    which lines of src/{runtime,engine,io} the tests run; COVERAGE='socket file' chooses tests"
	@echo "make lint        layout, static analysis, layers, exported symbols"
	@echo "make format      lay out all C files (clang-format 14)"
	@echo "make bench       measure, beside the peers; BENCH='echo submit' chooses, BENCH=--help lists"
	@echo "make bench-waiters  what each of 100,000 callers that wait costs, in a virtual machine: half an hour"
	@echo "make install     PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)"
	@echo "make uninstall   remove what the last make install installed"
	@echo "make deps        install all Debian packages that any target needs"
	@echo "make clean       remove the build folders (not the data of make run)"
