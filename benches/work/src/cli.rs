//! The command line that the load programs share.

use std::io::Write;
use std::process::ExitCode;

use crate::Result;
use crate::address::Address;
use crate::figures::{Client, Figure, Work};

/// How a load program is started, whichever implementation it is of.
pub const USAGE: &str = "server ADDR | client ADDR [--figures NAME,NAME...] [--divide N]
ADDR is host:port or unix:/path; port 0 lets the system choose one for a server";

/// Reads a client's options.
///
/// # Errors
/// Says what is wrong with them.
pub fn work(options: impl IntoIterator<Item = String>) -> Result<Work> {
    let mut options = options.into_iter();
    let mut work = Work::default();
    while let Some(option) = options.next() {
        let value = options.next().ok_or_else(|| format!("{option} needs a value"))?;
        match option.as_str() {
            "--figures" => work.figures = figures(&value)?,
            "--divide" => work.divisor = positive(&option, &value)?,
            _ => return Err(format!("there is no option {option}").into()),
        }
    }
    Ok(work)
}

/// Reads a list of figures.
///
/// # Errors
/// There is none of such a name.
pub fn figures(list: &str) -> Result<Vec<Figure>> {
    list.split(',').map(str::parse).collect()
}

/// Reads the value of an option that counts something.
///
/// # Errors
/// It is not a number, or zero.
pub fn positive(option: &str, value: &str) -> Result<usize> {
    match value.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(format!("{option} needs a number above zero, not {value:?}").into()),
    }
}

/// Does a client's work and prints the figures.
///
/// # Errors
/// A call failed.
pub fn run(work: &Work, client: &mut dyn Client) -> Result<()> {
    let mut out = std::io::stdout().lock();
    work.run(client, |line| {
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    })
}

/// Serves, or does a client's work, as the program's arguments say.
pub fn peer<C: Client>(
    name: &str,
    serve: impl FnOnce(&Address) -> Result<()>,
    connect: impl FnOnce(&Address) -> Result<C>,
) -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let run = move || {
        let (Some(role), Some(address)) = (arguments.next(), arguments.next()) else {
            return Err(format!("usage: {name} {USAGE}").into());
        };
        let address: Address = address.parse()?;
        match role.as_str() {
            "server" => serve(&address),
            "client" => {
                let work = work(arguments)?;
                crate::cli::run(&work, &mut connect(&address)?)
            }
            _ => Err(format!("usage: {name} {USAGE}").into()),
        }
    };
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Tells whoever started this server that it can be connected to.
///
/// # Errors
/// Nobody listens.
pub fn ready(address: &impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {address}")?;
    out.flush()?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Work> {
        work(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_say_what_to_do() {
        assert_eq!(parse("").unwrap(), Work::default());
        let short = parse("--divide 10 --figures chain10,pipelined_w128").unwrap();
        assert_eq!(short.divisor, 10);
        assert_eq!(short.figures, [Figure::Chain, Figure::Pipelined(128)]);
        for wrong in ["--divide", "--divide 0", "--divide x", "--figures pong", "--fast yes"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
