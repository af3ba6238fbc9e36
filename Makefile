# Ebbtide. `make help` lists the targets; `make O=DIR` builds elsewhere; `make V=1` shows commands.
PREFIX  ?= /usr/local
DESTDIR ?=
O       ?= build
V       ?= 0
SAN     ?=

CC      ?= gcc
CLANG   ?= clang
VERSION := 0.1.0
ARCH    := $(shell uname -m | sed 's/x86_64/x86/;s/aarch64/arm64/')

Q := $(if $(filter 1,$(V)),,@)
say = $(if $(filter 1,$(V)),,@printf '  %-8s%s\n' '$(1)' '$(2)';)

PKG_common  := libcurl jansson libprotobuf-c yaml-0.1
PKG_node    := $(PKG_common) libbpf fuse3 libmicrohttpd libnghttp2 zlib
PKG_learner := $(PKG_common) libmicrohttpd openblas zlib
PKG_local   := $(PKG_common) libmicrohttpd
PKG_ctl     := jansson
PKG_all     := $(sort $(PKG_common) $(PKG_node) $(PKG_learner) $(PKG_local) $(PKG_ctl) cmocka)
pkg_libs     = $(shell pkg-config --libs $(1) 2>/dev/null)

WARN := -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion -Wstrict-prototypes \
        -Wmissing-prototypes -Wno-format-truncation -Wvla -Wpointer-arith -Wundef -Werror
CFLAGS   ?= -O2 -g
ALL_CFLAGS = -std=gnu17 $(WARN) $(CFLAGS) $(SAN) -pthread -D_GNU_SOURCE \
        -DEBBTIDE_VERSION='"$(VERSION)"' -Ibpf -Iagent -I$(O)/gen -MMD -MP \
        $(shell pkg-config --cflags $(PKG_all) 2>/dev/null | sed 's/-I/-isystem /g')
ALL_LDFLAGS = $(LDFLAGS) $(SAN) -pthread

PROGRAMS := ebbtide-agent ebbtide-learner ebbtide-local ebbctl
BPF_OBJS := $(patsubst bpf/%.bpf.c,$(O)/bpf/%.bpf.o,$(wildcard bpf/*.bpf.c))
BPF_SKEL := $(patsubst bpf/%.bpf.c,$(O)/gen/%.skel.h,$(wildcard bpf/*.bpf.c))
WIRE     := $(O)/gen/wire.pb-c

objs = $(patsubst %.c,$(O)/%.o,$(wildcard agent/$(1)/*.c agent/$(1)/*/*.c))
COMMON  := $(call objs,common) $(O)/gen/wire.pb-c.o
NODE    := $(call objs,node)
LEARNER := $(call objs,learner)
LOCAL   := $(call objs,local)
CTL     := $(call objs,ctl)
no_main  = $(filter-out %/main.o,$(1))

