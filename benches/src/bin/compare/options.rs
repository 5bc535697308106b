//! The command line.

use std::path::PathBuf;

use benches::figures::Figure;
use benches::within::Within;
use benches::{Result, cli};

use crate::AddressKind;
use crate::cores::Cores;

const USAGE: &str = "usage: compare [OPTION...]
  --rounds N          how often everything is repeated (default 5)
  --figures NAME,...  which figures (default: all)
  --peers NAME,...    which peers, of ours, inline, raw, capnp-rpc, c++ (with the
                      system's library) and c++-wheel (with that of the wheel from
                      PyPI), the default being all that are installed, and of
                      ttrpc, tonic and tarpc, which take long to build; ratios are
                      those of the first one to the others
  --address KIND,...  unix, tcp (default: both)
  --cores WHICH       where processes run: any (the default), apart (the servers on
                      one core, the clients on another one), shared (all on one);
                      not for what is taken within a process
  --divide N          do that part of the work
  --out FOLDER        also writes every value as compare.csv there, and draws pictures
  --quick             as --rounds 3 --divide 10";

pub(crate) struct Options {
    pub(crate) rounds: usize,
    /// Between processes.
    pub(crate) figures: Vec<Figure>,
    /// Within a process.
    pub(crate) within: Vec<Within>,
    /// Empty for all that are installed.
    pub(crate) peers: Vec<String>,
    pub(crate) addresses: Vec<AddressKind>,
    pub(crate) cores: Cores,
    pub(crate) divisor: usize,
    /// Where the values and pictures go.
    pub(crate) out: Option<PathBuf>,
}

impl Options {
    pub(crate) fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut options = Options {
            rounds: 5,
            figures: Figure::ALL.to_vec(),
            within: Within::ALL.to_vec(),
            peers: Vec::new(),
            addresses: vec![AddressKind::Unix, AddressKind::Tcp],
            cores: Cores::Any,
            divisor: 1,
            out: None,
        };
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or(USAGE);
            match option.as_str() {
                "--quick" => (options.rounds, options.divisor) = (3, 10),
                "--rounds" => options.rounds = cli::positive(&option, &value()?)?,
                "--divide" => options.divisor = cli::positive(&option, &value()?)?,
                "--figures" => options.choose(&value()?)?,
                "--peers" => options.peers = value()?.split(',').map(str::to_owned).collect(),
                "--cores" => options.cores = Cores::named(&value()?).ok_or(USAGE)?,
                "--out" => options.out = Some(value()?.into()),
                "--address" => {
                    options.addresses = value()?
                        .split(',')
                        .map(AddressKind::named)
                        .collect::<Option<_>>()
                        .ok_or(USAGE)?;
                }
                _ => return Err(USAGE.into()),
            }
        }
        Ok(options)
    }

    fn choose(&mut self, names: &str) -> Result<()> {
        (self.figures, self.within) = (Vec::new(), Vec::new());
        for name in names.split(',') {
            match (name.parse(), name.parse()) {
                (Ok(figure), _) => self.figures.push(figure),
                (_, Ok(figure)) => self.within.push(figure),
                (Err(between), Err(within)) => return Err(format!("{between}; {within}").into()),
            }
        }
        Ok(())
    }
}
