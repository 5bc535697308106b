//! Ids and layouts that are fixed between implementations.
//!
//! Structs: name, id, (data words, pointers), then each field with its ordinal,
//! its place (`b` and a bit in the data section, or `p` and a pointer slot), its
//! default where that is not zero, and `#` with the tag that selects it in a
//! union; at the end the place of each tag.

pub(crate) const RPC_STRUCTS: &str = "\
Message 91b79f1f808db032 (1,1): unimplemented@0 p0 #0, abort@1 p0 #1, call@2 p0 #2, return@3 p0 #3, finish@4 p0 #4, resolve@5 p0 #5, release@6 p0 #6, obsoleteSave@7 p0 #7, bootstrap@8 p0 #8, obsoleteDelete@9 p0 #9, provide@10 p0 #10, accept@11 p0 #11, join@12 p0 #12, disembargo@13 p0 #13, thirdPartyAnswer@14 p0 #14; tag b0
Bootstrap e94ccf8031176ec4 (1,1): questionId@0 b0, deprecatedObjectId@1 p0
Call 836a53ce789d4cd4 (3,3): questionId@0 b0, target@1 p0, interfaceId@2 b64, methodId@3 b32, params@4 p1, sendResultsTo.caller@5 #0, sendResultsTo.yourself@6 #1, sendResultsTo.thirdParty@7 p2 #2, allowThirdPartyTailCall@8 b128, noPromisePipelining@9 b129, onlyPromisePipeline@10 b130; sendResultsTo tag b48
Return 9e19b28d3db3573a (2,1): answerId@0 b0, releaseParamCaps@1 b32 = true, results@2 p0 #0, exception@3 p0 #1, canceled@4 #2, resultsSentElsewhere@5 #3, takeFromOtherQuestion@6 b64 #4, awaitFromThirdParty@7 p0 #5, noFinishNeeded@8 b33; tag b48
Finish d37d2eb2c2f80e63 (1,0): questionId@0 b0, releaseResultCaps@1 b32 = true, requireEarlyCancellationWorkaround@2 b33 = true
Resolve bbc29655fa89086e (1,1): promiseId@0 b0, cap@1 p0 #0, exception@2 p0 #1; tag b32
Release ad1a6c0d7dd07497 (1,0): id@0 b0, referenceCount@1 b32
Disembargo f964368b0fbd3711 (1,2): target@0 p0, context.senderLoopback@1 b0 #0, context.receiverLoopback@2 b0 #1, context.accept@3 p1 #2; context tag b32
Provide 9c6a046bfbc1ac5a (1,2): questionId@0 b0, target@1 p0, recipient@2 p1
Accept d4c9b56290554016 (1,2): questionId@0 b0, provision@1 p0, embargo@2 p1
ThirdPartyAnswer b6511ce6c5f0e58c (1,1): completion@0 p0, answerId@1 b0
Join fbe1980490e001af (1,2): questionId@0 b0, target@1 p0, keyPart@2 p1
MessageTarget 95bc14545813fbc1 (1,1): importedCap@0 b0 #0, promisedAnswer@1 p0 #1; tag b32
Payload 9a0e61223d96743b (0,2): content@0 p0, capTable@1 p1
CapDescriptor 8523ddc40b86b8b0 (1,1): none@0 #0, senderHosted@1 b32 #1, senderPromise@2 b32 #2, receiverHosted@3 b32 #3, receiverAnswer@4 p0 #4, thirdPartyHosted@5 p0 #5, attachedFd@6 b16 = 255; tag b0
PromisedAnswer d800b1d6cd6f1ca0 (1,1): questionId@0 b0, transform@1 p0
PromisedAnswer.Op f316944415569081 (1,0): noop@0 #0, getPointerField@1 b16 #1; tag b0
ThirdPartyCapDescriptor d37007fde1f0027d (1,1): id@0 p0, vineId@1 b0
Exception d625b7063acf691a (1,3): reason@0 p0, obsoleteIsCallersFault@1 b0, obsoleteDurability@2 b16, type@3 b32, trace@4 p1, details@5 p2
Exception.Detail d6c14f121d44f8dd (1,1): detailId@0 b0, data@1 p0";

pub(crate) const RPC_ENUMS: &str = "\
Exception.Type b28c96e23f4cbd58: failed, overloaded, disconnected, unimplemented";

pub(crate) const TWOPARTY_STRUCTS: &str = "\
VatId d20b909fee733a8e (1,0): side@0 b0
ThirdPartyCompletion b7e329e92fda637d (1,0): joinId@0 b0
ThirdPartyToAwait 9539708bffa85a5d (0,0)
ThirdPartyToContact e8e97b3b9f049b21 (0,0)
JoinKeyPart 95b29059097fca83 (1,0): joinId@0 b0, partCount@1 b32, partNum@2 b48
JoinResult 9d263a3630b7ebee (1,1): joinId@0 b0, succeeded@1 b32, cap@2 p0";

pub(crate) const TWOPARTY_ENUMS: &str = "Side 9fd69ebc87b9719c: server, client";

pub(crate) const PERSISTENT_STRUCTS: &str = "\
Persistent.SaveParams f76fba59183073a5 (0,1): sealFor@0 p0
Persistent.SaveResults b76848c18c40efbf (0,1): sturdyRef@0 p0";

pub(crate) const PERSISTENT_INTERFACES: &str = "\
Persistent c8cb212fcd9f5691: save@0 Persistent.SaveParams -> Persistent.SaveResults
RealmGateway 84ff286cd00a3ed4: import@0 (cap :Persistent, params :Persistent.SaveParams) -> Persistent.SaveResults; export@1 (cap :Persistent, params :Persistent.SaveParams) -> Persistent.SaveResults";

