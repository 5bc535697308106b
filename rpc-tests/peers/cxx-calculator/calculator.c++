// The calculator of schema/calculator.capnp on the C++ implementation.
//
//   calculator serve ADDR    serves one, and prints "ready ADDR"
//   calculator call ADDR     asks one for what the Rust example asks for, and
//                            prints the same lines
//
// ADDR is host:port or unix:/path.

#include "calculator.capnp.h"

#include <capnp/ez-rpc.h>
#include <capnp/message.h>
#include <kj/async.h>
#include <kj/function.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>

namespace {

using Expression = Calculator::Expression;
using Function = Calculator::Function;
using Value = Calculator::Value;
using Numbers = kj::Array<double>;

// ---- Server

// Works an expression out once everything in it is known.
kj::Promise<double> evaluate(Expression::Reader expression, kj::ArrayPtr<const double> arguments) {
  switch (expression.which()) {
    case Expression::LITERAL:
      return expression.getLiteral();
    case Expression::PREVIOUS_RESULT:
      return expression.getPreviousResult().readRequest().send().then(
          [](auto&& response) { return response.getValue(); });
    case Expression::PARAMETER: {
      auto index = expression.getParameter();
      KJ_REQUIRE(index < arguments.size(), "no such parameter", index);
      return arguments[index];
    }
    case Expression::CALL: {
      auto call = expression.getCall();
      auto operands = KJ_MAP(operand, call.getParams()) { return evaluate(operand, arguments); };
      return kj::joinPromises(kj::mv(operands))
          .then([function = call.getFunction()](Numbers numbers) mutable {
            auto request = function.callRequest();
            auto params = request.initParams(numbers.size());
            for (auto i: kj::indices(numbers)) params.set(i, numbers[i]);
            return request.send().then([](auto&& response) { return response.getValue(); });
          });
    }
  }
  KJ_FAIL_REQUIRE("an expression of a kind that this calculator does not know");
}

class ValueObject final: public Value::Server {
public:
  explicit ValueObject(double number): number(number) {}
  kj::Promise<void> read(ReadContext context) override {
    context.getResults().setValue(number);
    return kj::READY_NOW;
  }

private:
  double number;
};

class DefinedFunction final: public Function::Server {
public:
  DefinedFunction(uint32_t paramCount, Expression::Reader body): paramCount(paramCount) {
    message.setRoot(body);
  }
  kj::Promise<void> call(CallContext context) override {
    auto params = context.getParams().getParams();
    KJ_REQUIRE(params.size() == paramCount, "wrong number of arguments");
    Numbers arguments = KJ_MAP(param, params) { return param; };
    auto result = evaluate(message.getRoot<Expression>().asReader(), arguments);
    return result.attach(kj::mv(arguments), thisCap()).then([context](double number) mutable {
      context.getResults().setValue(number);
    });
  }

private:
  uint32_t paramCount;
  capnp::MallocMessageBuilder message;
};

class OperatorFunction final: public Function::Server {
public:
  explicit OperatorFunction(Calculator::Operator op): op(op) {}
  kj::Promise<void> call(CallContext context) override {
    auto params = context.getParams().getParams();
    KJ_REQUIRE(params.size() == 2, "an operator takes two arguments");
    context.getResults().setValue(apply(params[0], params[1]));
    return kj::READY_NOW;
  }

private:
  Calculator::Operator op;

