//! The TCP state machine of a flow seen from the middle.
//!
//! States and transitions are those of Linux' nf_conntrack (`tcp_conntracks`), reduced to flags and
//! direction; sequence numbers are judged in [`window`](super::window).

use crate::dataplane::conntrack::flow::FlowDirection;
use crate::wire::parse::TcpFlags;

/// A segment's part in the state machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentKind {
    /// SYN without ACK.
    Syn,
    /// SYN with ACK.
    SynAck,
    /// FIN.
    Fin,
    /// ACK alone, with or without data.
    Ack,
    /// RST.
    Reset,
    /// None of these flags.
    None,
}

impl SegmentKind {
    /// What a segment is for the state machine: RST before SYN before FIN before ACK, as in Linux.
    #[inline]
    pub const fn of(flags: TcpFlags) -> Self {
        if flags.contains(TcpFlags::RST) {
            SegmentKind::Reset
        } else if flags.contains(TcpFlags::SYN) {
            if flags.contains(TcpFlags::ACK) {
                SegmentKind::SynAck
            } else {
                SegmentKind::Syn
            }
        } else if flags.contains(TcpFlags::FIN) {
            SegmentKind::Fin
        } else if flags.contains(TcpFlags::ACK) {
            SegmentKind::Ack
        } else {
            SegmentKind::None
        }
    }
}

/// State of a TCP flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TcpState {
    /// SYN seen in the original direction.
    SynSent,
    /// SYN seen both ways: simultaneous open (RFC 9293 §3.5).
    SynSentBoth,
    /// SYN/ACK seen.
    SynReceived,
    /// Handshake complete, or picked up in mid-stream.
    Established,
    /// One end has sent FIN.
    FinWait,
    /// That FIN has been acknowledged.
    CloseWait,
    /// Both ends have sent FIN.
    LastAck,
    /// Both FINs have been acknowledged.
    TimeWait,
    /// RST seen.
    Closed,
}

/// What a segment does to its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// The flow is now in this state (perhaps the same).
    To(TcpState),
    /// The segment passes and changes nothing, not even the deadline.
    Ignore,
    /// The segment cannot be.
    Invalid,
}

