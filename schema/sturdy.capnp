@0xcac642fbe5571205;
# References that outlive a connection, and how they are restored, in the realm of
# the package capnp-threads-persist.

struct SturdyRef {
  # A saved reference.

  secret @0 :Data;
  # Who knows it, and is the owner that it was sealed for, has the capability.
}

struct Owner {
  # Whom a reference is sealed for. How somebody proves to be an owner is up to
  # whoever hands out Restorers.

  name @0 :Text;
}

interface Restorer {
  # Restores references for one owner: whoever has this capability is that owner.

  restore @0 (ref :SturdyRef) -> (object :Capability);
  # Brings back the object that was saved.

  revoke @1 (ref :SturdyRef) -> ();
  # Makes a reference useless, for ever. Who got the object from it keeps that.
  # A reference that is useless already is no mistake.
}
