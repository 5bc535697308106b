//! The machine, as seen by the capabilities and calls that use it.

use std::any::Any;
use std::sync::Arc;

use super::Machine;
use super::question::QuestionRef;
use crate::cap::client::Client;
use crate::cap::connection::{Connection, Question};
use crate::cap::payload::Outcome;
use crate::cap::watch::Endings;
use crate::deadline::TimeLimit;
use crate::error::Error;
use crate::flow::FlowController;
use crate::ids::{AnswerId, ExportId, Serial};
use crate::transport::PeerDescription;
use crate::wire;
use crate::work::progress::Means;
use crate::work::room::Room;

impl Connection for Machine {
    fn room(&self) -> &Arc<Room> {
        &self.room
    }

    fn call_timeout(&self) -> TimeLimit {
        self.settings.call_timeout
    }

    fn endings(&self) -> &Endings {
        &self.endings
    }

    fn flow_controller(&self) -> Box<dyn FlowController> {
        let flow = &self.settings.flow;
        flow.control.controller(flow.transport.as_ref())
    }

    fn peer(&self) -> &PeerDescription {
        &self.settings.peer
    }

    fn number(&self) -> u64 {
        self.settings.origin.number()
    }

    fn handle(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.outbox.handle()
    }

    fn return_answer(
        self: Arc<Self>,
        id: AnswerId,
        serial: Serial,
        outcome: Outcome,
    ) -> (Outcome, Arc<dyn Connection>) {
        (Machine::return_answer(&self, id, serial, outcome), self)
    }

    fn keep_answer(self: Arc<Self>, id: AnswerId, serial: Serial, outcome: Outcome) -> Outcome {
        self.transact(|txn| txn.keep_answer(id, serial, outcome))
    }

    fn return_redirected(
        self: Arc<Self>,
        id: AnswerId,
        serial: Serial,
        outcome: Outcome,
    ) -> Outcome {
        self.transact(|txn| txn.return_redirected(id, serial, outcome))
    }

    fn call_is_over(self: Arc<Self>, words: u64) {
        Machine::call_is_over(&self, words);
    }

    fn withdraw_held(self: Arc<Self>, place: u64) {
        Machine::withdraw_held(&self, place);
    }

    fn resolve_export(self: Arc<Self>, id: ExportId, serial: Serial) {
        self.transact(|txn| txn.resolve_export(id, serial));
    }

    fn refuse_disembargo(self: Arc<Self>, embargo: u32) {
        self.abort(Error::failed(format!(
            "Disembargo {embargo} is for something that does not lead back to its sender"
        )));
    }

    fn return_disembargo(self: Arc<Self>, place: wire::Target, embargo: u32) {
        self.transact(|txn| txn.send_loopback(place, embargo));
    }

    fn release_held(self: Arc<Self>) {
        Machine::release_held(&self);
    }

    fn flush_releases(self: Arc<Self>) {
        Machine::flush_releases(&self);
    }

    fn disconnected(self: Arc<Self>) {
        self.outbox.disconnected();
    }
}

impl Question for QuestionRef {
    fn forget(&self, serial: Serial) {
        QuestionRef::forget(self, serial);
    }

    fn number(&self) -> u32 {
        self.id().0
    }

    fn connection(&self) -> u64 {
        self.machine().settings.origin.number()
    }

    fn means(&self) -> Means {
        self.machine().room().means()
    }

    fn peer(&self) -> &PeerDescription {
        &self.machine().settings.peer
    }

    fn field(self: Arc<Self>, path: &[u16]) -> Option<Client> {
        let machine = Arc::clone(self.machine());
        machine.transact(|txn| txn.question_field(&self, path))
    }

    fn give_up(self: Arc<Self>, error: &Error) {
        let machine = Arc::clone(self.machine());
        machine.transact(|txn| txn.give_up_question(self.id(), self.serial(), error));
    }
}
