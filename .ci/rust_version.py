#!/usr/bin/env python3
"""Fails if a published package depends on what needs a newer Rust than it promises.

The code itself is judged by Clippy's lint `incompatible_msrv`: one toolchain is enough
for both.
"""

import json
import subprocess
import sys


def version(text):
    return tuple(int(part) for part in (text.split(".") + ["0", "0"])[:3])


command = ["cargo", "metadata", "--locked", "--format-version", "1"]
metadata = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
packages = {package["id"]: package for package in metadata["packages"]}
needs = {
    node["id"]: [
        dependency["pkg"]
        for dependency in node["deps"]
        # The scheduler of the models reaches no user.
        if any(
            kind["kind"] != "dev" and "rpc_model" not in (kind["target"] or "")
            for kind in dependency["dep_kinds"]
        )
    ]
    for node in metadata["resolve"]["nodes"]
}

published = [id for id in metadata["workspace_members"] if packages[id]["publish"] != []]
promised = {packages[id]["rust_version"] for id in published}
assert len(published) > 1 and len(promised) == 1, (published, promised)
promised = promised.pop()

reached, waiting = set(), published
while waiting:
    id = waiting.pop()
    if id not in reached:
        reached.add(id)
        waiting.extend(needs[id])
too_new = [
    f"{packages[id]['name']} {packages[id]['version']} needs Rust {packages[id]['rust_version']}"
    for id in reached
    if version(packages[id]["rust_version"] or "1.0") > version(promised)
]
print(f"{len(reached)} packages, Rust {promised} promised")
if too_new:
    sys.exit("\n".join(sorted(too_new)))
