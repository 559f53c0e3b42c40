# The only commands anyone needs. `make` alone prints them.

CARGO ?= cargo
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
VMM := $(TARGET_DIR)/release/vmm
DISK ?= $(TARGET_DIR)/sample.img
CMDLINE ?=
export CMD ?=
# Linked statically, if the C library is there for that, the program starts sooner and takes up less
# memory. Benchmarks and tests build one that is not, at the same place: after them this one is put
# back, which is no work where it had been built.
STATIC = $(if $(filter /%,$(shell $(CC) -print-file-name=libc.a)),-- -C target-feature=+crt-static)

FUZZ_TARGETS := $(basename $(notdir $(wildcard fuzz/fuzz_targets/*.rs)))
# What the fuzzer is built with and may take for an input: 60 s, and 64 MiB at once.
FUZZ := CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_STRIP=none $(CARGO) +nightly fuzz
FUZZ_FLAGS = -timeout=60 -malloc_limit_mb=64 -print_final_stats=1 -max_total_time=$(SECONDS) \
	$(addprefix -dict=,$(wildcard fuzz/dictionaries/$(TARGET).dict))
SECONDS ?= 60
# How long a Linux guest reads from each disk in a round of `make bench`.
LINUX_SECONDS ?= 2

.PHONY: help build run bench test sanitize lab lint fuzz clean

help: ## Print this list
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 16
	@echo
	@echo "  Settings: DISK=FILE and CMDLINE='run=...' for make run, TARGET=NAME and SECONDS=N for make fuzz,"
	@echo "  LINUX_SECONDS=N for make bench (0: without a Linux guest)"

build: ## Build target/release/vmm and the guest, target/guest/guest.{bin,elf}
	$(CARGO) rustc --release --locked --package vmm --bin vmm $(STATIC)

$(DISK):
	resources/make-sample-disk $@

run: build $(DISK) ## Boot the guest and watch it read a disk (a sample, if there is none)
	resources/with-kvm $(VMM) --disk "$(DISK)" --cmdline "$(CMDLINE)"

bench: build ## Measure what virtualization costs here; leaves target/bench/report.{json,csv,html}
	mkdir -p $(TARGET_DIR)/bench
	PATH="$(abspath $(dir $(VMM))):$$PATH" \
		resources/lab/bench $(TARGET_DIR)/bench/linux.jsonl $(LINUX_SECONDS)
	resources/with-kvm $(VMM) bench --linux $(TARGET_DIR)/bench/linux.jsonl \
		--json $(TARGET_DIR)/bench/report.json \
		--csv $(TARGET_DIR)/bench/report.csv --html $(TARGET_DIR)/bench/report.html
	CRITERION_HOME="$(abspath $(TARGET_DIR)/bench/criterion)" \
		$(CARGO) bench --locked -p devices -p vmm
	@$(MAKE) --no-print-directory build

test: ## Run everything that can be tested on this machine, and name what cannot
	resources/install-test-tools
	resources/linux/make-initrd && resources/linux/make-tools-disk || true
	$(CARGO) test --workspace --all-targets --locked --no-fail-fast
	CARGO="$(CARGO)" resources/lab/test
	@$(MAKE) --no-print-directory build
	# The tests before this ran one that is linked in another way.
	resources/make-sample-disk $(TARGET_DIR)/test.img
	for registers in trap mapped; do \
		timeout 120 resources/with-kvm $(VMM) --disk "$(TARGET_DIR)/test.img,registers=$$registers" \
			--cmdline 'run=verify lba=0 count=64' || exit 1; \
	done

# The host's tests of the device and of the guest's driver against it, the hostile guest among them.
# Miri interprets what needs no memory of a guest: it knows no mmap as that is made. ThreadSanitizer
# would need a standard library that is compiled for it (`-Zbuild-std`).
sanitize: ## Run what needs no KVM under AddressSanitizer, and Miri where it is installed
	RUSTFLAGS=-Zsanitizer=address $(CARGO) +nightly test --locked --no-fail-fast --tests \
		-p spec -p devices -p guest \
		--target x86_64-unknown-linux-gnu --target-dir "$(TARGET_DIR)/sanitize"
	@if $(CARGO) +nightly miri --version >/dev/null 2>&1; then \
		$(CARGO) +nightly miri test --locked -p spec --target-dir "$(TARGET_DIR)/sanitize"; \
	else \
		echo "Not run: Miri, which the nightly toolchain here does not have"; \
	fi

lab: build ## A shell in a complete nested KVM; CMD='...' runs that there instead
	PATH="$(abspath $(dir $(VMM))):$$PATH" resources/lab/lab $${CMD:+"$$CMD"}

lint: ## Check formatting, lints and documentation, with warnings denied
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --profile image -p guest --features image --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --document-private-items --locked

fuzz: ## Fuzz TARGET=NAME for SECONDS=60, with cargo-fuzz on a nightly; alone, list the targets
ifneq ($(filter $(TARGET),$(FUZZ_TARGETS)),)
	mkdir -p $(TARGET_DIR)/fuzz/corpus/$(TARGET)
	$(FUZZ) run --target-dir $(TARGET_DIR)/fuzz $(TARGET) \
		$(TARGET_DIR)/fuzz/corpus/$(TARGET) fuzz/corpus/$(TARGET) -- $(FUZZ_FLAGS)
else
	@echo "make fuzz TARGET=NAME [SECONDS=60], where NAME is one of: $(FUZZ_TARGETS)"
	@test -z "$(TARGET)"
endif

clean: ## Remove everything that was built
	$(CARGO) clean
