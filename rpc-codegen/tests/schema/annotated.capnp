@0xa6e1d70c9b35f842;
# Annotations whose values are of types for which there is no code: nobody compiles
# meta.capnp.

using Meta = import "/meta.capnp";

struct Row $Meta.table(name = "rows", keys = ["id"]) {
  id @0 :UInt64 $Meta.column(width = 8);
  level @1 :Level $Meta.boxed((value = "text"));
  union {
    a @2 :Void $Meta.level(low);
    b :group $Meta.column(width = 1) { c @3 :Text $Meta.levels([high]); }
  }
}

enum Level $Meta.table(name = "levels") { one @0 $Meta.column(width = 2); two @1; }

interface Sheet $Meta.table(name = "sheets") {
  row @0 (id :UInt64 $Meta.column(width = 8)) -> (row :Row) $Meta.level(high);
}

const everything :Text = "text" $Meta.column(width = 9);
annotation here @0xd2f06ac18b9e5374 (*) :Row $Meta.level(low);
struct Here $here(id = 7, level = two) { here @0 :Text $here(id = 8, a = void); }
