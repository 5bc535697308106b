@0xb8630836983feed7;
# Capabilities that outlive a connection.

interface Persistent @0xc8cb212fcd9f5691 (SturdyRef, Owner) {
  # A capability that can be saved. What a saved reference looks like
  # (SturdyRef), and how the one who may restore it is named (Owner), is agreed
  # on within a realm: the vats that share one way to save and restore.

  save @0 SaveParams -> SaveResults;
  # Saves the capability. Objects of vats that are gone may be saved again, and
  # saving twice may give two references to the same object.

  struct SaveParams {
    sealFor @0 :Owner;
    # The only one who will be able to restore the reference. Null where the
    # realm lets whoever holds a reference restore it.
  }

  struct SaveResults {
    sturdyRef @0 :SturdyRef;
    # A secret in most realms: who knows it, and is its owner, has the
    # capability.
  }
}

interface RealmGateway @0x84ff286cd00a3ed4 (InternalRef, ExternalRef, InternalOwner, ExternalOwner) {
  # Stands between a realm and another one, in which references and owners look
  # different. A vat that is connected to a vat of another realm is given one of
  # these for the connection. From then on it decides what happens when a
  # capability is saved across that border: nobody else on this side of it ever
  # sees the other side's references.

  import @0 (cap :Persistent(ExternalRef, ExternalOwner),
             params :Persistent(InternalRef, InternalOwner).SaveParams)
      -> Persistent(InternalRef, InternalOwner).SaveResults;
  # Somebody inside saves a capability from outside. Returns a reference that
  # means something inside. Saving `cap` itself does not lead back here.

  export @1 (cap :Persistent(InternalRef, InternalOwner),
             params :Persistent(ExternalRef, ExternalOwner).SaveParams)
      -> Persistent(ExternalRef, ExternalOwner).SaveResults;
  # Somebody outside saves a capability from inside. Returns a reference that
  # means something outside.
}

annotation persistent @0xf622595091cafb67 (interface, field) :Void;
# Marks an interface whose objects are all persistent, or a field that only ever
# holds persistent capabilities, although its type doesn't say so.