UNIT  := $(patsubst tests/unit/%.c,$(O)/tests/%,$(wildcard tests/unit/test_*.c))
INTEG := $(patsubst tests/integration/%.c,$(O)/tests/%,$(wildcard tests/integration/test_*.c))
FUZZ  := $(patsubst tests/fuzz/%.c,$(O)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
BENCH_BPF := $(patsubst tests/bench/%.bpf.c,$(O)/tests/%.bpf.o,$(wildcard tests/bench/*.bpf.c))
BENCH := $(patsubst tests/bench/%.c,$(O)/tests/%,$(filter-out %.bpf.c,$(wildcard tests/bench/*.c)))
# The comparison of policies is the one bench of several files.
COMPARISON := $(patsubst %.c,$(O)/%.o,$(wildcard tests/bench/policy/*.c))

.DEFAULT_GOAL := all
.PHONY: help all deps demo check check-vm lint format bench bench-main bench-request bench-overhead bench-agent bench-convergence bench-dqn bench-ingest bench-learner bench-policy bench-policy-live bench-reflex bench-rules bench-simulator bench-simulator-live install uninstall clean tests
.DELETE_ON_ERROR:
.SECONDARY:

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-20s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

all: $(addprefix $(O)/,$(PROGRAMS)) ## build the four programs

deps: ## install what building, testing and the demo need (Debian packages, list in vendor/)
	@vendor/install

demo: ## set up, then run the main job on real input: four policies on the same trace
	@vendor/install
	@$(MAKE) --no-print-directory all tests
	@scripts/demo $(DEMO_ARGS)

check: ## set up, then run all tests; ends with 'N passed, N failed'
	@vendor/install build run test vm
	@$(MAKE) --no-print-directory all tests
	@EBBTIDE_BUILD=$(abspath $(O)) tests/run

check-vm: ## of these, the BPF tests on Debian's kernels in QEMU, pure cgroup v2
	@vendor/install build run test vm
	@$(MAKE) --no-print-directory all tests
	@EBBTIDE_BUILD=$(abspath $(O)) tests/run vm

tests: $(UNIT) $(INTEG) $(FUZZ) $(BENCH) $(BENCH_BPF)

lint: ## clang-format, clang-tidy, cppcheck, shellcheck; warnings are errors
	@scripts/lint $(O)

format: ## rewrite the sources in the house's format
	@git ls-files '*.c' '*.h' | xargs clang-format -i

bench: bench-main bench-request bench-overhead bench-agent bench-dqn bench-ingest bench-learner bench-policy bench-reflex bench-rules bench-simulator ## run every bench; each prints lines 'figure NAME VALUE UNIT'

bench-main: all tests ## request latency against a client, the agent's cost, state-to-write latency
	@tests/bench/bench-main $(O)

bench-request: all tests ## requests counted and timed against real clients; run-queue delay against runqlat
	@tests/bench/bench-request $(BENCH_ARGS) $(O)

bench-overhead: all tests ## what a request and a context switch pay for being seen
	@tests/bench/bench-overhead $(BENCH_ARGS) $(O)

bench-agent: all tests ## the agent's CPU and memory over units and connections
	@tests/bench/bench-agent $(BENCH_ARGS) $(O)

bench-dqn: all tests ## the learner's core on CartPole, Acrobot, MountainCar; updates per second
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE $(O)/tests/bench-dqn
	@tests/bench/torch_compare.py $(O)

bench-learner: all tests ## the learner killed 200 times under load; a start from a million experiences
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE tests/bench/bench-learner $(O)

bench-ingest: all tests ## experiences a second on one core; answers to 10,000 agents
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE tests/bench/bench-ingest $(O)

bench-reflex: all tests ## how fast and how dear a refill is at 50 units, and that none is too much; two minutes
	@tests/bench/bench-reflex $(O)

bench-policy-live: all tests ## policies in turns on real processes; 15 minutes (BENCH_ARGS=--quick: 3)
	@tests/bench/bench-policy-live $(BENCH_ARGS) $(O)

bench-convergence: all tests ## steps until live learning has converged, recovery from a change; 45 minutes
	@tests/bench/bench-convergence $(BENCH_ARGS) $(O)

bench-rules: tests ## what a tick of each rule costs, and how much it remembers
	@$(O)/tests/bench-rules

bench-simulator: $(O)/tests/bench-simulator ## how many seconds of a service a millisecond simulates
	@$(O)/tests/bench-simulator

bench-policy: $(O)/tests/bench-policy ## every policy on every row of the simulator: fronts and figures
	@$(O)/tests/bench-policy $(BENCH_ARGS)

bench-simulator-live: all tests ## the simulator's p99 against the real function's; ten minutes
	@tests/bench/bench-simulator-live $(BENCH_ARGS) $(O)

install: all ## install programs, completion and documentation below DESTDIR/PREFIX
	$(call say,INSTALL,$(DESTDIR)$(PREFIX)/bin)
	$(Q)install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/doc/ebbtide
	$(Q)install -m 755 $(addprefix $(O)/,$(PROGRAMS)) $(DESTDIR)$(PREFIX)/bin/
	$(Q)install -m 644 README.md LICENSE docs/*.md $(DESTDIR)$(PREFIX)/share/doc/ebbtide/
	$(Q)install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions
	$(Q)install -m 644 scripts/completion/ebbctl.bash \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/ebbctl

uninstall: ## remove what install put there
	$(Q)rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(PROGRAMS))
	$(Q)rm -rf $(DESTDIR)$(PREFIX)/share/doc/ebbtide
	$(Q)rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/ebbctl

clean: ## remove the build folder
	$(Q)rm -rf $(O)

$(O)/agent/learner/pretraining/pretrained.o: $(wildcard agent/learner/pretraining/pretrained/*.checkpoint)

$(O)/ebbtide-agent: $(NODE) $(COMMON)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(call pkg_libs,$(PKG_node)) -lm
$(O)/ebbtide-learner: $(LEARNER) $(COMMON)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(call pkg_libs,$(PKG_learner)) -lm
$(O)/ebbtide-local: $(LOCAL) $(COMMON)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(call pkg_libs,$(PKG_local)) -lm
$(O)/ebbctl: $(CTL) $(COMMON)
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(call pkg_libs,$(PKG_common)) -lm

# Archives, so that a test links only what it calls.
$(O)/libcommon.a: $(COMMON)
$(O)/libnode.a: $(call no_main,$(NODE))
$(O)/liblearner.a: $(call no_main,$(LEARNER))
$(O)/liblocal.a: $(call no_main,$(LOCAL))
$(O)/libctl.a: $(call no_main,$(CTL))
$(O)/libcomparison.a: $(COMPARISON)
LIBS := $(addprefix $(O)/,libcomparison.a libnode.a liblearner.a liblocal.a libctl.a libcommon.a)
$(LIBS):
	$(call say,AR,$@)
	$(Q)rm -f $@ && ar rcs $@ $^

define test_rule
$(O)/tests/%: tests/$(1)/%.c $(LIBS)
	$$(call say,TEST,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CC) $$(ALL_CFLAGS) -MF $$@.d -MT $$@ -Itests -o $$@ $$< $(LIBS) $$(ALL_LDFLAGS) \
		$$(call pkg_libs,$$(PKG_all)) -lm
endef
$(eval $(call test_rule,unit))
$(eval $(call test_rule,integration))
$(eval $(call test_rule,fuzz))
$(eval $(call test_rule,bench))

$(O)/gen/wire.pb-c.c $(O)/gen/wire.pb-c.h &: agent/common/wire.proto
	$(call say,PROTOC,$<)
	$(Q)mkdir -p $(O)/gen
	$(Q)protoc-c --proto_path=agent/common --c_out=$(O)/gen wire.proto
$(O)/gen/wire.pb-c.o: $(O)/gen/wire.pb-c.c
	$(call say,CC,$@)
	$(Q)$(CC) -std=gnu17 $(CFLAGS) $(SAN) -I$(O)/gen -c -o $@ $<

define bpf_rule
$(O)/$(1)/%.bpf.o: $(2)/%.bpf.c $(wildcard bpf/*)
	$$(call say,BPF,$$@)
	$$(Q)mkdir -p $$(@D)
	$$(Q)$$(CLANG) -g -O2 -target bpf -mcpu=v3 -D__TARGET_ARCH_$$(ARCH) -Wall -Wextra \
		-Wno-unused-parameter -Werror -Ibpf -c -o $$@ $$<
	$$(Q)llvm-strip -g $$@
endef
$(eval $(call bpf_rule,bpf,bpf))
$(eval $(call bpf_rule,tests,tests/bench))
$(O)/gen/%.skel.h: $(O)/bpf/%.bpf.o
	$(call say,SKEL,$@)
	$(Q)mkdir -p $(@D)
	$(Q)PATH=$$PATH:/usr/sbin bpftool gen skeleton $< name $* > $@

$(O)/agent/%.o: agent/%.c | $(WIRE).h $(BPF_SKEL)
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -c -o $@ $<

$(O)/tests/bench/policy/%.o: tests/bench/policy/%.c | $(WIRE).h
	$(call say,CC,$@)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CFLAGS) -Itests -c -o $@ $<

-include $(shell find $(O) -name '*.d' 2>/dev/null)
