@0xb312981b2552a250;
# The messages of Cap'n Proto RPC.
#
# Two vats talk over a connection. Each keeps four tables about it: questions it
# asked, answers it owes, capabilities it exported and capabilities it imported.
# My question is your answer, my export is your import; both sides name an entry
# by the number that the asking or the exporting side chose. Names, ids and
# layouts are those of the standard protocol; the words are this project's.

struct Message {
  union {
    unimplemented @0 :Message;
    # Sent back to the sender of a message that the receiver does not know.
    abort @1 :Exception;
    # The last message on a connection: why its sender is ending it.

    # Level 0
    bootstrap @8 :Bootstrap;
    call @2 :Call;
    return @3 :Return;
    finish @4 :Finish;

    # Level 1
    resolve @5 :Resolve;
    release @6 :Release;
    disembargo @13 :Disembargo;

    # Level 2, in forms that nobody uses any more
    obsoleteSave @7 :AnyPointer;
    obsoleteDelete @9 :AnyPointer;

    # Level 3
    provide @10 :Provide;
    accept @11 :Accept;
    thirdPartyAnswer @14 :ThirdPartyAnswer;

    # Level 4
    join @12 :Join;
  }
}

struct Bootstrap {
  # Asks for the capability that the peer offers to whoever connects.
  questionId @0 :UInt32;
  deprecatedObjectId @1 :AnyPointer;
  # Older peers name one of several exports here.
}

struct Call {
  # Calls a method.
  questionId @0 :UInt32;
  target @1 :MessageTarget;
  interfaceId @2 :UInt64;
  methodId @3 :UInt16;
  allowThirdPartyTailCall @8 :Bool = false;
  noPromisePipelining @9 :Bool = false;
  # The caller promises to pipeline nothing on this call.
  onlyPromisePipeline @10 :Bool = false;
  # The caller wants only the pipeline; no Return need come.
  params @4 :Payload;
  sendResultsTo :union {
    caller @5 :Void;
    yourself @6 :Void;
    # Keep the results: another call will take them from here.
    thirdParty @7 :AnyPointer;
  }
}

struct Return {
  # The outcome of a call.
  answerId @0 :UInt32;
  releaseParamCaps @1 :Bool = true;
  # Every capability that the parameters exported is released once, as if by
  # Release messages.
  noFinishNeeded @8 :Bool = false;
  # The entry is free at once; the caller sends no Finish.
  union {
    results @2 :Payload;
    exception @3 :Exception;
    canceled @4 :Void;
    resultsSentElsewhere @5 :Void;
    takeFromOtherQuestion @6 :UInt32;
    # The results are those of a call that this message's sender made to its
    # receiver with sendResultsTo.yourself.
    awaitFromThirdParty @7 :AnyPointer;
  }
}

struct Finish {
  # The caller has no more use for an answer; before the Return, a request to
  # cancel.
  questionId @0 :UInt32;
  releaseResultCaps @1 :Bool = true;
  # Every capability that the results exported is released once.
  requireEarlyCancellationWorkaround @2 :Bool = true;
  # The sender may be of a release that confuses a Finish before delivery.
}

struct Resolve {
  # Tells what an exported promise turned out to be.
  promiseId @0 :UInt32;
  union {
    cap @1 :CapDescriptor;
    exception @2 :Exception;
  }
}

struct Release {
  # Gives references to an import back to its exporter.
  id @0 :UInt32;
  referenceCount @1 :UInt32;
}

struct Disembargo {
  # Travels the way that calls on a promise took, and back, to tell that all of
  # them have arrived.
  target @0 :MessageTarget;
  context :union {
    senderLoopback @1 :UInt32;
    receiverLoopback @2 :UInt32;
    accept @3 :Data;
  }
}

struct Provide {
  questionId @0 :UInt32;
  target @1 :MessageTarget;
  recipient @2 :AnyPointer;
}

struct Accept {
  questionId @0 :UInt32;
  provision @1 :AnyPointer;
  embargo @2 :Data;
}

struct ThirdPartyAnswer {
  completion @0 :AnyPointer;
  answerId @1 :UInt32;
}

struct Join {
  questionId @0 :UInt32;
  target @1 :MessageTarget;
  keyPart @2 :AnyPointer;
}

struct MessageTarget {
  # What a message is for, as its receiver names it.
  union {
    importedCap @0 :UInt32;
    # An entry of the receiver's export table.
    promisedAnswer @1 :PromisedAnswer;
    # A capability in results that the receiver owes.
  }
}

struct Payload {
  # Content with the capabilities that it refers to by index.
  content @0 :AnyPointer;
  capTable @1 :List(CapDescriptor);
}

struct CapDescriptor {
  # How a capability is named between two vats, seen from the sender.
  union {
    none @0 :Void;
    senderHosted @1 :UInt32;
    senderPromise @2 :UInt32;
    # As senderHosted, with a Resolve to follow.
    receiverHosted @3 :UInt32;
    receiverAnswer @4 :PromisedAnswer;
    thirdPartyHosted @5 :ThirdPartyCapDescriptor;
  }
  attachedFd @6 :UInt8 = 0xff;
  # Index of a file descriptor that came with the message; 0xff is none.
}

struct PromisedAnswer {
  # A capability that results will hold.
  questionId @0 :UInt32;
  transform @1 :List(Op);
  # The way to it from the results' root.
  struct Op {
    union {
      noop @0 :Void;
      getPointerField @1 :UInt16;
    }
  }
}

struct ThirdPartyCapDescriptor {
  id @0 :AnyPointer;
  vineId @1 :UInt32;
  # An export of the sender that can stand in for the capability and keeps it
  # alive until it was picked up.
}

struct Exception {
  reason @0 :Text;
  obsoleteIsCallersFault @1 :Bool;
  obsoleteDurability @2 :UInt16;
  type @3 :Type;
  trace @4 :Text;
  details @5 :List(Detail);

  enum Type {
    failed @0;
    overloaded @1;
    disconnected @2;
    unimplemented @3;
  }

  struct Detail {
    detailId @0 :UInt64;
    data @1 :Data;
  }
}
