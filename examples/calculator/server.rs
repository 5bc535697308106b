//! The half that evaluates expressions.

use capnp_threads::transport::Listener;
use capnp_threads::{Concurrency, Detached, Error, Result, ServeConfig, Vat};
use rpc_schema::calculator_capnp::calculator;

use calculator::{Operator, def_function_params, expression, function, value};

/// Serves every client of a listener until that is closed.
pub(crate) fn serve(listener: &Listener) -> Result<()> {
    let vat = Vat::new();
    // A client's function may call the calculator back, so it must not be busy.
    let calculator: calculator::Client = vat.export_with(Calculator, Concurrency::Concurrent);
    vat.serve(listener, ServeConfig::bootstrap(calculator))
}

struct Calculator;

impl calculator::Server for Calculator {
    fn evaluate(
        &self,
        params: calculator::EvaluateParams,
        mut results: calculator::EvaluateResults,
    ) -> Result<()> {
        let number = evaluate(params.get()?.get_expression()?, &[])?;
        results.get().set_value(value::Client::from_server(Number(number)));
        Ok(())
    }

    fn def_function(
        &self,
        params: calculator::DefFunctionParams,
        mut results: calculator::DefFunctionResults,
    ) -> Result<()> {
        let param_count = u32::try_from(params.get()?.get_param_count()).map_err(|_| {
            Error::failed("the number of a function's parameters cannot be negative")
        })?;
        // The message is kept as it came: nothing of the body is copied.
        let defined = Defined { param_count, definition: params.detach() };
        results.get().set_func(function::Client::from_server(defined));
        Ok(())
    }

    fn get_operator(
        &self,
        params: calculator::GetOperatorParams,
        mut results: calculator::GetOperatorResults,
    ) -> Result<()> {
        let arithmetic = Arithmetic(params.get()?.get_op()?);
        results.get().set_func(function::Client::from_server(arithmetic));
        Ok(())
    }
}

/// Evaluates an expression, with calls to the owners of the values and functions in it.
/// The depth of messages is limited, and so is this recursion.
fn evaluate(expression: expression::Reader<'_>, arguments: &[f64]) -> Result<f64> {
    match expression.which()? {
        expression::Literal(number) => Ok(number),
        expression::PreviousResult(value) => Ok(value?.read_request().call()?.get()?.get_value()),
        expression::Parameter(index) => usize::try_from(index)
            .ok()
            .and_then(|index| arguments.get(index).copied())
            .ok_or_else(|| Error::failed(format!("there is no parameter {index} here"))),
        expression::Call(call) => {
            let operands = call.get_params()?;
            let mut request = call.get_function()?.call_request();
            let mut params = request.get().init_params(operands.len());
            for (index, operand) in (0..).zip(operands) {
                params.set(index, evaluate(operand, arguments)?);
            }
            Ok(request.call()?.get()?.get_value())
        }
    }
}

struct Number(f64);

impl value::Server for Number {
    fn read(&self, _: value::ReadParams, mut results: value::ReadResults) -> Result<()> {
        results.get().set_value(self.0);
        Ok(())
    }
}

/// A function that a client wrote as an expression.
struct Defined {
    param_count: u32,
    definition: Detached<def_function_params::Owned>,
}

impl function::Server for Defined {
    fn call(&self, params: function::CallParams, mut results: function::CallResults) -> Result<()> {
        let arguments: Vec<f64> = params.get()?.get_params()?.iter().collect();
        check_count(&arguments, self.param_count)?;
        let definition = self.definition.clone().attach();
        results.get().set_value(evaluate(definition.get()?.get_body()?, &arguments)?);
        Ok(())
    }
}

struct Arithmetic(Operator);

impl function::Server for Arithmetic {
    fn call(&self, params: function::CallParams, mut results: function::CallResults) -> Result<()> {
        let arguments: Vec<f64> = params.get()?.get_params()?.iter().collect();
        check_count(&arguments, 2)?;
        let (a, b) = (arguments[0], arguments[1]);
        results.get().set_value(match self.0 {
            Operator::Add => a + b,
            Operator::Subtract => a - b,
            Operator::Multiply => a * b,
            Operator::Divide => a / b,
        });
        Ok(())
    }
}

fn check_count(arguments: &[f64], expected: u32) -> Result<()> {
    if u32::try_from(arguments.len()) == Ok(expected) {
        return Ok(());
    }
    Err(Error::failed(format!("{expected} arguments are needed, {} were given", arguments.len())))
}
