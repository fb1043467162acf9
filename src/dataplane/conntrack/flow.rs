//! One flow: its two keys, its state, and what the pipeline remembers of its first packet.

use super::tcp::TcpState;
use super::trail::TrailId;
use crate::dataplane::verdict::PortId;
use crate::wire::{FlowKey, MacAddress, protocol};

/// Which way a packet of a flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FlowDirection {
    /// As the packet that opened the flow.
    Original = 0,
    /// The answers.
    Reply = 1,
}

impl FlowDirection {
    /// The other way.
    #[inline]
    pub const fn opposite(self) -> Self {
        match self {
            FlowDirection::Original => FlowDirection::Reply,
            FlowDirection::Reply => FlowDirection::Original,
        }
    }
}

/// State of a flow; decides its timeout, and whether it may be evicted for a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlowState {
    /// TCP, by its own state machine.
    Tcp(TcpState),
    /// UDP, ICMP or another protocol: no reply seen yet.
    Unreplied,
    /// UDP, ICMP or another protocol: traffic seen both ways.
    Replied,
}

/// Where packets of one direction leave: the cached result of a route and a neighbour look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopCache {
    /// Outgoing port.
    pub port: PortId,
    /// Link-layer address of the next hop.
    pub mac: MacAddress,
    /// Routing generation the look-up was made under; another one makes it stale. 0 is never
    /// current: nothing is cached.
    pub routing_generation: u32,
    /// Time of the next look-up even when routes stay the same: it tells the kernel's mirror that
    /// the neighbour is in use.
    pub fresh_until_us: u64,
}

impl HopCache {
    /// How long a look-up serves a flow. Well under the time after which the kernel forgets an
    /// unused neighbour (`gc_stale_time`, 60 s).
    pub const FRESH_US: u64 = 5_000_000;

    /// May the cached way be used?
    #[inline]
    pub fn is_fresh(&self, routing_generation: u32, now_us: u64) -> bool {
        self.routing_generation == routing_generation && now_us < self.fresh_until_us
    }

    /// Nothing cached.
    pub const EMPTY: HopCache = HopCache {
        port: PortId(0),
        mac: MacAddress([0; 6]),
        routing_generation: 0,
        fresh_until_us: 0,
    };
}

/// A tracked flow.
///
/// At 200 bytes or less, with 2 × 8 bytes of index at half load, a flow costs less than 256 bytes.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Key of the packets that go as the first one did. Policy is asked about this one.
    pub original: FlowKey,
    /// Key of the answers.
    pub reply: FlowKey,
    /// State.
    pub state: FlowState,
    /// Denied by the current generation; kept so that it resumes when a later one allows it.
    pub blocked: bool,
    /// Policy generation that last judged the flow.
    pub generation: u32,
    /// The rules that decided it.
    pub trail: TrailId,
    /// Way out, by [`FlowDirection`].
    pub hops: [HopCache; 2],
    /// Port packets of each direction arrive on, as the source check last accepted it.
    pub arrives: [Option<PortId>; 2],
    /// Creation, microseconds on the worker's clock.
    pub created_us: u64,
    /// End of life unless another packet comes, microseconds on the worker's clock.
    pub deadline_us: u64,
    /// Packets by direction.
    pub packets: [u64; 2],
    /// Bytes of IP packets by direction.
    pub bytes: [u64; 2],
}

impl Flow {
    /// A flow for a first packet; the caller sets state and deadline by the packet.
    pub fn new(original: FlowKey, reply: FlowKey, state: FlowState, now_us: u64) -> Self {
        Flow {
            original,
            reply,
            state,
            blocked: false,
            generation: 0,
            trail: TrailId::default(),
            hops: [HopCache::EMPTY; 2],
            arrives: [None; 2],
            created_us: now_us,
            deadline_us: now_us,
            packets: [0; 2],
            bytes: [0; 2],
        }
    }

    /// Has the other end not answered yet? Only such flows may be evicted for new ones.
    #[inline]
    pub fn is_unreplied(&self) -> bool {
        match self.state {
            FlowState::Tcp(state) => state == TcpState::SynSent,
            FlowState::Unreplied => true,
            FlowState::Replied => false,
        }
    }

    /// The key of packets going this way.
    #[inline]
    pub fn key(&self, direction: FlowDirection) -> &FlowKey {
        match direction {
            FlowDirection::Original => &self.original,
            FlowDirection::Reply => &self.reply,
        }
    }

    /// State's name as `flows` and logs print it.
    pub fn state_name(&self) -> &'static str {
        match (self.state, self.original.protocol) {
            (FlowState::Tcp(state), _) => state.name(),
            (FlowState::Unreplied, _) => "unreplied",
            (FlowState::Replied, protocol::UDP) => "stream",
            (FlowState::Replied, _) => "replied",
        }
    }
}
