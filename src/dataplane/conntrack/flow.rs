//! One flow: its two keys, its state, and what the pipeline remembers of its first packet.

use super::sctp::{SctpState, SctpTags};
use super::tcp::{self, TcpState};
use super::trail::TrailId;
use crate::dataplane::verdict::PortId;
use crate::wire::edit::Rewrite;
use crate::wire::{Address, FlowKey, MacAddress, protocol};

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
    /// SCTP, by its own.
    Sctp(SctpState),
    /// UDP, ICMP or another protocol: no reply seen yet.
    Unreplied,
    /// UDP, ICMP or another protocol: traffic seen both ways.
    Replied,
}

/// What a protocol's own tracker remembers of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Nothing: a protocol without connections.
    None,
    /// Sequence numbers.
    Tcp(tcp::Tracking),
    /// Verification tags.
    Sctp(SctpTags),
}

/// How dear a flow is when room is needed: the cheaper go first, the last never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Worth {
    /// Nobody has answered yet, or the handshake is not complete.
    HalfOpen = 0,
    /// Closing, or closed.
    Closing = 1,
    /// Traffic both ways, of a protocol that opens and closes nothing.
    Stream = 2,
    /// An open connection.
    Established = 3,
}

/// Where packets of one direction leave: the cached result of a route and a neighbour look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HopCache {
    /// The worker's epoch of routes the look-up was made in; in another one it is stale. 0 is never
    /// current: nothing is cached.
    pub epoch: u32,
    /// Link-layer address of the next hop.
    pub mac: MacAddress,
    /// Outgoing port.
    pub port: PortId,
}

impl HopCache {
    /// How long a look-up serves a flow: an epoch ends with the routes, or after this time, since
    /// every look-up tells the kernel's mirror that the neighbour is in use. Well under the time
    /// after which the kernel forgets an unused neighbour (`gc_stale_time`, 60 s).
    pub const FRESH_US: u64 = 5_000_000;

    /// Nothing cached.
    pub const EMPTY: HopCache = HopCache {
        epoch: 0,
        mac: MacAddress([0; 6]),
        port: PortId(0),
    };

    /// May the cached way be used?
    #[inline]
    pub fn is_fresh(&self, epoch: u32) -> bool {
        self.epoch == epoch
    }
}

/// A moment on the worker's clock in sixteenths of a second: four bytes for eight years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment(u32);

impl Moment {
    const US: u64 = 62_500;

    /// The moment `now_us` falls in.
    #[inline]
    pub fn at(now_us: u64) -> Moment {
        Moment((now_us / Self::US) as u32)
    }

    /// Microseconds since.
    #[inline]
    pub fn age_us(self, now_us: u64) -> u64 {
        (now_us / Self::US).saturating_sub(self.0.into()) * Self::US
    }
}

/// What is true of a flow or not, a bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Marks(u8);

impl Marks {
    /// A packet has come from the other end.
    pub const REPLIED: Marks = Marks(1 << 0);
    /// The connection has been open, or the stream was one: more than a question and its answer.
    pub const ASSURED: Marks = Marks(1 << 1);
    /// Addresses or ports of the packets are changed here: the keys are no mirror images.
    pub const TRANSLATED: Marks = Marks(1 << 2);
    /// Denied by the current generation; kept so that it resumes when a later one allows it again.
    pub const BLOCKED: Marks = Marks(1 << 3);
    /// A port of a pool is held for it.
    pub const HOLDS_PORT: Marks = Marks(1 << 4);

    /// Is it marked so?
    #[inline]
    pub const fn has(self, mark: Marks) -> bool {
        self.0 & mark.0 != 0
    }

    /// Marks it so, or not.
    #[inline]
    pub const fn put(&mut self, mark: Marks, on: bool) {
        match on {
            true => self.0 |= mark.0,
            false => self.0 &= !mark.0,
        }
    }
}

/// A tracked flow.
///
/// With its place in a list at 224 bytes or less, and 4 × 8 bytes of index, a flow costs no more
/// than 256 bytes.
#[derive(Debug, Clone)]
pub struct Flow {
    /// Key of the packets that go as the first one did. Policy is asked about this one.
    pub original: FlowKey,
    // Key of the answers, as far as it may differ: see `Flow::reply`. A struct of its own would be
    // padded.
    reply_source: Address,
    reply_destination: Address,
    reply_ports: [u16; 2],
    /// State.
    pub state: FlowState,
    /// What the state alone does not say.
    pub window: Window,
    /// What is true of it or not.
    pub marks: Marks,
    /// Policy generation that last judged the flow.
    pub generation: u32,
    /// The rules that decided it.
    pub trail: TrailId,
    /// Way out, by [`FlowDirection`].
    pub hops: [HopCache; 2],
    /// Port packets of each direction arrive on, as the source check last accepted it;
    /// [`Flow::NOWHERE`] before the first.
    pub arrives: [PortId; 2],
    /// Creation.
    pub created: Moment,
    /// End of life unless another packet comes, microseconds on the worker's clock.
    pub deadline_us: u64,
    /// Packets by direction.
    pub packets: [u64; 2],
    /// Bytes of IP packets by direction.
    pub bytes: [u64; 2],
}

