//! Where the system may run the processes.
//!
//! A thread that is woken on a core that sleeps takes several times as long to run as one on
//! a core that works. Whether the two processes of a figure come to share a core is a matter
//! of chance, and of how many threads they have. So a comparison can say where they run.

use std::fmt;

use benches::Result;

/// Which cores a figure's server and its client have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Cores {
    /// All that there are.
    #[default]
    Any,
    /// One each.
    Apart,
    /// One, which both share.
    Shared,
}

/// Which process of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

impl Cores {
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Cores::Any, Cores::Apart, Cores::Shared]
            .into_iter()
            .find(|cores| cores.to_string() == name)
    }

    /// Does something on the cores of a side. Processes that are begun meanwhile stay there.
    ///
    /// # Errors
    /// The system does not allow that, or has too few cores. Errors of `work`.
    pub(crate) fn confined<T>(self, side: Side, work: impl FnOnce() -> Result<T>) -> Result<T> {
        match (self, side) {
            (Cores::Any, _) => work(),
            (Cores::Apart, Side::Client) => on_core(1, work),
            (Cores::Apart, Side::Server) | (Cores::Shared, _) => on_core(0, work),
        }
    }
}

/// Does something on one of the cores that this thread may use.
#[cfg(target_os = "linux")]
fn on_core<T>(index: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    let all = sched_getaffinity(None)?;
    let core = (0..CpuSet::MAX_CPU)
        .filter(|core| all.is_set(*core))
        .nth(index)
        .ok_or("there are not as many cores; choose others with --cores")?;
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one)?;
    let done = work();
    sched_setaffinity(None, &all)?;
    done
}

#[cfg(not(target_os = "linux"))]
fn on_core<T>(_: usize, _: impl FnOnce() -> Result<T>) -> Result<T> {
    Err("only on Linux can --cores choose".into())
}

impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cores::Any => "any",
            Cores::Apart => "apart",
            Cores::Shared => "shared",
        })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::thread::{sched_getaffinity, sched_setaffinity};

    use super::*;

    fn cores() -> u32 {
        sched_getaffinity(None).map_or(0, |cores| cores.count())
    }

    #[test]
    fn what_is_confined_has_one_core_and_others_all() {
        let before = cores();
        for (kind, side, expected) in [
            (Cores::Any, Side::Server, before),
            (Cores::Apart, Side::Server, 1),
            (Cores::Shared, Side::Client, 1),
        ] {
            assert_eq!(kind.confined(side, || Ok(cores())).ok(), Some(expected));
            assert_eq!(cores(), before);
        }
    }

    #[test]
    fn two_cores_are_needed_to_be_apart() {
        let all = sched_getaffinity(None).ok();
        let alone =
            Cores::Shared.confined(Side::Server, || Cores::Apart.confined(Side::Client, || Ok(())));
        assert!(alone.is_err());
        assert_eq!(sched_getaffinity(None).ok(), all);
        assert!(all.is_some_and(|all| sched_setaffinity(None, &all).is_ok()));
    }
}
