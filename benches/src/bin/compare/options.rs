//! The command line.

use benches::figures::Figure;
use benches::{Result, cli};

use crate::AddressKind;

const USAGE: &str = "usage: compare [OPTION...]
  --rounds N          how often everything is repeated (default 5)
  --figures NAME,...  which figures (default: all)
  --peers NAME,...    which peers, of ours, inline, raw, capnp-rpc, c++ (with the
                      system's library) and c++-wheel (with that of the wheel from
                      PyPI); default: all that are installed; ratios are those of
                      the first one to the others
  --address KIND      unix or tcp (default: unix)
  --divide N          do that part of the work
  --quick             as --rounds 3 --divide 10";

pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) figures: Vec<Figure>,
    /// Empty for all that are installed.
    pub(crate) peers: Vec<String>,
    pub(crate) address: AddressKind,
    pub(crate) divisor: usize,
}

impl Options {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Options {
            rounds: 5,
            figures: Figure::ALL.to_vec(),
            peers: Vec::new(),
            address: AddressKind::Unix,
            divisor: 1,
        };
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or(USAGE);
            match option.as_str() {
                "--quick" => (options.rounds, options.divisor) = (3, 10),
                "--rounds" => options.rounds = cli::positive(&option, &value()?)?,
                "--divide" => options.divisor = cli::positive(&option, &value()?)?,
                "--figures" => options.figures = cli::figures(&value()?)?,
                "--peers" => options.peers = value()?.split(',').map(str::to_owned).collect(),
                "--address" => {
                    options.address = match value()?.as_str() {
                        "unix" => AddressKind::Unix,
                        "tcp" => AddressKind::Tcp,
                        _ => return Err(USAGE.into()),
                    }
                }
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }
}
