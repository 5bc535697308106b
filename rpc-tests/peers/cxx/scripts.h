#pragma once

#include <kj/async-io.h>
#include <kj/string.h>

// Runs the scripts of some seeds against a server, and returns the exit code.
int runScripts(kj::AsyncIoContext& io, kj::StringPtr address, kj::ArrayPtr<char* const> seeds);
