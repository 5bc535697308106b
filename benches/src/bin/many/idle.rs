//! What idle connections cost. Their other ends are sockets that nobody reads or writes,
//! so that all that is counted is one side's.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;

use benches::figures::{Line, number};
use benches::table::Table;
use benches::{Failure, Result};
use capnp_threads_core::vat::{ConnectionThreads, VatConfig};
use capnp_threads_core::{ConnConfig, Vat};
use capnp_threads_transport::unix;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::{Options, in_turns};

/// Makes this program print what idle connections cost, and end: the memory is only
/// right in a process that has done nothing else.
pub(crate) const OPTION: &str = "--cost-of-idle";

pub(crate) fn table(options: &Options) -> Result<Table> {
    let count = options.connections;
    let mut cases = vec![
        (format!("{count} with threads of their own"), OWN),
        (format!("{count} that share threads"), SHARED),
    ];
    in_turns("idle", options, &mut cases, |threads| {
        let program = std::env::current_exe()?;
        let output = Command::new(program).args([OPTION, &count.to_string(), threads]).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
        }
        String::from_utf8(output.stdout)?.lines().map(str::parse).collect()
    })
}

const OWN: &str = "own";
const SHARED: &str = "shared";

pub(crate) fn print_cost(count: &str, threads: &str) -> Result<()> {
    let count: usize = count.parse()?;
    allow_fds()?;
    let mut config = VatConfig::default();
    config.connection_threads = match threads {
        OWN => ConnectionThreads::Own,
        SHARED => ConnectionThreads::Shared,
        _ => return Err(format!("there are no {threads:?} threads").into()),
    };
    let vat = Vat::with_config(config)?;
    let mut ends = Vec::with_capacity(count);
    let mut connections = Vec::with_capacity(count);
    let before = Usage::now()?;
    for number in 0..count {
        let (here, there) = UnixStream::pair()?;
        let connection = vat.connect(unix::from_stream(here)?, ConnConfig::new());
        let stopped = |error| Failure::from(format!("after {number} connections: {error}"));
        connections.push(connection.map_err(stopped)?);
        ends.push(there);
    }
    let now = Usage::now()?;
    let threads = now.threads.saturating_sub(before.threads);
    let bytes = now.bytes.saturating_sub(before.bytes);
    let lines = [
        Line::new("threads".to_owned(), number(threads), 0),
        Line::new("bytes_of_each".to_owned(), number(bytes) / number(count), 0),
    ];
    for line in lines {
        println!("{line}");
    }
    // Ending thousands of connections in order is not what is measured.
    std::process::exit(0);
}

struct Usage {
    threads: usize,
    bytes: usize,
}

impl Usage {
    fn now() -> Result<Self> {
        let status = fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| -> Result<usize> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_whitespace().next());
            Ok(value.ok_or_else(|| format!("no {name}"))?.parse()?)
        };
        Ok(Usage { threads: field("Threads:")?, bytes: field("VmRSS:")? << 10 })
    }
}

/// Allows as many file descriptors as this process may allow itself.
fn allow_fds() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(())
}
