//! SCTP seen from the middle: associations by their chunks and verification tags.
//!
//! States and transitions are those of Linux' nf_conntrack (`sctp_conntracks`); the rules for the
//! tags are RFC 9260 §8.5. One chunk decides, the first that is known; INIT, INIT ACK and SHUTDOWN
//! COMPLETE stand alone in their packet (§6.10).

use super::flow::FlowDirection;
use crate::wire::{PacketView, protocol};

/// State of an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SctpState {
    /// Not open, or aborted.
    Closed,
    /// INIT seen.
    CookieWait,
    /// COOKIE ECHO seen.
    CookieEchoed,
    /// COOKIE ACK seen.
    Established,
    /// SHUTDOWN seen from who opened it.
    ShutdownSent,
    /// SHUTDOWN seen from the other end.
    ShutdownReceived,
    /// SHUTDOWN ACK seen.
    ShutdownAckSent,
    /// HEARTBEAT of an association nobody here saw opening.
    HeartbeatSent,
}

/// A chunk's part in the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    Init,
    InitAck,
    Abort,
    Shutdown,
    ShutdownAck,
    CookieEcho,
    CookieAck,
    ShutdownComplete,
    Heartbeat,
    HeartbeatAck,
    /// DATA, SACK, ERROR and whatever else changes no state.
    Other,
}

/// Verification tags of an association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SctpTags {
    /// What packets of each direction bear; 0 while unknown.
    tags: [u32; 2],
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SctpOutcome {
    /// The association is now in this state.
    To(SctpState),
    /// It passes and changes nothing.
    Ignore,
    /// It cannot be this association's.
    Invalid,
}

/// What is read of a packet.
#[derive(Debug, Clone, Copy)]
pub struct SctpPacket {
    tag: u32,
    chunk: Chunk,
    /// Initiate tag of INIT and INIT ACK.
    initiate: u32,
    /// The T bit: the tag is the sender's own (§8.5.1).
    reflected: bool,
    alone: bool,
}

impl SctpState {
    /// Name as Linux' conntrack prints it, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            SctpState::Closed => "closed",
            SctpState::CookieWait => "cookie-wait",
            SctpState::CookieEchoed => "cookie-echoed",
            SctpState::Established => "established",
            SctpState::ShutdownSent => "shutdown-sent",
            SctpState::ShutdownReceived => "shutdown-recd",
            SctpState::ShutdownAckSent => "shutdown-ack-sent",
            SctpState::HeartbeatSent => "heartbeat-sent",
        }
    }

    fn after(self, direction: FlowDirection, chunk: Chunk) -> SctpState {
        use SctpState::*;
        let original = direction == FlowDirection::Original;
        match (chunk, self) {
            (Chunk::Abort, _) => Closed,
            (Chunk::Init, ShutdownSent | ShutdownReceived) if original => Closed,
            (Chunk::Init, HeartbeatSent) if original => CookieWait,
            (Chunk::InitAck, Closed) if !original => CookieWait,
            (Chunk::Shutdown, Established) if original => ShutdownSent,
            (Chunk::Shutdown, Established) => ShutdownReceived,
            (Chunk::ShutdownAck, ShutdownSent | ShutdownReceived | ShutdownAckSent) => {
                ShutdownAckSent
            }
            (Chunk::CookieEcho, CookieWait) => CookieEchoed,
            (Chunk::CookieAck, CookieEchoed) => Established,
            (Chunk::ShutdownComplete, ShutdownAckSent) => Closed,
            (Chunk::HeartbeatAck, HeartbeatSent) if !original => Established,
            (_, state) => state,
        }
    }
}

impl SctpPacket {
    /// Reads a packet that was parsed; `None` for anything but SCTP, for later fragments, and where
    /// chunks contradict each other.
    pub fn of(bytes: &[u8], view: &PacketView) -> Option<SctpPacket> {
        if view.key.protocol != protocol::SCTP || view.is_later_fragment() {
            return None;
        }
        let packet = bytes.get(view.l4 as usize..view.packet_end as usize)?;
        let [t0, t1, t2, t3] = *packet.get(4..8)?.first_chunk::<4>()?;
        let mut found = SctpPacket {
            tag: u32::from_be_bytes([t0, t1, t2, t3]),
            chunk: Chunk::Other,
            initiate: 0,
            reflected: false,
            alone: true,
        };
        let mut rest = packet.get(12..)?;
        let mut chunks = 0_u32;
        while let Some(&[kind, flags, high, low]) = rest.first_chunk::<4>() {
            let length = usize::from(u16::from_be_bytes([high, low]));
            // RFC 9260 §3.2: a chunk has its header at least.
            if length < 4 {
                return None;
            }
            let chunk = Chunk::of(kind);
            if chunks == 0 || found.chunk == Chunk::Other {
                found.chunk = chunk;
                found.reflected = flags & 1 != 0;
                if matches!(chunk, Chunk::Init | Chunk::InitAck) {
                    found.initiate = u32::from_be_bytes(*rest.get(4..)?.first_chunk::<4>()?);
                }
            }
            chunks += 1;
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        found.alone = chunks == 1;
        let lonely = matches!(
            found.chunk,
            Chunk::Init | Chunk::InitAck | Chunk::ShutdownComplete
        );
        (chunks > 0 && (found.alone || !lonely)).then_some(found)
    }
}

impl Chunk {
    /// RFC 9260 §3.2.
    fn of(kind: u8) -> Chunk {
        match kind {
            1 => Chunk::Init,
            2 => Chunk::InitAck,
            4 => Chunk::Heartbeat,
            5 => Chunk::HeartbeatAck,
            6 => Chunk::Abort,
            7 => Chunk::Shutdown,
            8 => Chunk::ShutdownAck,
            10 => Chunk::CookieEcho,
            11 => Chunk::CookieAck,
            14 => Chunk::ShutdownComplete,
            _ => Chunk::Other,
        }
    }
}

impl SctpTags {
    /// An association from its first packet: an INIT, whose own tag is 0 (§8.5.1 A), or what goes
    /// on after a restart of this box. An abort, and a shutdown's end, open nothing.
    pub fn open(packet: &SctpPacket) -> Option<(SctpTags, SctpState)> {
        match packet.chunk {
            Chunk::Init if packet.tag == 0 && packet.initiate != 0 => {
                let tags = [0, packet.initiate];
                Some((SctpTags { tags }, SctpState::CookieWait))
            }
            Chunk::Heartbeat => {
                let tags = [packet.tag, 0];
                Some((SctpTags { tags }, SctpState::HeartbeatSent))
            }
            Chunk::ShutdownAck => {
                let tags = [packet.tag, 0];
                Some((SctpTags { tags }, SctpState::ShutdownAckSent))
            }
            _ => None,
        }
    }

