//! Runs this library, the raw baseline and other implementations side by side, on
//! the same work, in turns, and prints what each needed and the ratios.
//!
//! A machine that does other work at the same time makes every absolute figure
//! doubtful. So the peers take turns at each figure, round after round; a ratio is
//! taken within each round, of runs that were seconds apart, and what is printed is
//! the median of the rounds' ratios with the least and the greatest.

mod options;
mod peers;
mod process;

use std::path::Path;
use std::process::ExitCode;

use benches::Result;
use benches::figures::Figure;
use benches::table::Table;

use crate::options::Options;
use crate::process::Server;

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)).and_then(|options| compare(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn compare(options: &Options) -> Result<()> {
    let peers = peers::build(&options.peers)?;
    let sockets = tempfile::tempdir()?;
    let mut servers = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        let address = options.address.of(&sockets.path().join(index.to_string()));
        servers.push(Server::start(&peer.server, &address)?);
    }
    let mut table = Table::new(peers.iter().map(|peer| peer.name.clone()).collect());
    for figure in &options.figures {
        for round in 0..options.rounds {
            eprintln!("{figure}, round {} of {}", round + 1, options.rounds);
            // Nobody always comes first, when the machine may still be busy with
            // something else.
            for turn in 0..peers.len() {
                let index = (turn + round) % peers.len();
                let lines = process::client(
                    &peers[index].client,
                    servers[index].address(),
                    &client_options(*figure, options.divisor),
                )?;
                for line in lines {
                    table.add(index, round, &line);
                }
            }
        }
    }
    print!("{table}");
    Ok(())
}

fn client_options(figure: Figure, divisor: usize) -> Vec<String> {
    ["--figures".into(), figure.to_string(), "--divide".into(), divisor.to_string()].into()
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AddressKind {
    Unix,
    Tcp,
}

impl AddressKind {
    fn of(self, path: &Path) -> String {
        match self {
            AddressKind::Unix => format!("unix:{}", path.display()),
            AddressKind::Tcp => "127.0.0.1:0".to_owned(),
        }
    }
}
