# edgert. `make help` lists the targets. BUILD names the output folder: make BUILD=build-mine
BUILD   ?= build
CC      ?= gcc
PYTHON  ?= python3
SAN     ?=
V       ?=
Q       := $(if $(V),,@)
# V=1 shows the commands.
# A folder of the form build-NAME built with SAN=address,undefined or SAN=thread is instrumented.
PKGS    := libxxhash jansson yaml-0.1 libpcre2-8 upower-glib gio-unix-2.0
# What one room alone needs: whoever links the room links these too, and the library does not.
PKGS_cli      := cairo ncursesw
# Headers of what a room loads when it first needs it (variants/blas.h).
PKGS_loaded   := openblas lapacke
OPT     ?= -O2
CFLAGS  ?= $(OPT) -g
WARN    := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla -Wundef \
           -Wpointer-arith -Wcast-qual $(if $(CI),-Werror)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) $(PKGS_cli) $(PKGS_loaded) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
ALL_CFLAGS  = -std=gnu17 -D_GNU_SOURCE -I. $(patsubst -I%,-isystem %,$(PKG_CFLAGS)) $(WARN) -fPIC -pthread \
              -ffp-contract=off -fno-math-errno -MMD -MP $(if $(SAN),-fsanitize=$(SAN) -fno-omit-frame-pointer -fno-sanitize-recover=all) $(CFLAGS)
LIBS    = $(PKG_LIBS) -lsensors -lm -ldl -pthread $(LDFLAGS)
LIBS_cli      := $(shell pkg-config --libs $(PKGS_cli) 2>/dev/null)

# Rooms from the ground up; each may include those named after it (tools/layers reads this table).
ROOMS   := base runtime variants device policies governor sim engine cli
uses_base     :=
uses_runtime  := base
uses_variants := runtime base
uses_device   := base
uses_policies := device base
uses_governor := policies device base
uses_sim      := policies device base
uses_engine   := governor runtime policies device base
uses_cli      := engine variants sim governor policies device runtime base

# What the compiler's target cannot run is left out: kernels of another architecture.
X86_KERNELS := %_avx2.c %_avx2.h %_avxvnni.c %_avx512vnni.c
ARM_KERNELS := %_neon.c %_neon.h %_neondot.c %_neoni8mm.c
TARGET  := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine)))
FOREIGN := $(if $(filter x86_64,$(TARGET)),,$(X86_KERNELS)) $(if $(filter aarch64,$(TARGET)),,$(ARM_KERNELS))
sources = $(filter-out $(FOREIGN),$(wildcard $(1)/*.c $(1)/*/*.c))
objects = $(patsubst %.c,$(BUILD)/%.o,$(call sources,$(1)))
archive = $(BUILD)/lib$(1).a
# The library runs packs; the rooms that make and simulate are the command's.
LIB_ROOMS := engine $(uses_engine)

TEST_SRC  := $(wildcard tests/*/test_*.c)
TESTS     := $(TEST_SRC:%.c=$(BUILD)/%)
# Programs that a Python test drives (tests/ROOM/drive_*.c).
DRIVE_SRC := $(wildcard tests/*/drive_*.c)
DRIVERS   := $(DRIVE_SRC:%.c=$(BUILD)/%)

.PHONY: all help check check-kernels asan ubsan tsan fuzz bench lint layers headers format install clean tests fixtures
.DEFAULT_GOAL := all
.SECONDARY:

all: $(BUILD)/edgert $(BUILD)/libedgert.a $(BUILD)/libedgert.so ## the command and the library

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 16

# ISA files carry their own flags: the file name says which.
AVX2 := -mavx2 -mfma -mf16c
$(BUILD)/%_avx2.o: ISA_CFLAGS = $(AVX2)
$(BUILD)/%_avxvnni.o: ISA_CFLAGS = $(AVX2) -mavxvnni
$(BUILD)/%_avx512vnni.o: ISA_CFLAGS = $(AVX2) -mavx512f -mavx512bw -mavx512vl -mavx512vnni
$(BUILD)/%_neondot.o: ISA_CFLAGS = -march=armv8.2-a+dotprod
$(BUILD)/%_neoni8mm.o: ISA_CFLAGS = -march=armv8.2-a+dotprod+i8mm
# Arithmetic on a tile that one thread has to itself: watching each access takes most of a build's time, and what goes
# in and comes out is watched where it is made and read.
$(BUILD)/variants/descend.o $(BUILD)/variants/grid.o: override SAN := $(filter-out thread,$(SAN))
# GCC 12 for aarch64 ends in an internal error where it vectorizes a loop of this check.
$(BUILD)/tests/runtime/kernels/check_conversions.o: ISA_CFLAGS = $(if $(filter aarch64,$(TARGET)),-fno-tree-loop-vectorize)

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	$(if $(V),,@echo "  cc   $<")
	$(Q)$(CC) $(ALL_CFLAGS) $(ISA_CFLAGS) -c $< -o $@