  double apply(double a, double b) {
    switch (op) {
      case Calculator::Operator::ADD: return a + b;
      case Calculator::Operator::SUBTRACT: return a - b;
      case Calculator::Operator::MULTIPLY: return a * b;
      case Calculator::Operator::DIVIDE: return a / b;
    }
    KJ_FAIL_REQUIRE("an operator that this calculator does not know");
  }
};

class CalculatorObject final: public Calculator::Server {
public:
  kj::Promise<void> evaluate(EvaluateContext context) override {
    return ::evaluate(context.getParams().getExpression(), nullptr)
        .then([context](double number) mutable {
          context.getResults().setValue(kj::heap<ValueObject>(number));
        });
  }
  kj::Promise<void> defFunction(DefFunctionContext context) override {
    auto params = context.getParams();
    context.getResults().setFunc(
        kj::heap<DefinedFunction>(params.getParamCount(), params.getBody()));
    return kj::READY_NOW;
  }
  kj::Promise<void> getOperator(GetOperatorContext context) override {
    context.getResults().setFunc(kj::heap<OperatorFunction>(context.getParams().getOp()));
    return kj::READY_NOW;
  }
};

void serve(kj::StringPtr address) {
  bool isUnix = address.startsWith("unix:");
  if (isUnix) unlink(address.slice(5).cStr());
  capnp::EzRpcServer server(kj::heap<CalculatorObject>(), address);
  auto port = server.getPort().wait(server.getWaitScope());
  if (isUnix) {
    printf("ready %s\n", address.cStr());
  } else {
    auto colon = KJ_REQUIRE_NONNULL(address.findLast(':'), "expected host:port or unix:/path");
    printf("ready %s:%u\n", kj::str(address.slice(0, colon)).cStr(), port);
  }
  fflush(stdout);
  kj::NEVER_DONE.wait(server.getWaitScope());
}

// ---- Client

class SquareRoot final: public Function::Server {
public:
  explicit SquareRoot(unsigned& calls): calls(calls) {}
  kj::Promise<void> call(CallContext context) override {
    ++calls;
    auto params = context.getParams().getParams();
    KJ_REQUIRE(params.size() == 1, "a square root takes one number");
    context.getResults().setValue(std::sqrt(params[0]));
    return kj::READY_NOW;
  }

private:
  unsigned& calls;
};

// Writes an expression into a message.
using Formula = kj::Function<void(Expression::Builder)>;

Formula number(double n) {
  return [n](Expression::Builder out) { out.setLiteral(n); };
}

Formula parameter(uint32_t index) {
  return [index](Expression::Builder out) { out.setParameter(index); };
}

Formula previous(Value::Client value) {
  return [value](Expression::Builder out) mutable { out.setPreviousResult(value); };
}

Formula apply(Function::Client function, Formula a, Formula b) {
  return [function, a = kj::mv(a), b = kj::mv(b)](Expression::Builder out) mutable {
    auto call = out.initCall();
    call.setFunction(function);
    auto params = call.initParams(2);
    a(params[0]);
    b(params[1]);
  };
}

Formula apply(Function::Client function, Formula operand) {
  return [function, operand = kj::mv(operand)](Expression::Builder out) mutable {
    auto call = out.initCall();
    call.setFunction(function);
    operand(call.initParams(1)[0]);
  };
}

class Caller {
public:
  Caller(Calculator::Client calculator, kj::WaitScope& waitScope)
      : calculator(kj::mv(calculator)), waitScope(waitScope) {}

  Value::Client evaluate(Formula formula) {
    auto request = calculator.evaluateRequest();
    formula(request.initExpression());
    return request.send().getValue();
  }

  Function::Client getOperator(Calculator::Operator op) {
    auto request = calculator.getOperatorRequest();
    request.setOp(op);
    return request.send().getFunc();
  }

  Function::Client defFunction(int32_t params, Formula body) {
    auto request = calculator.defFunctionRequest();
    request.setParamCount(params);
    body(request.initBody());
    return request.send().getFunc();
  }

  double read(Value::Client value) {
    return value.readRequest().send().wait(waitScope).getValue();
  }

  void run() {
    printf("a number: %g\n", read(evaluate(number(7))));

    auto add = getOperator(Calculator::Operator::ADD);
    auto subtract = getOperator(Calculator::Operator::SUBTRACT);
    auto multiply = getOperator(Calculator::Operator::MULTIPLY);
    auto divide = getOperator(Calculator::Operator::DIVIDE);
    auto formula = [&] { return apply(add, apply(multiply, number(2), number(3)), number(4)); };
    printf("2 * 3 + 4 in one expression: %g\n", read(evaluate(formula())));

    auto ten = evaluate(formula());
    auto six = evaluate(apply(subtract, previous(ten), number(4)));
    auto two = evaluate(apply(divide, previous(six), number(3)));
    printf("(that - 4) / 3, pipelined: %g\n", read(two));

    auto f = defFunction(2, apply(add, apply(multiply, parameter(0), parameter(0)),
                                       apply(multiply, parameter(1), parameter(1))));
    auto fOf3And4 = [&] { return apply(f, number(3), number(4)); };
    printf("f(3, 4), defined there: %g\n", read(evaluate(fOf3And4())));
    auto g = defFunction(1, apply(subtract, apply(f, parameter(0), number(2)), number(1)));
    printf("g(5), which calls f: %g\n", read(evaluate(apply(g, number(5)))));

    unsigned calls = 0;
    Function::Client root = kj::heap<SquareRoot>(calls);
    printf("the square root of f(3, 4), worked out here: %g\n",
           read(evaluate(apply(root, fOf3And4()))));
    printf("calls back: %u\n", calls);

    auto failure = kj::runCatchingExceptions([&] { read(evaluate(apply(add, number(1)))); });
    KJ_IF_MAYBE(exception, failure) {
      printf("add with one argument: %s\n", kj::str(exception->getType()).cStr());
    } else {
      printf("add with one argument: no error\n");
    }
  }

private:
  Calculator::Client calculator;
  kj::WaitScope& waitScope;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && strcmp(argv[1], "serve") == 0) {
    serve(argv[2]);
    return 0;
  }
  if (argc == 3 && strcmp(argv[1], "call") == 0) {
    capnp::EzRpcClient client(argv[2]);
    Caller(client.getMain<Calculator>(), client.getWaitScope()).run();
    return 0;
  }
  fprintf(stderr, "usage: %s serve ADDR | call ADDR\n", argv[0]);
  return 2;
}
