#!/usr/bin/env python3
"""The object of schema/echo.capnp on pycapnp, to be measured.

    echo.py serve HOST:PORT    serves one, and prints "ready HOST:PORT"; port 0 picks one
"""

import asyncio
import pathlib
import sys

import capnp

SCHEMA = pathlib.Path(__file__).resolve().parents[3] / "schema" / "echo.capnp"
# `-> stream` needs /capnp/stream.capnp, which pycapnp brings along.
IMPORTS = [str(pathlib.Path(capnp.__file__).parent.parent)]
Echo = capnp.load(str(SCHEMA), imports=IMPORTS).Echo


class Served(Echo.Server):
    def __init__(self):
        self.bytes = 0

    async def ping(self, _context):
        pass

    async def echo(self, data, _context):
        return data

    async def next(self, _context):
        return Served()

    async def push(self, data, _context):
        self.bytes += len(data)

    async def total(self, _context):
        return self.bytes


async def connected(stream):
    await capnp.TwoPartyServer(stream, bootstrap=Served()).on_disconnect()


async def serve(address):
    host, port = address.rsplit(":", 1)
    server = await capnp.AsyncIoStream.create_server(connected, host, int(port))
    async with server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"ready {host}:{port}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "serve":
        sys.exit(__doc__)
    asyncio.run(capnp.run(serve(sys.argv[2])))
