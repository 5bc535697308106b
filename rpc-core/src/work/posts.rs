//! What each worker of a pool does at the moment.

use std::sync::{Arc, Weak};

use super::executor::{Calls, Job};
use super::origin::Origin;
use super::waiting::Awaited;

/// The number of a worker among those that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Post(usize);

#[derive(Default)]
pub(super) struct Posts {
    posts: Vec<Entry>,
    free: Vec<Post>,
}

#[derive(Default)]
struct Entry {
    /// How often the worker, or another one that had this number, began a job or a wait or
    /// ended a wait.
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
        self.free.pop().unwrap_or_else(|| {
            self.posts.push(Entry::default());
            Post(self.posts.len() - 1)
        })
    }

    pub(super) fn free(&mut self, post: Post) {
        self.rest(post);
        self.free.push(post);
    }

    // A post is used only between `take` and `free`.
    fn entry(&mut self, post: Post) -> &mut Entry {
        &mut self.posts[post.0]
    }

    pub(super) fn begin(&mut self, post: Post, job: &Job) {
        let entry = self.entry(post);
        entry.steps += 1;
        entry.origin = job.origin();
        entry.work = Work::Runs(job.object().map(Arc::downgrade));
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
        self.posts[post.0].origin
    }

    /// Returns the origin that had the worker before.
    pub(super) fn change_origin(&mut self, post: Post, origin: Origin) -> Origin {
        std::mem::replace(&mut self.entry(post).origin, origin)
    }

    /// What the workers do that have a job. What this returns must not be dropped under
    /// a lock.
    pub(super) fn doing(&self) -> Vec<Doing> {
        let alive = |object: &Option<Weak<dyn Calls>>| object.as_ref().and_then(Weak::upgrade);
        let of_entry = |(number, entry): (usize, &Entry)| {
            let (object, waits) = match &entry.work {
                Work::Nothing => return None,
                Work::Runs(object) => (alive(object), Waits::No),
                Work::Waits(object, awaited) => {
                    let awaited = awaited.as_ref().and_then(Weak::upgrade);
                    (alive(object), Waits::For(awaited))
                }
            };
            Some(Doing { post: Post(number), steps: entry.steps, object, waits })
        };
        self.posts.iter().enumerate().filter_map(of_entry).collect()
    }
}
