@0x86c366a91393f3f8;
# What a streaming method returns.
#
# `-> stream` in a method's declaration stands for this struct. It is empty: the
# Return only tells the caller that one more call has left the window.

struct StreamResult @0x995f9a3377c0b16e {}
