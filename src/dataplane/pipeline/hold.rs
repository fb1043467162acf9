//! Frames that wait for their next hop's link-layer address: few, and not for long.

use std::net::IpAddr;

use super::{Packet, Pipeline};
use crate::dataplane::frame::FrameBuffer;
use crate::dataplane::reply::ErrorKind;
use crate::dataplane::route::NeighbourState;
use crate::dataplane::snapshot::Snapshot;
use crate::dataplane::verdict::{DropReason, PortId, Verdict};

/// How long a frame waits; Linux gives up after three probes a second apart.
const WAIT_US: u64 = 3_000_000;

/// Share of the queue one next hop may fill, so that a dead one does not starve the others.
const SHARE_PER_NEIGHBOUR: usize = 8;

struct Held<F> {
    packet: Packet<F>,
    out: PortId,
    next_hop: IpAddr,
    deadline_us: u64,
}

/// A bounded queue, oldest first.
pub(super) struct HoldQueue<F> {
    frames: Vec<Held<F>>,
    frames_max: usize,
    /// Routing generation under which all waiting frames were last looked at.
    looked_at: u32,
}

impl<F> HoldQueue<F> {
    pub(super) fn new(frames_max: usize) -> Self {
        HoldQueue {
            frames: Vec::with_capacity(frames_max),
            frames_max,
            looked_at: 0,
        }
    }

    pub(super) fn capacity(&self) -> usize {
        self.frames_max
    }

    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// How many frames wait for this next hop.
    fn waiting_for(&self, out: PortId, next_hop: IpAddr) -> usize {
        self.frames
            .iter()
            .filter(|held| held.out == out && held.next_hop == next_hop)
            .count()
    }
}

impl<F: FrameBuffer> Pipeline<F> {
    /// Takes the packet's frame until its next hop is known, or drops it where too many wait.
    ///
    /// The packet has been rewritten except for its Ethernet addresses.
    pub(super) fn hold(
        &mut self,
        now_us: u64,
        packet: &mut Packet<F>,
        out: PortId,
        next_hop: IpAddr,
    ) {
        let waiting = self.held.waiting_for(out, next_hop);
        let share = (self.held.frames_max / SHARE_PER_NEIGHBOUR).max(1);
        if self.held.frames.len() >= self.held.frames_max || waiting >= share {
            packet.drop_for(DropReason::NeighbourQueueFull);
            return;
        }
        if waiting == 0 {
            self.request_neighbour(out, next_hop);
        }
        packet.verdict = Some(Verdict::Hold);
        let held = Packet {
            port: packet.port,
            frame: packet.frame.take(),
            verdict: None,
            reply_to: None,
            trace: packet.trace,
            received_bytes: packet.received_bytes,
            view: packet.view,
            checksum: packet.checksum,
            fragment_bytes_max: packet.fragment_bytes_max,
            next: packet.next,
            redirected_from: None,
            counted: true,
        };
        let deadline_us = now_us + WAIT_US;
        self.held.frames.push(Held {
            packet: held,
            out,
            next_hop,
            deadline_us,
        });
    }

    /// Appends the frames whose next hop has become known, has failed, or has taken too long.
    pub(super) fn release_held(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        batch: &mut Vec<Packet<F>>,
    ) {
        // Only a change of the routes or a deadline can release a frame, and the oldest has the
        // first deadline.
        let Some(oldest) = self.held.frames.first() else {
            return;
        };
        if self.held.looked_at == snapshot.routing_generation && oldest.deadline_us > now_us {
            return;
        }
        self.held.looked_at = snapshot.routing_generation;
        let mut position = 0;
        while position < self.held.frames.len() {
            let held = &self.held.frames[position];
            let state = snapshot.routes.neighbour(held.out, held.next_hop);
            if state == NeighbourState::Unknown && held.deadline_us > now_us {
                position += 1;
                continue;
            }
            let Held {
                mut packet, out, ..
            } = self.held.frames.remove(position);
            match (state, snapshot.routes.link(out)) {
                (NeighbourState::Reachable(mac), Some(link)) => {
                    self.send_to(snapshot, &mut packet, out, [mac, link.mac]);
                }
                _ => {
                    packet.drop_for(DropReason::NeighbourUnresolved);
                    self.answer(now_us, snapshot, &mut packet, ErrorKind::HostUnreachable);
                }
            }
            batch.push(packet);
        }
    }
}
