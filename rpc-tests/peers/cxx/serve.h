#pragma once

#include <kj/async-io.h>
#include <kj/string.h>

// Serves the conformance interfaces at an address, until the process ends.
void serve(kj::AsyncIoContext& io, kj::StringPtr address);

// The name of the implementation, with its version.
kj::String implementation();
