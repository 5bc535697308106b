@0xf79e3c0a5d1b8264;
# A file whose name begins with a digit.

struct Token { digits @0 :Text; }
interface Second { check @0 (token :Token) -> (good :Bool); }
