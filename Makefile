# The two commands of the README, and two more. Everything is done by `cargo xtask`, which has --help.

CARGO ?= cargo
PREFIX ?= /usr/local

.PHONY: test demo install bench

test:
	$(CARGO) xtask deps test
	$(CARGO) xtask test

demo:
	$(CARGO) xtask deps demo
	$(CARGO) xtask demo

install:
	$(CARGO) xtask deps build
	$(CARGO) xtask install --prefix $(PREFIX)

bench:
	$(CARGO) xtask deps bench
	$(CARGO) xtask bench