impl TcpState {
    /// Name as Linux' conntrack prints it, in lower case.
    pub const fn name(self) -> &'static str {
        match self {
            TcpState::SynSent => "syn-sent",
            TcpState::SynSentBoth => "syn-sent2",
            TcpState::SynReceived => "syn-recv",
            TcpState::Established => "established",
            TcpState::FinWait => "fin-wait",
            TcpState::CloseWait => "close-wait",
            TcpState::LastAck => "last-ack",
            TcpState::TimeWait => "time-wait",
            TcpState::Closed => "close",
        }
    }

    /// Is the connection over?
    #[inline]
    pub const fn is_over(self) -> bool {
        matches!(self, TcpState::TimeWait | TcpState::Closed)
    }

    /// Is the connection closing or over, so that forgetting it cuts nobody off?
    #[inline]
    pub const fn may_be_dropped_early(self) -> bool {
        matches!(
            self,
            TcpState::FinWait
                | TcpState::CloseWait
                | TcpState::LastAck
                | TcpState::TimeWait
                | TcpState::Closed
        )
    }

    /// The state after a segment.
    #[inline]
    pub fn after(self, direction: FlowDirection, segment: SegmentKind) -> Transition {
        // Data and acknowledgements of an established flow: all but a few packets.
        if self == TcpState::Established && segment == SegmentKind::Ack {
            return Transition::To(TcpState::Established);
        }
        match direction {
            FlowDirection::Original => self.after_original(segment),
            FlowDirection::Reply => self.after_reply(segment),
        }
    }

    fn after_original(self, segment: SegmentKind) -> Transition {
        use TcpState::*;
        use Transition::*;
        match (self, segment) {
            (_, SegmentKind::Reset) => To(Closed),
            (_, SegmentKind::None) => Invalid,
            (SynSent, SegmentKind::Syn) => To(SynSent),
            (SynSentBoth, SegmentKind::Syn) => To(SynSentBoth),
            // A SYN in a synchronised state never ends a flow (RFC 5961 §4).
            (SynReceived | Established | FinWait | CloseWait | LastAck, SegmentKind::Syn) => Ignore,
            // Perhaps a new connection: the caller knows how the old one ended.
            (TimeWait | Closed, SegmentKind::Syn) => To(SynSent),
            (SynSentBoth | SynReceived, SegmentKind::SynAck) => To(SynReceived),
            // Whoever asks does not answer, but when both ask at once.
            (_, SegmentKind::SynAck) => Invalid,
            (SynSent | SynSentBoth, SegmentKind::Fin) => Invalid,
            (SynReceived | Established, SegmentKind::Fin) => To(FinWait),
            (FinWait | CloseWait | LastAck, SegmentKind::Fin) => To(LastAck),
            (TimeWait, SegmentKind::Fin) => To(TimeWait),
            (Closed, SegmentKind::Fin) => To(Closed),
            // Who has seen no SYN/ACK has nothing to acknowledge.
            (SynSent | SynSentBoth, SegmentKind::Ack) => Invalid,
            (SynReceived, SegmentKind::Ack) => To(Established),
            (Established, SegmentKind::Ack) => To(Established),
            (FinWait, SegmentKind::Ack) => To(CloseWait),
            (CloseWait, SegmentKind::Ack) => To(CloseWait),
            (LastAck, SegmentKind::Ack) => To(TimeWait),
            (TimeWait, SegmentKind::Ack) => To(TimeWait),
            (Closed, SegmentKind::Ack) => To(Closed),
        }
    }

    fn after_reply(self, segment: SegmentKind) -> Transition {
        use TcpState::*;
        use Transition::*;
        match (self, segment) {
            (_, SegmentKind::Reset) => To(Closed),
            (_, SegmentKind::None) => Invalid,
            (SynSent | SynSentBoth, SegmentKind::Syn) => To(SynSentBoth),
            (TimeWait, SegmentKind::Syn) => To(SynSent),
            // Whoever was asked does not ask.
            (_, SegmentKind::Syn) => Invalid,
            (SynSent | SynSentBoth, SegmentKind::SynAck) => To(SynReceived),
            (_, SegmentKind::SynAck) => Ignore,
            (SynSent | SynSentBoth, SegmentKind::Fin) => Invalid,
            (SynReceived | Established, SegmentKind::Fin) => To(FinWait),
            (FinWait | CloseWait | LastAck, SegmentKind::Fin) => To(LastAck),
            (TimeWait, SegmentKind::Fin) => To(TimeWait),
            (Closed, SegmentKind::Fin) => To(Closed),
            // Answer to a SYN that hits a half-open connection (RFC 9293 §3.5.1): lets it reset.
            (SynSent | SynSentBoth, SegmentKind::Ack) => Ignore,
            (SynReceived, SegmentKind::Ack) => To(SynReceived),
            (Established, SegmentKind::Ack) => To(Established),
            (FinWait, SegmentKind::Ack) => To(CloseWait),
            (CloseWait, SegmentKind::Ack) => To(CloseWait),
            (LastAck, SegmentKind::Ack) => To(TimeWait),
            (TimeWait, SegmentKind::Ack) => To(TimeWait),
            (Closed, SegmentKind::Ack) => To(Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use FlowDirection::{Original, Reply};

    fn walk(start: TcpState, steps: &[(FlowDirection, SegmentKind)]) -> TcpState {
        steps.iter().fold(start, |state, &(direction, segment)| {
            match state.after(direction, segment) {
                Transition::To(next) => next,
                Transition::Ignore => state,
                other => panic!("{state:?} {direction:?} {segment:?}: {other:?}"),
            }
        })
    }

    #[test]
    fn a_whole_connection_ends_in_time_wait() {
        let end = walk(
            TcpState::SynSent,
            &[
                (Reply, SegmentKind::SynAck),
                (Original, SegmentKind::Ack),
                (Reply, SegmentKind::Ack),
                (Original, SegmentKind::Fin),
                (Reply, SegmentKind::Ack),
                (Reply, SegmentKind::Fin),
                (Original, SegmentKind::Ack),
            ],
        );
        assert_eq!(end, TcpState::TimeWait);
    }

    #[test]
    fn simultaneous_open_becomes_established() {
        let end = walk(
            TcpState::SynSent,
            &[
                (Reply, SegmentKind::Syn),
                (Original, SegmentKind::SynAck),
                (Reply, SegmentKind::SynAck),
                (Original, SegmentKind::Ack),
            ],
        );
        assert_eq!(end, TcpState::Established);
    }

    #[test]
    fn a_syn_never_disturbs_an_established_flow() {
        let after = |direction| TcpState::Established.after(direction, SegmentKind::Syn);
        assert_eq!(after(Original), Transition::Ignore);
        assert_eq!(after(Reply), Transition::Invalid);
    }

    #[test]
    fn a_finished_flow_is_reopened_by_a_syn_and_a_segment_without_flags_is_invalid() {
        assert_eq!(
            TcpState::TimeWait.after(Original, SegmentKind::Syn),
            Transition::To(TcpState::SynSent)
        );
        assert_eq!(
            TcpState::Closed.after(Reply, SegmentKind::Syn),
            Transition::Invalid
        );
        assert_eq!(
            TcpState::Established.after(Reply, SegmentKind::None),
            Transition::Invalid
        );
    }

    #[test]
    fn reset_wins_over_every_other_flag() {
        assert_eq!(SegmentKind::of(TcpFlags(0x16)), SegmentKind::Reset);
        assert_eq!(SegmentKind::of(TcpFlags(0x12)), SegmentKind::SynAck);
        assert_eq!(SegmentKind::of(TcpFlags(0x11)), SegmentKind::Fin);
        assert_eq!(SegmentKind::of(TcpFlags(0x08)), SegmentKind::None);
    }
}