    /// What becomes of a packet of this association.
    pub fn packet(
        &mut self,
        state: SctpState,
        direction: FlowDirection,
        packet: &SctpPacket,
    ) -> SctpOutcome {
        let (own, other) = (direction as usize, direction.opposite() as usize);
        let known = |tag: u32| tag != 0 && tag == packet.tag;
        let fits = match packet.chunk {
            // A restart of one end (§5.2.2): its tag is 0.
            Chunk::Init => packet.tag == 0 && packet.initiate != 0,
            // §8.5.1 B and C: the receiver's, or with the T bit the sender's own.
            Chunk::Abort | Chunk::ShutdownComplete => {
                known(self.tags[own]) || (packet.reflected && known(self.tags[other]))
            }
            // §8.5.1 D: the tag just told in INIT ACK.
            Chunk::CookieEcho | Chunk::ShutdownAck if self.tags[own] == 0 => true,
            // Picked up: the first packet of the other end tells its tag.
            Chunk::Heartbeat | Chunk::HeartbeatAck | Chunk::Other if self.tags[own] == 0 => {
                matches!(state, SctpState::HeartbeatSent | SctpState::ShutdownAckSent)
            }
            _ => known(self.tags[own]),
        };
        if !fits {
            return SctpOutcome::Invalid;
        }
        match packet.chunk {
            Chunk::Init if state != SctpState::CookieWait && self.tags[own] != 0 => {
                // The association may be restarted by its ends; until they agree the old tags
                // count.
                return SctpOutcome::Ignore;
            }
            Chunk::Init | Chunk::InitAck => self.tags[other] = packet.initiate,
            _ if self.tags[own] == 0 => self.tags[own] = packet.tag,
            _ => {}
        }
        SctpOutcome::To(state.after(direction, packet.chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FlowDirection::{Original, Reply};

    fn packet(chunk: Chunk, tag: u32) -> SctpPacket {
        SctpPacket {
            tag,
            chunk,
            initiate: 0,
            reflected: false,
            alone: true,
        }
    }

    fn init(chunk: Chunk, tag: u32, initiate: u32) -> SctpPacket {
        SctpPacket {
            initiate,
            ..packet(chunk, tag)
        }
    }

    fn established() -> (SctpTags, SctpState) {
        let (mut tags, mut state) = SctpTags::open(&init(Chunk::Init, 0, 11)).unwrap();
        for (direction, packet) in [
            (Reply, init(Chunk::InitAck, 11, 22)),
            (Original, packet(Chunk::CookieEcho, 22)),
            (Reply, packet(Chunk::CookieAck, 11)),
        ] {
            match tags.packet(state, direction, &packet) {
                SctpOutcome::To(next) => state = next,
                other => panic!("{packet:?}: {other:?}"),
            }
        }
        assert_eq!(state, SctpState::Established);
        (tags, state)
    }

    #[test]
    fn an_association_opens_and_shuts_down() {
        let (mut tags, mut state) = established();
        for (direction, packet, next) in [
            (
                Original,
                packet(Chunk::Shutdown, 22),
                SctpState::ShutdownSent,
            ),
            (
                Reply,
                packet(Chunk::ShutdownAck, 11),
                SctpState::ShutdownAckSent,
            ),
            (
                Original,
                packet(Chunk::ShutdownComplete, 22),
                SctpState::Closed,
            ),
        ] {
            assert_eq!(
                tags.packet(state, direction, &packet),
                SctpOutcome::To(next)
            );
            state = next;
        }
    }

    #[test]
    fn a_wrong_tag_is_nobodys() {
        // RFC 9260 §8.5.
        let (mut tags, state) = established();
        for chunk in [
            Chunk::Abort,
            Chunk::Other,
            Chunk::Shutdown,
            Chunk::Heartbeat,
        ] {
            let judged = tags.packet(state, Reply, &packet(chunk, 22));
            assert_eq!(judged, SctpOutcome::Invalid, "{chunk:?}");
        }
        let reflected = SctpPacket {
            reflected: true,
            ..packet(Chunk::Abort, 22)
        };
        let judged = tags.packet(state, Reply, &reflected);
        assert_eq!(judged, SctpOutcome::To(SctpState::Closed));
    }

    #[test]
    fn only_an_init_with_tag_zero_opens() {
        assert!(SctpTags::open(&init(Chunk::Init, 5, 11)).is_none());
        assert!(SctpTags::open(&init(Chunk::Init, 0, 0)).is_none());
        for chunk in [Chunk::InitAck, Chunk::Other, Chunk::Abort, Chunk::CookieAck] {
            assert!(SctpTags::open(&packet(chunk, 5)).is_none(), "{chunk:?}");
        }
    }
}
