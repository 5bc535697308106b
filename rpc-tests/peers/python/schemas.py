"""The conformance schemas, loaded from where they lie in the repository."""

import pathlib

import capnp

_SCHEMA = pathlib.Path(__file__).resolve().parents[3] / "schema"
# `-> stream` needs /capnp/stream.capnp, which pycapnp brings along.
_IMPORTS = [str(pathlib.Path(capnp.__file__).parent.parent)]

control = capnp.load(str(_SCHEMA / "test-control.capnp"), imports=_IMPORTS)
twoparty = capnp.load(str(_SCHEMA / "rpc-twoparty.capnp"), imports=_IMPORTS)
test = capnp.load(str(_SCHEMA / "test.capnp"), imports=_IMPORTS)
values = capnp.load(str(_SCHEMA / "test-values.capnp"), imports=_IMPORTS)


def interface_id(interface):
    return interface.schema.node.id


def is_full_message(message):
    # The text form compares every field, NaN included.
    return str(message) == str(values.fullMessage)
