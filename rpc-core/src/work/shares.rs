//! Who may have how many of a pool's workers.
//!
//! Note [shares]
//!
//! Each job has an [`Origin`]: the connection over which its call came, or this
//! process. What one origin takes must not be lost to the others for ever, neither
//! when its methods wait in this library for a peer that never answers, nor when they
//! wait for something else that never happens.
//!
//! - *Share*: an origin may take one more of something while it has less than three
//!   times what is left. So one greedy origin gets three quarters, two get three
//!   sevenths each, and however many there are, a newcomer finds something left, until
//!   there are about as many greedy origins as there is to be shared out.
//! - *Places* are shared out in this way, to workers that return from a wait as well as
//!   to new jobs.
//! - *Waiting workers* have given up their places, but are threads all the same. An
//!   origin may have three quarters of those that other origins leave of
//!   [`max_waiting`](super::pool::PoolConfig::max_waiting); each further one counts as
//!   if it had a place when another job of the origin is to begin. (A worker whose wait
//!   is over needs a place, whatever waits beside it: otherwise workers that wait could
//!   keep each other from going on.)
//! - *Queued jobs* are shared out as places are. Each origin has a queue of its own, and
//!   origins take turns. In its turn, an origin's returning workers go before its jobs.
//! - If all workers of an origin wait, and it may not have another one, then nothing in
//!   this vat is going to free one: perhaps they wait for the very jobs that are queued.
//!   So the queued calls of the origin are refused, and answered with `overloaded`.
//!   Closures of the application stay queued.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use super::executor::Job;
use super::origin::Origin;
use super::pool::PoolConfig;
use super::waiting::{Called, Waiters};
use crate::memory::GiveBack;

/// Number of origins, and of jobs of each, for which memory is kept when nothing waits.
const KEPT: usize = 16;

/// How much an origin may have for each that is left.
const SHARE: usize = 3;

/// The workers and the jobs of all origins.
pub(super) struct Shares {
    max_workers: usize,
    max_waiting: usize,
    max_queued: usize,
    /// The number of places that are taken, or given to a worker that was called.
    working: usize,
    /// The number of workers that wait for an answer, or for a place after their answer
    /// came.
    waiting: usize,
    queued: usize,
    accounts: HashMap<Origin, Account, RandomState>,
    /// The number of jobs that have begun.
    begun: u64,
    /// The origins with something that waits for a place, the next one first.
    turns: VecDeque<Origin>,
}

/// What one origin has.
#[derive(Default)]
struct Account {
    /// The number of places.
    running: usize,
    /// The number of workers that wait.
    waiting: usize,
    /// The workers whose wait is over and that wait for a place.
    returning: Waiters,
    /// The number of places given to returning workers that have not looked yet.
    given: usize,
    queue: VecDeque<Job>,
    /// Whether the origin is in line for a turn.
    in_turn: bool,
    /// A number that grows with each job that begins.
    begun: u64,
}

/// What gets a place.
pub(super) enum Turn {
    /// A worker that has waited.
    Return(Called),
    Begin(Job),
}

/// An origin whose jobs wait.
pub(super) struct Queued {
    pub(super) origin: Origin,
    pub(super) jobs: usize,
    /// Another number means that a job of the origin has begun, or that its queue was
    /// empty.
    pub(super) begun: u64,
}

/// Whether one may be added to what an origin has.
fn is_in_share(own: usize, left: usize) -> bool {
    own < left.saturating_mul(SHARE)
}

impl Shares {
    pub(super) fn new(config: &PoolConfig) -> Self {
        Shares {
            max_workers: config.max_workers,
            max_waiting: config.max_waiting,
            max_queued: config.max_queued,
            working: 0,
            waiting: 0,
            queued: 0,
            accounts: HashMap::default(),
            begun: 0,
            turns: VecDeque::new(),
        }
    }

    fn account(&mut self, origin: Origin) -> &mut Account {
        // An account that is new again has another number than it had before.
        let begun = self.begun;
        self.accounts.entry(origin).or_insert_with(|| Account { begun, ..Account::default() })
    }

    /// Gives back what the account does not need, and the account if it is not used.
    fn tidy(&mut self, origin: Origin) {
        let Some(account) = self.accounts.get_mut(&origin) else { return };
        account.queue.give_back(KEPT);
        if self.accounts.len() > KEPT && !self.accounts[&origin].is_used() {
            self.accounts.remove(&origin);
            self.accounts.give_back(KEPT);
        }
        self.turns.give_back(KEPT);
    }

