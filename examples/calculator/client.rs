//! The half that asks for expressions to be evaluated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use capnp_threads::{Error, Result, Vat};
use rpc_schema::calculator_capnp::calculator;

use crate::formula::{Formula, apply};
use calculator::{Operator, function, value};

/// Asks a calculator for one value after another, and prints what it answers.
pub(crate) fn run(vat: &Vat, calculator: &calculator::Client) -> Result<()> {
    println!("a number: {}", read(&evaluate(calculator, &7.0.into()))?);

    // Operators are objects of the server. They are promised at once: nothing
    // waits for the server to hand them out.
    let [add, subtract, multiply, divide] =
        [Operator::Add, Operator::Subtract, Operator::Multiply, Operator::Divide]
            .map(|operator| get_operator(calculator, operator));
    let product = apply(&multiply, [2.0.into(), 3.0.into()]);
    let formula = apply(&add, [product, 4.0.into()]);
    println!("2 * 3 + 4 in one expression: {}", read(&evaluate(calculator, &formula))?);

    // Values are objects, too: each evaluation is sent before the one it builds
    // on has returned. All of it takes one round trip.
    let ten = evaluate(calculator, &formula);
    let six = evaluate(calculator, &apply(&subtract, [(&ten).into(), 4.0.into()]));
    let two = evaluate(calculator, &apply(&divide, [(&six).into(), 3.0.into()]));
    println!("(that - 4) / 3, pipelined: {}", read(&two)?);

    // f(x, y) = x * x + y * y, and g(x) = f(x, 2) - 1 on top of it.
    let (x, y) = (|| Formula::Parameter(0), || Formula::Parameter(1));
    let squares = [apply(&multiply, [x(), x()]), apply(&multiply, [y(), y()])];
    let f = def_function(calculator, 2, &apply(&add, squares));
    let f_of_3_and_4 = apply(&f, [3.0.into(), 4.0.into()]);
    println!("f(3, 4), defined there: {}", read(&evaluate(calculator, &f_of_3_and_4))?);
    let g =
        def_function(calculator, 1, &apply(&subtract, [apply(&f, [x(), 2.0.into()]), 1.0.into()]));
    println!("g(5), which calls f: {}", read(&evaluate(calculator, &apply(&g, [5.0.into()])))?);

    // A function of ours: the server calls it back, on a worker of this vat,
    // while this thread waits for the value.
    let root = Arc::new(SquareRoot::default());
    let square_root: function::Client = vat.export(Arc::clone(&root));
    let hypotenuse = evaluate(calculator, &apply(&square_root, [f_of_3_and_4]));
    println!("the square root of f(3, 4), worked out here: {}", read(&hypotenuse)?);
    println!("calls back: {}", root.calls.load(Ordering::SeqCst));

    // Errors come with a kind and a reason.
    let failed = read(&evaluate(calculator, &apply(&add, [1.0.into()])));
    let kind = failed.map_or_else(|error| error.kind().to_string(), |value| value.to_string());
    println!("add with one argument: {kind}");
    Ok(())
}

/// Sends an expression. The value can be used at once, even in further expressions.
fn evaluate(calculator: &calculator::Client, formula: &Formula) -> value::Client {
    let mut request = calculator.evaluate_request();
    formula.write(request.get().init_expression());
    request.send().pipeline().get_value()
}

/// Waits for a value.
fn read(value: &value::Client) -> Result<f64> {
    Ok(value.read_request().call()?.get()?.get_value())
}

fn get_operator(calculator: &calculator::Client, operator: Operator) -> function::Client {
    let mut request = calculator.get_operator_request();
    request.get().set_op(operator);
    request.send().pipeline().get_func()
}

fn def_function(calculator: &calculator::Client, params: i32, body: &Formula) -> function::Client {
    let mut request = calculator.def_function_request();
    let mut definition = request.get();
    definition.set_param_count(params);
    body.write(definition.init_body());
    request.send().pipeline().get_func()
}

#[derive(Default)]
struct SquareRoot {
    calls: AtomicU32,
}

impl function::Server for SquareRoot {
    fn call(&self, params: function::CallParams, mut results: function::CallResults) -> Result<()> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let operands = params.get()?.get_params()?;
        if operands.len() != 1 {
            return Err(Error::failed("a square root takes one number"));
        }
        results.get().set_value(operands.get(0).sqrt());
        Ok(())
    }
}
