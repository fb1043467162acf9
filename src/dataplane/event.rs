//! What workers tell control besides counters: a bounded ring, filled without waiting.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::snapshot::RuleSlot;
use super::verdict::PortId;
use crate::wire::FlowKey;

/// Something worth a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Policy has denied a flow: a first packet, or an established flow that was asked again.
    Denied {
        /// Port the packet came in on.
        port: PortId,
        /// Original direction of the flow.
        key: FlowKey,
        /// Deciding rule.
        rule: RuleSlot,
        /// Number of the stage that denied it.
        stage: u8,
        /// The flow had been admitted by an earlier generation.
        established: bool,
    },
    /// The flow table makes its flows age faster, or no longer does.
    Pressure {
        /// It begins.
        begins: bool,
        /// Flows there are.
        flows: u32,
        /// Flows there may be.
        flows_max: u32,
    },
    /// A packet that opens a connection has matched a rule that logs.
    Logged {
        /// Port the packet came in on.
        port: PortId,
        /// The packet's key.
        key: FlowKey,
        /// The rule.
        rule: RuleSlot,
    },
}

/// The ring between one worker and control. Clones share it.
#[derive(Debug, Clone)]
pub struct Events(Arc<ArrayQueue<Event>>);

impl Events {
    /// A ring of this many events.
    pub fn new(events_max: usize) -> Self {
        Events(Arc::new(ArrayQueue::new(events_max.max(1))))
    }

    /// Tells control; false when the ring is full and the event is lost.
    #[inline]
    pub fn push(&self, event: Event) -> bool {
        self.0.push(event).is_ok()
    }

    /// The oldest event.
    pub fn pop(&self) -> Option<Event> {
        self.0.pop()
    }
}
