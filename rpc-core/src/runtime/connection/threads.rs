//! Who does the work of a connection's threads: three threads of its own, or attendants. The
//! coordinator's part of the end.

use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::super::attendants::{Attendants, Member, Resident, Summons};
use super::super::reading::{Reading, ReadingDuty, StandsBy, Waits};
use super::super::receiving::{Entrance, Inbox, Input, Receiving};
use super::super::sending::Sending;
use super::{Registry, Shared, guarded, shut_down_transport, spawn};
use crate::deadline::Deadline;
use crate::error::Result;
use crate::log::tell;
use crate::panics;
use crate::protocol::Machine;
use crate::sync::Mutex;
use crate::transport::{MessageReader, TransportControl};
use crate::work::event::Event;
use crate::work::home::OwnThread;
use crate::work::pool::Pool;
use crate::work::role::Role;

/// What the threads of a connection work with, until they are started.
pub(super) struct Threads {
    pub(super) shared: Arc<Shared>,
    pub(super) reader: Box<dyn MessageReader>,
    pub(super) entrance: Entrance,
    /// How long a thread that reads spins: Note [spinning].
    pub(super) spin: Duration,
    pub(super) sending: Arc<Sending>,
    pub(super) receiving: Arc<Receiving>,
    pub(super) inbox: Inbox,
    pub(super) control: Arc<dyn TransportControl>,
    pub(super) pool: Weak<Pool>,
    pub(super) registry: Arc<Registry>,
}

impl Threads {
    /// Starts three threads of the connection's own.
    pub(super) fn start_own(self, name: &str) -> Result<()> {
        let Threads { shared, reader, entrance, spin, sending, receiving, inbox, .. } = self;
        let machine = Arc::clone(&shared.machine);
        sending.allow_leaving(machine.room());
        // All three threads serve the connection and must not wait for other threads.
        let role = Role::Coordinator(Weak::clone(&self.pool));
        let send_thread = spawn(format!("{name}-send"), role.clone(), {
            let (sending, machine) = (Arc::clone(&sending), Arc::clone(&machine));
            move || sending.run(&machine)
        })?;
        let receive_thread = spawn(format!("{name}-receive"), role.clone(), {
            let (sending, machine) = (Arc::clone(&sending), Arc::clone(&machine));
            let receiving = Arc::clone(&receiving);
            let (own, sender) = (Arc::clone(&receiving), Arc::clone(&sending));
            let with = Arc::clone(&machine);
            let waits = Waits { shared: None, spin };
            let reading = Reading::new(reader, waits, entrance, own, sender, with, self.pool);
            move || match reading {
                Ok(reading) => reading.stand_by(),
                Err((reader, entrance)) => receiving.read(reader, &entrance, &machine, &sending),
            }
        });
        let receive_thread = match receive_thread {
            Ok(thread) => thread,
            Err(error) => {
                // The send thread ends with the machine.
                machine.disconnect(error.clone());
                return Err(error);
            }
        };
        let coordinator = Coordinator {
            shared: Arc::clone(&shared),
            sending,
            receiving,
            inbox,
            others: Others::Threads([send_thread, receive_thread]),
            input: Input::GoesOn,
            registry: Arc::clone(&self.registry),
        };
        self.registry.insert(shared.number, Arc::clone(&shared));
        match spawn(format!("{name}-coordinator"), role, move || coordinator.run()) {
            Ok(thread) => {
                *shared.coordinator.lock() = Some(thread);
                Ok(())
            }
            Err(error) => {
                self.registry.remove(shared.number);
                machine.disconnect(error.clone());
                shut_down_transport(&*self.control);
                Err(error)
            }
        }
    }

    /// Leaves the work to attendants: Note [shared threads].
    pub(super) fn start_shared(self, attendants: &Arc<Attendants>, name: &str) -> Result<()> {
        let Threads { shared, reader, entrance, spin, sending, receiving, inbox, .. } = self;
        let (machine, number) = (Arc::clone(&shared.machine), shared.number);
        let member = attendants.admit(number);
        let set = member.standby()?.map(|set| (set, number));
        let waits = Waits { shared: set, spin };
        let (own, sender) = (Arc::clone(&receiving), Arc::clone(&sending));
        let with = Arc::clone(&machine);
        let pool = Weak::clone(&self.pool);
        let reading = Reading::new(reader, waits, entrance, own, sender, with, pool);
        let (reading, receives): (_, Option<Receives>) = match reading {
            Ok(reading) => match reading.stands_by() {
                StandsBy::Attendants => (Some(reading), None),
                StandsBy::OwnThread => (None, Some(Box::new(move || reading.stand_by()))),
            },
            Err((reader, entrance)) => {
                let (sending, receiving) = (Arc::clone(&sending), Arc::clone(&receiving));
                let machine = Arc::clone(&machine);
                let read = move || receiving.read(reader, &entrance, &machine, &sending);
                (None, Some(Box::new(read)))
            }
        };
        let coordinating = Arc::new(Mutex::new(None));
        let gone = Arc::new(Event::default());
        let duties = member.enter(
            Box::new(Coordinating(Arc::clone(&coordinating))),
            Box::new({
                let (sending, machine) = (Arc::clone(&sending), Arc::clone(&machine));
                SendingDuty { sending, machine }
            }),
            reading.clone().map(|reading| Box::new(ReadingDuty::new(reading, &gone)) as _),
        )?;
        sending.share(duties.sending.clone(), machine.room());
        receiving.share(duties.coordinating.clone());
        let receive_thread = receives.map(|receives| {
            spawn(format!("{name}-receive"), Role::Coordinator(self.pool), receives)
        });
        let receive_thread = receive_thread.transpose().inspect_err(|error| {
            shared.machine.disconnect(error.clone());
            shut_down_transport(&*self.control);
        })?;
        let own = Arc::clone(&shared);
        *coordinating.lock() = Some(Coordinator {
            shared: own,
            sending,
            receiving,
            inbox,
            others: Others::Attendants {
                member,
                sending: duties.sending,
                reading: duties.reading.clone().map(|reading| (reading, gone)),
                receive_thread,
            },
            input: Input::GoesOn,
            registry: Arc::clone(&self.registry),
        });
        self.registry.insert(number, shared);
        match reading.zip(duties.reading) {
            Some((reading, summons)) => reading.begin(&summons),
            // The receive thread may have passed something on before.
            None => duties.coordinating.call(),
        }
        Ok(())
    }
}