define room_archive
$$(BUILD)/lib$(1).a: $$(call objects,$(1))
	@rm -f $$@ && mkdir -p $$(@D) && $$(AR) rcs $$@ $$^
# Tests of a room link that room and what lies below it, nothing else.
$$(BUILD)/tests/$(1)/%: $$(BUILD)/tests/$(1)/%.o $$(foreach r,$(1) $$(uses_$(1)),$$(call archive,$$(r)))
	$$(if $$(V),,@echo "  link $$@")
	$$(Q)$$(CC) $$(ALL_CFLAGS) $$(filter %.o,$$^) $$(filter %.a,$$^) -o $$@ -lcmocka $$(foreach r,$(1) $$(uses_$(1)),$$(LIBS_$$(r))) $$(LIBS)
endef
$(foreach r,$(ROOMS),$(eval $(call room_archive,$(r))))

$(BUILD)/libedgert.a: $(foreach r,$(LIB_ROOMS),$(call objects,$(r)))
	@rm -f $@ && $(AR) rcs $@ $^
$(BUILD)/libedgert.so: $(foreach r,$(LIB_ROOMS),$(call objects,$(r)))
	$(if $(V),,@echo "  link $@")
	$(Q)$(CC) $(ALL_CFLAGS) -shared -Wl,-soname,libedgert.so.0 $^ -o $@ $(LIBS)
$(BUILD)/edgert: $(call objects,cli) $(foreach r,$(uses_cli),$(call archive,$(r)))
	$(if $(V),,@echo "  link $@")
	$(Q)$(CC) $(ALL_CFLAGS) $(filter %.o,$^) $(filter %.a,$^) -o $@ $(LIBS_cli) $(LIBS)

$(BUILD)/bench/%: $(BUILD)/bench/%.o $(foreach r,runtime policies device base,$(call archive,$(r)))
	$(if $(V),,@echo "  link $@")
	$(Q)$(CC) $(ALL_CFLAGS) $(filter %.o,$^) $(filter %.a,$^) -o $@ $(LIBS)

bench: all $(BUILD)/bench/kernels $(BUILD)/bench/decide ## kernels beside the machine's bandwidth, decisions, points and swaps of the model, then beside llama.cpp (docs/performance.md)
	$(BUILD)/bench/kernels
	$(BUILD)/bench/decide
	$(BUILD)/edgert bench --switch
	$(PYTHON) bench/peer --edgert $(BUILD)/edgert --work $(BUILD)/peer --write docs/performance.md

tests: $(TESTS) $(DRIVERS) ## build every test program

check: all tests ## every test; counts what passed, failed and was skipped, and why
	BUILD=$(BUILD) $(PYTHON) tests/run