    /// The number of places that are left when this many workers wait.
    fn left(&self, waiting: usize) -> usize {
        let beyond = waiting.saturating_sub(self.max_waiting);
        self.max_workers.saturating_sub(self.working).saturating_sub(beyond)
    }

    /// Whether a new job of the origin may begin.
    fn may_begin(&self, origin: Origin) -> bool {
        let (running, excess) = self.of(origin);
        let beyond = self.waiting.saturating_sub(self.max_waiting);
        let left = self.max_workers.saturating_sub(self.working).saturating_sub(beyond.max(excess));
        is_in_share(running + excess, left)
    }

    /// Whether a worker of the origin whose wait is over may go on.
    pub(super) fn may_return(&self, origin: Origin) -> bool {
        let running = self.accounts.get(&origin).map_or(0, |account| account.running);
        is_in_share(running, self.left(self.waiting.saturating_sub(1)))
    }

    /// The number of the origin's places, and of its waiting workers beyond its share.
    fn of(&self, origin: Origin) -> (usize, usize) {
        let Some(account) = self.accounts.get(&origin) else { return (0, 0) };
        let others = self.waiting - account.waiting;
        // Rounded so that nothing overflows.
        let rest = self.max_waiting.saturating_sub(others);
        let share = rest - rest / (SHARE + 1);
        (account.running, account.waiting.saturating_sub(share))
    }

    /// Whether a new job of the origin may begin before any that waits.
    pub(super) fn may_begin_now(&self, origin: Origin) -> bool {
        let waits = self.accounts.get(&origin).is_some_and(Account::has_more);
        !waits && self.may_begin(origin)
    }

    /// Takes a place for a job.
    pub(super) fn begin(&mut self, origin: Origin) {
        self.working += 1;
        self.begun += 1;
        let account = self.account(origin);
        account.running += 1;
        account.begun += 1;
    }

    /// Frees the place of a job that is over.
    pub(super) fn end(&mut self, origin: Origin) {
        self.working -= 1;
        self.account(origin).running -= 1;
        self.tidy(origin);
    }

    /// Takes back a place that was taken for a job, and puts the job in front of the
    /// queue.
    pub(super) fn give_back(&mut self, job: Job) {
        let origin = job.origin();
        self.end(origin);
        self.queued += 1;
        let account = self.account(origin);
        account.begun -= 1;
        account.queue.push_front(job);
        self.wait_for_turn(origin);
    }

    /// Frees the place of a worker that waits.
    pub(super) fn wait(&mut self, origin: Origin) {
        self.working -= 1;
        self.waiting += 1;
        let account = self.account(origin);
        account.running -= 1;
        account.waiting += 1;
    }

    /// The workers of the origin whose wait is over.
    pub(super) fn returning(&mut self, origin: Origin) -> &mut Waiters {
        &mut self.account(origin).returning
    }

    /// Gives a place to a worker whose wait is over, if there is one for it. `called`
    /// is whether the worker was called: then the place may have been given already.
    pub(super) fn go_on(&mut self, origin: Origin, called: bool) -> bool {
        let account = self.account(origin);
        if called && account.given > 0 {
            account.given -= 1;
        } else if account.returning.is_empty() && self.may_return(origin) {
            self.working += 1;
            self.account(origin).running += 1;
        } else {
            self.wait_for_turn(origin);
            return false;
        }
        self.waiting -= 1;
        self.account(origin).waiting -= 1;
        true
    }

    /// Moves a worker to another origin.
    pub(super) fn transfer(&mut self, from: Origin, to: Origin) {
        self.account(from).running -= 1;
        self.account(to).running += 1;
        self.tidy(from);
    }

    /// Queues a job.
    ///
    /// # Errors
    /// The origin's share of the queue is full.
    pub(super) fn queue(&mut self, job: Job) -> Result<(), Job> {
        let origin = job.origin();
        let left = self.max_queued.saturating_sub(self.queued);
        let account = self.account(origin);
        if !is_in_share(account.queue.len(), left) {
            return Err(job);
        }
        account.queue.push_back(job);
        self.queued += 1;
        self.wait_for_turn(origin);
        Ok(())
    }

    fn wait_for_turn(&mut self, origin: Origin) {
        if !std::mem::replace(&mut self.account(origin).in_turn, true) {
            self.turns.push_back(origin);
        }
    }

