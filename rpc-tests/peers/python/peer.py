#!/usr/bin/env python3
"""A conformance peer on pycapnp.

    peer.py serve ADDR            serves the conformance interfaces
    peer.py call ADDR [NAME...]   runs the behaviours of README.md against a server
    peer.py script ADDR SEED...   runs the random scripts of these seeds against a server

ADDR is host:port or unix:/path.
"""

import asyncio
import sys

import capnp

import harness
import scripts
import serving


def main():
    match sys.argv[1:]:
        case ["serve", address]:
            asyncio.run(capnp.run(serving.serve(address)))
            return 0
        case ["call", address, *names]:
            return asyncio.run(capnp.run(harness.call_all(address, names)))
        case ["script", address, *seeds]:
            return asyncio.run(capnp.run(scripts.run_all(address, seeds)))
        case _:
            print(__doc__, file=sys.stderr)
            return 2


if __name__ == "__main__":
    sys.exit(main())