impl Flow {
    /// No port.
    pub const NOWHERE: PortId = PortId(u8::MAX);

    /// A flow for a first packet; the caller sets state and deadline by the packet.
    pub fn new(original: FlowKey, reply: FlowKey, state: FlowState, now_us: u64) -> Self {
        Flow {
            original,
            reply_source: reply.source,
            reply_destination: reply.destination,
            reply_ports: [reply.source_port, reply.destination_port],
            state,
            window: Window::None,
            marks: Marks::default(),
            generation: 0,
            trail: TrailId::default(),
            hops: [HopCache::EMPTY; 2],
            arrives: [Self::NOWHERE; 2],
            created: Moment::at(now_us),
            deadline_us: now_us,
            packets: [0; 2],
            bytes: [0; 2],
        }
    }

    /// How dear the flow is when room is needed.
    #[inline]
    pub fn worth(&self) -> Worth {
        match self.state {
            FlowState::Tcp(TcpState::Established) if self.marks.has(Marks::REPLIED) => {
                Worth::Established
            }
            FlowState::Tcp(state) if state.may_be_dropped_early() => Worth::Closing,
            FlowState::Tcp(_) => Worth::HalfOpen,
            FlowState::Sctp(SctpState::Established) => Worth::Established,
            FlowState::Sctp(SctpState::CookieWait | SctpState::CookieEchoed) => Worth::HalfOpen,
            FlowState::Sctp(SctpState::HeartbeatSent) => Worth::HalfOpen,
            FlowState::Sctp(_) => Worth::Closing,
            FlowState::Unreplied => Worth::HalfOpen,
            FlowState::Replied => Worth::Stream,
        }
    }

    /// What its TCP tracker is told of it.
    #[inline]
    pub fn life(&self) -> tcp::Life {
        tcp::Life {
            replied: self.marks.has(Marks::REPLIED),
            assured: self.marks.has(Marks::ASSURED),
        }
    }

    /// The key of the answers: that of the original direction the other way round, unless
    /// addresses are translated.
    #[inline]
    pub fn reply(&self) -> FlowKey {
        FlowKey {
            source: self.reply_source,
            destination: self.reply_destination,
            source_port: self.reply_ports[0],
            destination_port: self.reply_ports[1],
            ..self.original
        }
    }

    /// The key of packets going this way, as they arrive.
    #[inline]
    pub fn key(&self, direction: FlowDirection) -> FlowKey {
        match direction {
            FlowDirection::Original => self.original,
            FlowDirection::Reply => self.reply(),
        }
    }

    /// The key of packets going this way, as they leave: the other way round what the opposite
    /// direction's packets arrive with.
    #[inline]
    pub fn leaving(&self, direction: FlowDirection) -> FlowKey {
        let (arrives, opposite) = (self.key(direction), self.key(direction.opposite()));
        let (source_port, destination_port) = match arrives.is_icmp() {
            // The identifier, which goes both ways; type and code are the message's own.
            true => (opposite.source_port, arrives.destination_port),
            false => (opposite.destination_port, opposite.source_port),
        };
        FlowKey {
            source: opposite.destination,
            destination: opposite.source,
            source_port,
            destination_port,
            ..arrives
        }
    }

    /// What policy is asked about: the original direction after destination translation and before
    /// that of the source.
    #[inline]
    pub fn policy_key(&self) -> FlowKey {
        let leaving = self.leaving(FlowDirection::Original);
        FlowKey {
            source: self.original.source,
            source_port: self.original.source_port,
            ..leaving
        }
    }

    /// What is written into packets going this way; all `None` where nothing is translated.
    #[inline]
    pub fn rewrite(&self, direction: FlowDirection) -> Rewrite {
        if !self.marks.has(Marks::TRANSLATED) {
            return Rewrite::default();
        }
        let (from, to) = (self.key(direction), self.leaving(direction));
        Rewrite {
            source: (from.source != to.source).then_some(to.source),
            destination: (from.destination != to.destination).then_some(to.destination),
            source_port: (from.source_port != to.source_port).then_some(to.source_port),
            destination_port: (from.destination_port != to.destination_port)
                .then_some(to.destination_port),
        }
    }

    /// State's name as `flows` and logs print it.
    pub fn state_name(&self) -> &'static str {
        match (self.state, self.original.protocol) {
            (FlowState::Tcp(state), _) => state.name(),
            (FlowState::Sctp(state), _) => state.name(),
            (FlowState::Unreplied, _) => "unreplied",
            (FlowState::Replied, protocol::UDP) => "stream",
            (FlowState::Replied, _) => "replied",
        }
    }
}
