# The two commands of the README, and three more. Everything is done by `cargo xtask`, which has --help.

CARGO ?= cargo
PREFIX ?= /usr/local

.PHONY: test demo install bench soak

test:
	$(CARGO) xtask deps test
	$(CARGO) xtask test

demo:
	$(CARGO) xtask deps demo
	$(CARGO) xtask demo

install:
	$(CARGO) xtask deps build
	$(CARGO) xtask install --prefix $(PREFIX)

soak:
	$(CARGO) xtask deps test
	SKEP_SOAK_OPERATIONS=5000 $(CARGO) test -p skep-tests --test e2e -- net_soak

bench:
	$(CARGO) xtask deps bench
	$(CARGO) xtask bench
