//! What each worker of a pool does at the moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::executor::{Calls, Job};
use super::origin::Origin;
use super::waiting::Awaited;

/// The number of a worker. No other worker of the pool ever has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Post(u64);

#[derive(Default)]
pub(super) struct Posts {
    /// Those of the workers that exist. A `BTreeMap` keeps no memory of its peak:
    /// Note [memory peak].
    posts: BTreeMap<Post, Entry>,
    taken: u64,
}

#[derive(Default)]
struct Entry {
    /// How often the worker began a job or a wait, or ended a wait.
    steps: u64,
    origin: Origin,
    work: Work,
}

#[derive(Default)]
enum Work {
    #[default]
    Nothing,
    Runs(Option<Weak<dyn Calls>>),
    /// The worker waits in this library, for this call if it is one.
    Waits(Option<Weak<dyn Calls>>, Option<Weak<dyn Awaited>>),
}

/// What a worker does.
pub(super) struct Doing {
    pub(super) post: Post,
    /// Another number means that the worker did something in the meantime.
    pub(super) steps: u64,
    pub(super) object: Option<Arc<dyn Calls>>,
    pub(super) waits: Waits,
}

pub(super) enum Waits {
    /// The worker runs application code.
    No,
    For(Option<Arc<dyn Awaited>>),
}

impl Posts {
    pub(super) fn take(&mut self) -> Post {
        self.taken += 1;
        let post = Post(self.taken);
        self.posts.insert(post, Entry::default());
        post
    }

    pub(super) fn free(&mut self, post: Post) {
        self.posts.remove(&post);
    }

    // A post is used only between `take` and `free`, so the entry is there.
    fn entry(&mut self, post: Post) -> &mut Entry {
        self.posts.entry(post).or_default()
    }

    /// Returns the number of this step.
    pub(super) fn begin(&mut self, post: Post, job: &Job) -> u64 {
        let entry = self.entry(post);
        entry.steps += 1;
        entry.origin = job.origin();
        entry.work = Work::Runs(job.object().map(Arc::downgrade));
        entry.steps
    }

    /// Ends what began with this step, unless the worker has done something else since, or has
    /// left. For another thread than the worker.
    pub(super) fn end_of(&mut self, post: Post, step: u64) {
        if let Some(entry) = self.posts.get_mut(&post)
            && entry.steps == step
        {
            entry.work = Work::Nothing;
        }
    }

    pub(super) fn rest(&mut self, post: Post) {
        self.entry(post).work = Work::Nothing;
    }

    pub(super) fn wait(&mut self, post: Post, awaited: Option<Weak<dyn Awaited>>) {
        let entry = self.entry(post);
        if let Work::Runs(object) = &mut entry.work {
            entry.steps += 1;
            entry.work = Work::Waits(object.take(), awaited);
        }
    }

    pub(super) fn go_on(&mut self, post: Post) {
        let entry = self.entry(post);
        if let Work::Waits(object, _) = &mut entry.work {
            entry.steps += 1;
            entry.work = Work::Runs(object.take());
        }
    }

    /// The origin that has the worker.
    pub(super) fn origin(&self, post: Post) -> Origin {
        self.posts.get(&post).map(|entry| entry.origin).unwrap_or_default()
    }

    /// Returns the origin that had the worker before.
    pub(super) fn change_origin(&mut self, post: Post, origin: Origin) -> Origin {
        std::mem::replace(&mut self.entry(post).origin, origin)
    }

    /// What the workers do that have a job. What this returns must not be dropped under
    /// a lock.
    pub(super) fn doing(&self) -> Vec<Doing> {
        let alive = |object: &Option<Weak<dyn Calls>>| object.as_ref().and_then(Weak::upgrade);
        let of_entry = |(post, entry): (&Post, &Entry)| {
            let (object, waits) = match &entry.work {
                Work::Nothing => return None,
                Work::Runs(object) => (alive(object), Waits::No),
                Work::Waits(object, awaited) => {
                    let awaited = awaited.as_ref().and_then(Weak::upgrade);
                    (alive(object), Waits::For(awaited))
                }
            };
            Some(Doing { post: *post, steps: entry.steps, object, waits })
        };
        self.posts.iter().filter_map(of_entry).collect()
    }
}

#[cfg(all(test, not(rpc_model)))]
mod tests {
    use super::*;

    /// What a worker kept may be handed over by another thread while the worker goes on.
    #[test]
    fn only_what_began_with_a_step_ends_with_it() {
        let mut posts = Posts::default();
        let post = posts.take();
        let job = || Job::closure(|| ());
        let kept = posts.begin(post, &job());
        let next = posts.begin(post, &job());
        posts.end_of(post, kept);
        assert_eq!(posts.doing().len(), 1, "the worker does something else");
        posts.end_of(post, next);
        assert!(posts.doing().is_empty());
        posts.free(post);
        posts.end_of(post, next);
        assert!(posts.posts.is_empty(), "the worker has left");
    }
}