# The checker of kernels is one program of several files.
CHECKER := $(patsubst %.c,$(BUILD)/%.o,tests/runtime/test_kernels.c $(wildcard tests/runtime/kernels/*.c))
$(BUILD)/tests/runtime/test_kernels: $(CHECKER)

check-kernels: $(BUILD)/tests/runtime/test_kernels ## every kernel against scalar, those of other CPUs under emulation
	$<
	BUILD=$(BUILD) PYTHONPATH=. $(PYTHON) tests/runtime/test_foreign_kernels.py

# The checker with the kernels alone: another architecture needs no library but cmocka for it.
$(BUILD)/check_kernels: $(call objects,runtime/kernels) $(BUILD)/base/half.o $(CHECKER)
	$(if $(V),,@echo "  link $@")
	$(Q)$(CC) $(ALL_CFLAGS) $^ -o $@ -lcmocka -lm

asan: ## the tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(MAKE) BUILD=build-asan SAN=address,undefined OPT=-O1 all tests
	BUILD=build-asan ASAN_OPTIONS=detect_leaks=1 LSAN_OPTIONS=suppressions=$(CURDIR)/tools/lsan-suppressions:print_suppressions=0 \
	    $(PYTHON) tests/run --sanitized
ubsan: ## the C tests under UndefinedBehaviorSanitizer
	$(MAKE) BUILD=build-ubsan SAN=undefined OPT=-O1 all tests
	BUILD=build-ubsan UBSAN_OPTIONS=print_stacktrace=1 $(PYTHON) tests/run --sanitized
tsan: ## the C tests under ThreadSanitizer
	$(MAKE) BUILD=build-tsan SAN=thread OPT=-O1 all tests
	BUILD=build-tsan TSAN_OPTIONS=halt_on_error=1:suppressions=$(CURDIR)/tools/tsan-suppressions $(PYTHON) tests/run --sanitized

# libFuzzer: clang, and on Debian its libclang-rt-dev. What it finds is kept in build-fuzz/corpus; tests/fuzz/corpus
# has what it begins with, found by itself and made smaller (-merge=1 -use_counters=0).
FUZZ_SECONDS ?= 60
FUZZERS := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
$(BUILD)/tests/fuzz/%: $(BUILD)/tests/fuzz/%.o $(foreach r,variants runtime sim policies device base,$(call archive,$(r)))
	$(if $(V),,@echo "  link $@")
	$(Q)$(CC) -fsanitize=fuzzer,address,undefined $(filter %.o,$^) $(filter %.a,$^) -o $@ $(LIBS)
fuzz: ## the readers of packs, GGUF, safetensors, policies, traces and journals, FUZZ_SECONDS each
	$(MAKE) BUILD=build-fuzz CC=clang SAN=fuzzer-no-link,address,undefined OPT=-O1 $(FUZZERS:%=build-fuzz/tests/fuzz/%)
	@for f in $(FUZZERS); do mkdir -p build-fuzz/corpus/$$f && cp -n policies.yaml tests/variants/fixtures/mistral/model.safetensors $$(find tests/fuzz/corpus -path "*/$$f/*") build-fuzz/corpus/$$f && \
	    build-fuzz/tests/fuzz/$$f -max_total_time=$(FUZZ_SECONDS) -max_len=65536 -rss_limit_mb=1024 -timeout=10 \
	    -print_final_stats=1 build-fuzz/corpus/$$f || exit 1; done

layers: ## includes go down only
	$(PYTHON) tools/layers

headers: ## every header compiles on its own
	@for h in $(filter-out $(FOREIGN),$(shell find $(ROOMS) tests -name '*.h')); do case $$h in *_avx2.h) isa="$(AVX2)" ;; *) isa= ;; esac; \
	    $(CC) $(filter-out -MMD -MP,$(ALL_CFLAGS)) $$isa -fsyntax-only -x c $$h || exit 1; done

# Needs torch and transformers: make fixtures PYTHON=venv/bin/python3
fixtures: ## make the tiny checkpoints of tests/variants/fixtures and their logits again
	$(PYTHON) tools/make-fixtures

lint: ## clang-format, clang-tidy, cppcheck, shellcheck
	tools/lint

format: ## rewrite with clang-format
	clang-format -i $$(find $(ROOMS) bench tests -name '*.[ch]' -o -name '*.inc')

PREFIX ?= /usr/local
install: all ## to $(DESTDIR)$(PREFIX)
	install -D $(BUILD)/edgert $(DESTDIR)$(PREFIX)/bin/edgert
	install -D -m644 $(BUILD)/libedgert.a $(DESTDIR)$(PREFIX)/lib/libedgert.a
	install -D $(BUILD)/libedgert.so $(DESTDIR)$(PREFIX)/lib/libedgert.so.0
	ln -sf libedgert.so.0 $(DESTDIR)$(PREFIX)/lib/libedgert.so
	install -D -m644 engine/edgert.h $(DESTDIR)$(PREFIX)/include/edgert.h
	install -D -m644 policies.yaml $(DESTDIR)$(PREFIX)/share/edgert/policies.yaml
	install -D -m644 -t $(DESTDIR)$(PREFIX)/share/edgert/devices.d devices.d/*.yaml

clean: ## remove build folders
	rm -rf build build-asan build-ubsan build-tsan build-fuzz

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
