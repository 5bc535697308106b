//! Expressions as the client writes them.

use rpc_schema::calculator_capnp::calculator;

use calculator::{expression, function, value};

/// An expression that has not been put into a message yet.
pub(crate) enum Formula {
    Number(f64),
    /// The value of an earlier expression, which may still be being evaluated.
    Value(value::Client),
    /// A parameter of the function whose body this is in.
    Parameter(u32),
    Call(function::Client, Vec<Formula>),
}

impl Formula {
    pub(crate) fn write(&self, mut out: expression::Builder<'_>) {
        match self {
            Formula::Number(number) => out.set_literal(*number),
            Formula::Value(value) => out.set_previous_result(value.clone()),
            Formula::Parameter(index) => out.set_parameter(*index),
            Formula::Call(function, operands) => {
                let mut call = out.init_call();
                call.set_function(function.clone());
                let len = u32::try_from(operands.len()).unwrap_or(u32::MAX);
                let mut params = call.init_params(len);
                for (index, operand) in (0..len).zip(operands) {
                    operand.write(params.reborrow().get(index));
                }
            }
        }
    }
}

impl From<f64> for Formula {
    fn from(number: f64) -> Self {
        Formula::Number(number)
    }
}

impl From<&value::Client> for Formula {
    fn from(value: &value::Client) -> Self {
        Formula::Value(value.clone())
    }
}

/// A function applied to operands.
pub(crate) fn apply<const N: usize>(
    function: &function::Client,
    operands: [Formula; N],
) -> Formula {
    Formula::Call(function.clone(), operands.into())
}