    /// Gives a place to the next that waits for one and may have it.
    pub(super) fn next_turn(&mut self) -> Option<Turn> {
        for _ in 0..self.turns.len() {
            if self.left(self.waiting.saturating_sub(1)) == 0 {
                return None;
            }
            let origin = self.turns.pop_front()?;
            let turn = self.turn_of(origin);
            let account = self.account(origin);
            account.in_turn = account.has_more();
            if account.in_turn {
                self.turns.push_back(origin);
            }
            self.tidy(origin);
            if turn.is_some() {
                return turn;
            }
        }
        None
    }

    fn turn_of(&mut self, origin: Origin) -> Option<Turn> {
        if !self.account(origin).returning.is_empty() {
            if !self.may_return(origin) {
                return None;
            }
            self.working += 1;
            let account = self.account(origin);
            account.running += 1;
            account.given += 1;
            return Some(Turn::Return(account.returning.call_first()));
        }
        if !self.may_begin(origin) {
            return None;
        }
        let job = self.account(origin).queue.pop_front()?;
        self.queued -= 1;
        self.begin(origin);
        Some(Turn::Begin(job))
    }

    /// Takes the calls of an origin out of its queue if no worker of this vat is going
    /// to run them unless something happens outside of it.
    pub(super) fn take_hopeless(&mut self, origin: Origin) -> VecDeque<Job> {
        let Some(account) = self.accounts.get(&origin) else { return VecDeque::new() };
        if account.queue.is_empty() || !account.returning.is_empty() || self.may_begin(origin) {
            return VecDeque::new();
        }
        let (running, excess) = self.of(origin);
        if self.working > 0 && (running > 0 || excess == 0) {
            return VecDeque::new();
        }
        let account = self.account(origin);
        let all = std::mem::take(&mut account.queue);
        let (calls, closures): (VecDeque<_>, VecDeque<_>) =
            all.into_iter().partition(|job| job.object().is_some());
        account.queue = closures;
        self.queued -= calls.len();
        self.tidy(origin);
        calls
    }

    /// Whether nothing waits: no job, and no worker.
    pub(super) fn is_calm(&self) -> bool {
        self.queued == 0 && self.waiting == 0
    }

    /// The origins whose jobs wait.
    pub(super) fn queues(&self) -> Vec<Queued> {
        let queued = |(origin, account): (&Origin, &Account)| Queued {
            origin: *origin,
            jobs: account.queue.len(),
            begun: account.begun,
        };
        self.accounts.iter().filter(|(_, account)| !account.queue.is_empty()).map(queued).collect()
    }
}

impl Account {
    /// Whether something waits for a place.
    fn has_more(&self) -> bool {
        !self.returning.is_empty() || !self.queue.is_empty()
    }

    fn is_used(&self) -> bool {
        self.running > 0 || self.waiting > 0 || self.in_turn || self.has_more()
    }
}

#[cfg(all(test, not(rpc_model)))]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn origins_and_queues_that_are_not_used_leave_nothing_behind() {
        let config = PoolConfig { max_workers: 10_000, ..PoolConfig::default() };
        let mut shares = Shares::new(&config);
        let origins: Vec<_> = (0..1_000).map(|_| Origin::connection()).collect();
        origins.iter().for_each(|origin| shares.begin(*origin));
        assert_eq!(shares.accounts.len(), 1_000);
        origins.iter().for_each(|origin| shares.end(*origin));
        assert!(shares.accounts.len() <= KEPT, "{} accounts are left", shares.accounts.len());
        assert!(shares.accounts.capacity() <= 8 * KEPT);
        // Somebody who is there already, with a long queue.
        let here = Origin::LOCAL;
        shares.begin(here);
        while shares.queue(Job::closure(|| ())).is_ok() && shares.queued < 1_000 {}
        assert!(shares.account(here).queue.capacity() >= 100);
        while shares.next_turn().is_some() {
            shares.end(here);
        }
        assert!(shares.account(here).queue.capacity() <= KEPT);
        assert!(shares.turns.capacity() <= KEPT);
    }

    #[test]
    fn an_account_that_is_made_again_does_not_look_as_before() {
        let mut shares = Shares::new(&PoolConfig::default());
        let others: Vec<_> = (0..=KEPT).map(|_| Origin::connection()).collect();
        others.iter().for_each(|origin| shares.begin(*origin));
        let origin = Origin::connection();
        shares.begin(origin);
        let before = shares.account(origin).begun;
        shares.end(origin);
        assert!(!shares.accounts.contains_key(&origin));
        shares.begin(origin);
        assert_ne!(shares.account(origin).begun, before);
    }
}
