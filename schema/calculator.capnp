@0x85150b117366d14b;
# A calculator that works out expressions sent to it, in which intermediate
# results and functions are objects. It is small and still uses most of what the
# protocol can do: objects in data, objects that call back, and calls on results
# that have not arrived.

interface Calculator {
  evaluate @0 (expression :Expression) -> (value :Value);
  # Works out an expression. The value comes as an object, so that it can be put
  # into the next expression without a round trip.

  struct Expression {
    # A formula as a tree.

    union {
      literal @0 :Float64;
      # A number.

      previousResult @1 :Value;
      # What an earlier evaluation gave, wherever it is by now.

      parameter @2 :UInt32;
      # In the body of a function, its parameter of this index.

      call :group {
        # What a function gives for some arguments.

        function @3 :Function;
        params @4 :List(Expression);
      }
    }
  }

  interface Value {
    # A number that somebody holds.

    read @0 () -> (value :Float64);
    # Fetches the number.
  }

  defFunction @1 (paramCount :Int32, body :Expression) -> (func :Function);
  # Makes a function of an expression that refers to its parameters.

  interface Function {
    # Something that can be applied to numbers. Clients may pass functions of
    # their own, which the calculator then calls back.

    call @0 (params :List(Float64)) -> (value :Float64);
    # Applies the function. It fails if the number of arguments is wrong.
  }

  getOperator @2 (op :Operator) -> (func :Function);
  # A function of two parameters for an arithmetic operator.

  enum Operator {
    add @0;
    subtract @1;
    multiply @2;
    divide @3;
  }
}