pub(crate) const PERSISTENT_ANNOTATIONS: &str = "persistent f622595091cafb67";

pub(crate) const STREAM_STRUCTS: &str = "StreamResult 995f9a3377c0b16e (0,0)";

pub(crate) const TEST_INTERFACES: &str = "\
TestInterface 88eb12a0e0af92b2: foo@0 (i :UInt32, j :Bool) -> (x :Text); bar@1 () -> (); baz@2 (s :TestAllTypes) -> ()
TestExtends e4e9bac98670b748 < TestInterface: qux@0 () -> (); corge@1 TestAllTypes -> (); grault@2 () -> TestAllTypes
TestExtends2 98d7e0ef61488783 < TestExtends
TestPipeline a5a404caa61d4cd0: getCap@0 (n :UInt32, inCap :TestInterface) -> (s :Text, outBox :TestPipeline.Box); testPointers@1 (cap :TestInterface, obj :AnyPointer, list :List(TestInterface)) -> (); getAnyCap@2 (n :UInt32, inCap :Capability) -> (s :Text, outBox :TestPipeline.AnyBox); getCapPipelineOnly@3 () -> (outBox :TestPipeline.Box)
TestCallOrder a0e77035bdff0051: getCallSequence@0 (expected :UInt32) -> (n :UInt32)
TestTailCallee ddd699207eb8e23b: foo@0 (i :Int32, t :Text) -> TestTailCallee.TailResult
TestTailCaller 870bf40110ce3035: foo@0 (i :Int32, callee :TestTailCallee) -> TestTailCallee.TailResult
TestStreaming d9d44ddacab3edbe: doStreamI@0 (i :UInt32) -> StreamResult; doStreamJ@1 (j :UInt32) -> StreamResult; finishStream@2 () -> (totalI :UInt32, totalJ :UInt32)
TestHandle a38e5efe41e53a15
TestMoreStuff ddc70bf9784133cf < TestCallOrder: callFoo@0 (cap :TestInterface) -> (s :Text); callFooWhenResolved@1 (cap :TestInterface) -> (s :Text); neverReturn@2 (cap :TestInterface) -> (capCopy :TestInterface); hold@3 (cap :TestInterface) -> (); callHeld@4 () -> (s :Text); getHeld@5 () -> (cap :TestInterface); echo@6 (cap :TestCallOrder) -> (cap :TestCallOrder); expectCancel@7 (cap :TestInterface) -> (); methodWithDefaults@8 (a :Text, b :UInt32 = 123, c :Text = \"foo\") -> (d :Text, e :Text = \"bar\"); getHandle@9 () -> (handle :TestHandle); getNull@10 () -> (nullCap :TestMoreStuff); getEnormousString@11 () -> (str :Text); methodWithNullDefault@12 (a :Text, b :TestInterface) -> (); writeToFd@13 (fdCap1 :TestInterface, fdCap2 :TestInterface) -> (fdCap3 :TestInterface, secondFdPresent :Bool); throwException@14 () -> (); throwRemoteException@15 () -> ()
TestMembrane c07d8dcd80a69c0c: makeThing@0 () -> (thing :TestMembrane.Thing); callPassThrough@1 (thing :TestMembrane.Thing, tailCall :Bool) -> TestMembrane.Result; callIntercept@2 (thing :TestMembrane.Thing, tailCall :Bool) -> TestMembrane.Result; loopback@3 (thing :TestMembrane.Thing) -> (thing :TestMembrane.Thing); waitForever@4 () -> ()
TestMembrane.Thing 9352e4e41f173917: passThrough@0 () -> TestMembrane.Result; intercept@1 () -> TestMembrane.Result
TestAuthenticatedBootstrap ea72cc77253798cd: getCallerId@0 () -> (caller :#0)";

pub(crate) const TEST_ENUMS: &str =
    "TestEnum 9c8e9318b29d9cd3: foo, bar, baz, qux, quux, corge, grault, garply";

pub(crate) const TEST_STRUCTS: &str = "\
TestAllTypes: voidField@0 :Void, boolField@1 :Bool, int8Field@2 :Int8, int16Field@3 :Int16, int32Field@4 :Int32, int64Field@5 :Int64, uInt8Field@6 :UInt8, uInt16Field@7 :UInt16, uInt32Field@8 :UInt32, uInt64Field@9 :UInt64, float32Field@10 :Float32, float64Field@11 :Float64, textField@12 :Text, dataField@13 :Data, structField@14 :TestAllTypes, enumField@15 :TestEnum, interfaceField@16 :Void, voidList@17 :List(Void), boolList@18 :List(Bool), int8List@19 :List(Int8), int16List@20 :List(Int16), int32List@21 :List(Int32), int64List@22 :List(Int64), uInt8List@23 :List(UInt8), uInt16List@24 :List(UInt16), uInt32List@25 :List(UInt32), uInt64List@26 :List(UInt64), float32List@27 :List(Float32), float64List@28 :List(Float64), textList@29 :List(Text), dataList@30 :List(Data), structList@31 :List(TestAllTypes), enumList@32 :List(TestEnum), interfaceList@33 :List(Void)
TestPipeline.Box: cap@0 :TestInterface
TestPipeline.AnyBox: cap@0 :Capability
TestTailCallee.TailResult: i@0 :UInt32, t@1 :Text, c@2 :TestCallOrder
TestMembrane.Result: text@0 :Text";