/// What a receive thread does where other threads are shared.
type Receives = Box<dyn FnOnce() + Send>;

/// The coordinator: the thread of that name, or the duty.
struct Coordinator {
    shared: Arc<Shared>,
    sending: Arc<Sending>,
    receiving: Arc<Receiving>,
    inbox: Inbox,
    others: Others,
    /// Kept here because an attendant may learn that the input is over before another thread
    /// has told of the connection's end.
    input: Input,
    registry: Arc<Registry>,
}

/// Who sends and receives.
enum Others {
    Threads([OwnThread<JoinHandle<()>>; 2]),
    Attendants {
        member: Member,
        sending: Summons,
        /// With the event that nothing will be read any more, and that the reader was dropped.
        reading: Option<(Summons, Arc<Event>)>,
        /// For a transport that no thread can stand by for.
        receive_thread: Option<OwnThread<JoinHandle<()>>>,
    },
}

/// The duty of coordinating. The coordinator is absent before it is made, while an
/// attendant works with it, and after the end.
struct Coordinating(Arc<Mutex<Option<Coordinator>>>);

impl Resident for Coordinating {
    fn attend(&self) {
        let Some(coordinator) = self.0.lock().take() else { return };
        let rest = coordinator.attend();
        *self.0.lock() = rest;
    }
}

/// The duty of sending.
struct SendingDuty {
    sending: Arc<Sending>,
    machine: Arc<Machine>,
}

impl Resident for SendingDuty {
    fn attend(&self) {
        self.sending.attend(&self.machine);
    }
}

/// How long an attendant that sees a connection off waits for other attendants before it
/// looks whether there are any.
const PATIENCE: Duration = Duration::from_millis(100);

impl Others {
    /// Waits until nobody sends or receives any more. The transport is shut down.
    fn join(self, sent: &Event) {
        let join = |thread: OwnThread<JoinHandle<()>>| {
            if thread.take().is_some_and(|handle| handle.join().is_err()) {
                tell!(ERROR, "a thread of a connection panicked");
            }
        };
        match self {
            Others::Threads(threads) => threads.into_iter().for_each(join),
            Others::Attendants { member, sending, reading, receive_thread } => {
                // The transport lets neither wait any more.
                let finish = |duty: &Summons, event: &Event| {
                    while !event.park(Deadline::after(PATIENCE)) {
                        duty.attend();
                    }
                };
                finish(&sending, sent);
                if let Some((reading, gone)) = reading {
                    // Somebody else may have read the end.
                    reading.call();
                    finish(&reading, &gone);
                }
                receive_thread.into_iter().for_each(join);
                drop(member);
            }
        }
    }
}

impl Coordinator {
    fn run(mut self) {
        self.coordinate(true);
        self.shut_down();
    }

    /// Does what there is to do. Returns itself if the connection has not ended.
    fn attend(mut self) -> Option<Self> {
        self.coordinate(false);
        if !self.receiving.has_ended() {
            return Some(self);
        }
        self.shut_down();
        None
    }

    fn coordinate(&mut self, waits: bool) {
        let machine = &self.shared.machine;
        // A panic ends the connection.
        let input = guarded("the coordinator", machine, || {
            self.receiving.coordinate(&self.inbox, waits, machine, &self.sending)
        });
        if let Ok(Input::Over) = input {
            self.input = Input::Over;
        }
    }

    fn shut_down(self) {
        let Coordinator { shared, sending, receiving, inbox, others, input, registry } = self;
        let deadline = Deadline::after(shared.close_timeout);
        if input == Input::GoesOn {
            inbox.read_to_the_end(deadline);
        }
        receiving.refuse(&inbox);
        if !sending.done().park(deadline) {
            tell!(DEBUG, "the peer does not read: closing without the rest");
        }
        let control = shared.control.lock().take();
        if let Some(control) = &control {
            shut_down_transport(&**control);
        }
        others.join(sending.done());
        // A reference to the connection would keep what waits in the queue.
        receiving.refuse(&inbox);
        sending.close();
        drop(inbox);
        let _ = panics::caught("the drop of a transport", || drop(control));
        registry.remove(shared.number);
        let at_end = shared.at_end.lock().take();
        for closure in at_end.into_iter().flatten() {
            // Whatever goes wrong there, the threads that wait for the end are told.
            let _ = panics::caught("what follows the end of a connection", closure);
        }
        shared.closed.set();
    }
}
