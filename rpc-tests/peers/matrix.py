#!/usr/bin/env python3
"""Runs every peer's client against every peer's server, and this project's own with
them, over TCP and over a Unix socket, and prints a table of the results.

    matrix.py [--write] [--cxx PEER]... [--capnp-rpc PEER] [NAME...]

The C++ peers are looked for in target/peers, where `cargo test -p rpc-tests` builds
them, that of capnp-rpc in target/debug; --cxx and --capnp-rpc name them elsewhere. Names
select behaviours. --write puts the table into RESULTS.md. Exits with 1 if anything
failed.
"""

import argparse
import collections
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
TARGET = HERE.parents[1] / "target"
LONGEST_CALL_SECONDS = 1200


def newest_cxx(version):
    built = TARGET.glob(f"peers/cxx-{version}.*/peer")
    newest = max(built, key=lambda path: path.stat().st_mtime, default=None)
    if newest is None:
        sys.exit(f"there is no peer with C++ {version}: run the tests first, or name one by --cxx")
    return newest


def name_of(program):
    command = [program, "version"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--ours", default=TARGET / "debug" / "conformance")
    parser.add_argument("--cxx", action="append")
    parser.add_argument("--capnp-rpc", default=TARGET / "debug" / "peer-capnp-rpc")
    parser.add_argument("names", nargs="*")
    return parser.parse_args()


def call(server, client, address, names):
    """The lines that the client prints against a new server."""
    process = subprocess.Popen([*server, "serve", address], stdout=subprocess.PIPE, text=True)
    try:
        ready = process.stdout.readline().split()
        if len(ready) != 2 or ready[0] != "ready":
            return [f"FAIL connect: the server printed {ready}"]
        command = [*client, "call", ready[1], *names]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, timeout=LONGEST_CALL_SECONDS, check=False
        )
        return done.stdout.splitlines()
    finally:
        process.kill()
        process.wait()


def table(results):
    servers = list(dict.fromkeys(server for server, _ in results))
    clients = list(dict.fromkeys(client for _, client in results))
    yield "| client ↓ server → | " + " | ".join(servers) + " |"
    yield "|---" * (len(servers) + 1) + "|"
    for client in clients:
        cells = []
        for server in servers:
            cells.append(
                "; ".join(
                    f"{transport} {counts['ok']} ok, {counts['skip']} skipped, {counts['FAIL']} failed"
                    for transport, counts in results[server, client].items()
                )
            )
        yield f"| {client} | " + " | ".join(cells) + " |"


def main():
    options = arguments()
    cxx = options.cxx or [newest_cxx(version) for version in ("0", "1")]
    peers = {
        "ours": [str(options.ours)],
        **{name_of(program): [str(program)] for program in cxx},
        "pycapnp": [sys.executable, str(HERE / "python" / "peer.py")],
        "capnp-rpc": [str(options.capnp_rpc)],
    }
    results = collections.defaultdict(dict)
    remarks = {}
    with tempfile.TemporaryDirectory() as directory:
        for server, serve_command in peers.items():
            for client, call_command in peers.items():
                for transport, address in (
                    ("Unix", f"unix:{directory}/socket"),
                    ("TCP", "127.0.0.1:0"),
                ):
                    lines = call(serve_command, call_command, address, options.names)
                    counts = collections.Counter(line.split()[0] for line in lines)
                    results[server, client][transport] = counts
                    for line in lines:
                        if line.startswith(("skip ", "FAIL ")):
                            pairs = remarks.setdefault(line, {})
                            pairs.setdefault(f"{client} → {server}", []).append(transport)
    lines = list(table(results))
    lines.append("")
    for line, pairs in sorted(remarks.items()):
        lines.append(f"- {line}")
        for pair, transports in pairs.items():
            lines.append(f"  - {pair} ({', '.join(transports)})")
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.write:
        (HERE / "RESULTS.md").write_text(
            "# Results of the peers against one another and against this library\n"
            "Each cell: behaviours of README.md, over each transport; then what was skipped or "
            "failed, why, and by which client → server.\n\n" + text
        )
    return 1 if any(line.startswith("FAIL") for line in remarks) else 0


if __name__ == "__main__":
    sys.exit(main())
