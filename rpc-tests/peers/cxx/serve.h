// Runs a conformance server on an address, for ever.
#pragma once

#include <kj/async-io.h>
#include <kj/string.h>

void serve(kj::AsyncIoContext& io, kj::StringPtr address);
