@0x86c366a91393f3f8;
# What `-> stream` refers to. The schema compiler imports this file by itself
# wherever a method is declared so.

struct StreamResult @0x995f9a3377c0b16e {
  # Nothing: the return of a streaming method only says that the call was taken,
  # and that there is room for more.
}
