//! Runs this library, the raw baseline and other implementations side by side, on
//! the same work, in turns, and prints what each needed, the ratios, and how far the
//! goals are reached.
//!
//! A machine that does other work at the same time makes every absolute figure
//! doubtful. So a round takes each figure of all the peers, one peer right after the
//! other; a ratio is taken within a round, of runs that were seconds apart, and what is
//! printed is the median of the rounds' ratios with the least and the greatest.

mod cores;
mod goals;
mod options;
mod peers;
mod process;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use benches::figures::Figure;
use benches::table::Table;
use benches::within::Within;
use benches::{Result, record};

use crate::cores::{Cores, Side};
use crate::goals::Judged;
use crate::options::Options;
use crate::peers::Peer;
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
    let mut places = Vec::new();
    for address in &options.addresses {
        places.push(Place::new(*address, &peers, sockets.path(), options.cores)?);
    }
    let names = peers.iter().map(|peer| peer.name.clone()).collect();
    let mut within = Table::new("within", names);
    for round in 0..options.rounds {
        for place in &mut places {
            for figure in &options.figures {
                say(round, options.rounds, place.table.name(), figure);
                place.measure(&peers, *figure, round, options.divisor)?;
            }
        }
        for figure in &options.within {
            say(round, options.rounds, within.name(), figure);
            measure_within(&mut within, &peers, *figure, round, options.divisor)?;
        }
    }
    let tables = places.into_iter().map(|place| place.table).chain([within]);
    let tables: Vec<Table> = tables.filter(|table| !table.rows().is_empty()).collect();
    for table in &tables {
        println!("## {}\n\n{table}\n{}", table.name(), Judged(table));
    }
    if let Some(folder) = &options.out {
        record::write(folder, "compare", &tables)?;
    }
    Ok(())
}

fn say(round: usize, rounds: usize, place: &str, figure: &impl fmt::Display) {
    eprintln!("round {} of {rounds}: {place}, {figure}", round + 1);
}

/// Everybody's servers at one kind of address, and what was measured of them.
struct Place {
    /// By peer.
    servers: Vec<Server>,
    cores: Cores,
    table: Table,
}

impl Place {
    fn new(address: AddressKind, peers: &[Peer], sockets: &Path, cores: Cores) -> Result<Self> {
        let mut servers = Vec::new();
        for (index, peer) in peers.iter().enumerate() {
            let address = address.of(&sockets.join(index.to_string()));
            let start = || Server::start(&peer.server, &address);
            servers.push(cores.confined(Side::Server, start)?);
        }
        let names = peers.iter().map(|peer| peer.name.clone()).collect();
        Ok(Place { servers, cores, table: Table::new(address.to_string(), names) })
    }

    /// Takes a figure of each peer that has it.
    fn measure(
        &mut self,
        peers: &[Peer],
        figure: Figure,
        round: usize,
        divisor: usize,
    ) -> Result<()> {
        for index in turns(peers.len(), round) {
            if !(peers[index].figures)(figure) {
                continue;
            }
            let address = self.servers[index].address().to_owned();
            let mut options = vec![address];
            options.extend(what(&figure, divisor));
            let client = || process::client(&peers[index].client, &options);
            for line in self.cores.confined(Side::Client, client)? {
                self.table.add(index, round, &line);
            }
        }
        Ok(())
    }
}

/// Takes a figure of each peer that has it.
fn measure_within(
    table: &mut Table,
    peers: &[Peer],
    figure: Within,
    round: usize,
    divisor: usize,
) -> Result<()> {
    for index in turns(peers.len(), round) {
        let Some((command, figures)) = &peers[index].within else { continue };
        if figures.contains(&figure) {
            for line in process::client(command, &what(&figure, divisor))? {
                table.add(index, round, &line);
            }
        }
    }
    Ok(())
}

/// The order of peers in a round. Nobody always comes first, when the machine may still
/// be busy with something else.
fn turns(peers: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..peers).map(move |turn| (turn + round) % peers)
}

fn what(figure: &impl fmt::Display, divisor: usize) -> [String; 4] {
    ["--figures".into(), figure.to_string(), "--divide".into(), divisor.to_string()]
}

/// Where a server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AddressKind {
    Unix,
    Tcp,
}

impl AddressKind {
    fn named(name: &str) -> Option<Self> {
        [AddressKind::Unix, AddressKind::Tcp].into_iter().find(|kind| kind.to_string() == name)
    }

    fn of(self, path: &Path) -> String {
        match self {
            AddressKind::Unix => format!("unix:{}", path.display()),
            AddressKind::Tcp => "127.0.0.1:0".to_owned(),
        }
    }
}

impl fmt::Display for AddressKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AddressKind::Unix => "unix",
            AddressKind::Tcp => "tcp",
        })
    }
}
