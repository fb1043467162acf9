//! The control thread's side: figures of the sockets, and ports that come back.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::area::Area;
use super::error::AfXdpError;
use super::open::socket_request;
use super::queue::{Queue, QueueView};
use super::socket::Socket;
use super::{PortRequest, QueueStatistics};
use crate::dataplane::verdict::PortId;
use crate::dataplane::xdp::{SocketMap, Steering};

/// The control thread's handle on a worker's rings.
#[derive(Debug, Clone)]
pub struct AfXdpControl {
    pub(super) area: Area,
    pub(super) busy_poll_us: u32,
    /// One for each of the worker's queues, by slot.
    pub(super) views: Arc<ArcSwap<Vec<Arc<QueueView>>>>,
}

/// Sockets of a port that came back, on their way to the worker.
#[derive(Debug)]
pub struct ReopenedPort {
    pub(super) queues: Vec<Queue>,
    pub(super) sockets: SocketMap,
}

impl ReopenedPort {
    /// The port.
    pub fn port(&self) -> Option<PortId> {
        self.queues.first().map(Queue::port)
    }
}

impl AfXdpControl {
    /// Figures of every queue of the worker. A queue whose socket does not answer is left out.
    pub fn statistics(&self) -> Vec<QueueStatistics> {
        let views = self.views.load();
        views
            .iter()
            .filter_map(|view| view.statistics().ok())
            .collect()
    }

    /// Opens the worker's sockets of a port whose interface was deleted and created again, for
    /// [`AfXdpIo::install`](super::AfXdpIo::install). [`Steering::reattach`] comes first.
    pub fn reopen(
        &self,
        request: &PortRequest,
        steering: &Steering,
    ) -> Result<ReopenedPort, AfXdpError> {
        let views = self.views.load();
        let slots = views.iter().enumerate();
        let ours = slots.filter(|(_, view)| view.port == request.port);
        let open = |(slot, view): (usize, &Arc<QueueView>)| {
            let asked = socket_request(request, steering, view.queue, self.busy_poll_us);
            let socket = Socket::open(&self.area, &asked)?;
            open_queue(slot as u8, request, view.queue, self.busy_poll_us, socket)
        };
        let queues = ours.map(open).collect::<Result<_, _>>()?;
        Ok(ReopenedPort {
            queues,
            sockets: steering.sockets().clone(),
        })
    }
}

/// The queue of a socket just opened.
pub fn open_queue(
    slot: u8,
    request: &PortRequest,
    queue: u32,
    busy_poll_us: u32,
    socket: Socket,
) -> Result<Queue, AfXdpError> {
    let opened = Queue::new(
        slot,
        request.port,
        queue,
        request.ring_frames,
        busy_poll_us > 0,
        socket,
    );
    opened.map_err(|source| AfXdpError::Interface {
        interface: request.steering.interface.clone(),
        action: "duplicate its socket",
        source,
    })
}
