// Objects whose calls may be canceled while their methods run.
#pragma once

#include <capnp/capability.h>

// A method that has begun is not canceled, whatever its caller does, unless somebody
// allows that: before 1.0 the method, to its context, and since then whoever
// dispatches it. This allows it for every method of a server.
template <typename Base>
class Cancelable: public virtual Base {
public:
  typename Base::DispatchCallResult dispatchCall(
      uint64_t interfaceId, uint16_t methodId,
      capnp::CallContext<capnp::AnyPointer, capnp::AnyPointer> context) override {
#if CAPNP_VERSION < 1000000
    context.allowCancellation();
    return Base::dispatchCall(interfaceId, methodId, context);
#else
    auto result = Base::dispatchCall(interfaceId, methodId, context);
    result.allowCancellation = true;
    return result;
#endif
  }
};
