// A conformance peer on the C++ implementation.
//
//   peer serve ADDR            serves the conformance interfaces
//   peer call ADDR [NAME...]   runs the behaviours of README.md against a server
//   peer script ADDR SEED...   runs the random scripts of these seeds against a server
//   peer version               prints the version of the implementation
//
// ADDR is host:port or unix:/path.
#include <cstdio>
#include <cstring>

#include "harness.h"
#include "scripts.h"
#include "serve.h"

int main(int argc, char** argv) {
  if (argc >= 3 && strcmp(argv[1], "serve") == 0) {
    auto io = kj::setupAsyncIo();
    serve(io, argv[2]);
    return 0;
  }
  if (argc >= 3 && strcmp(argv[1], "call") == 0) {
    auto io = kj::setupAsyncIo();
    return callAll(io, argv[2], kj::arrayPtr(argv + 3, argc - 3));
  }
  if (argc >= 3 && strcmp(argv[1], "script") == 0) {
    auto io = kj::setupAsyncIo();
    return runScripts(io, argv[2], kj::arrayPtr(argv + 3, argc - 3));
  }
  if (argc == 2 && strcmp(argv[1], "version") == 0) {
    printf("%s\n", implementation().cStr());
    return 0;
  }
  fprintf(stderr, "usage: peer serve ADDR | peer call ADDR [NAME...] | peer script ADDR SEED... | "
                  "peer version\n");
  return 2;
}
