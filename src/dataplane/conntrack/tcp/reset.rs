//! RST: the segment an attacker would most like to send (RFC 5961 §3).

use super::state::{SegmentKind, TcpState};
use super::{Life, Segment, Tracking};
use crate::dataplane::conntrack::flow::FlowDirection;

/// What a reset may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judgement {
    /// It is older than what its receiver has acknowledged: nobody's.
    Refuse,
    /// It ends the connection. `in_window`: that is certain, without a look at the window.
    Ends {
        /// No need to look.
        in_window: bool,
    },
    /// It may be in the window but is not the next number: its receiver answers with a challenge
    /// and the connection goes on (RFC 5961 §3.2). It passes and ends nothing here.
    Passes,
}

impl Tracking {
    pub(super) fn judge_reset(
        &self,
        state: TcpState,
        direction: FlowDirection,
        segment: &Segment<'_>,
        life: Life,
    ) -> Judgement {
        // Closing already: the pair of ports may be in use again, and the numbers kept here are
        // those of the old connection.
        if state.may_be_dropped_early() {
            return Judgement::Ends { in_window: true };
        }
        let established = state == TcpState::Established && life.assured;
        let acknowledged = self.ends.acknowledged_by(direction.opposite());
        // After a SYN that was let through, the number acknowledged is perhaps an old one.
        if let Some(acknowledged) = acknowledged.filter(|_| self.last.kind != SegmentKind::Syn) {
            if segment.sequence == 0 && !established {
                // Answers a SYN that was let through (RFC 9293 §3.10.7.1: no ACK, sequence 0).
                return Judgement::Ends { in_window: false };
            }
            if super::window::before(segment.sequence, acknowledged) {
                return Judgement::Refuse;
            }
            let exact = segment.sequence == acknowledged;
            // Data, and the RST right behind it, that its receiver has not acknowledged yet.
            let train = self.last.kind == SegmentKind::Ack
                && self.last.direction == direction
                && segment.sequence == self.last.end;
            return match !established || exact || train {
                true => Judgement::Ends { in_window: false },
                false => Judgement::Passes,
            };
        }
        let answers_ignored = (life.replied && self.last.kind == SegmentKind::Syn)
            || (!life.assured && self.last.kind == SegmentKind::Ack);
        if answers_ignored && segment.acknowledgement == self.last.end {
            return Judgement::Ends { in_window: true };
        }
        // The client's reset of a half-open connection it knows nothing of: it bears the number of
        // the challenge that was let through.
        let after_challenge = state == TcpState::SynSent
            && self.last.kind == SegmentKind::Ack
            && self.last.direction == FlowDirection::Reply
            && segment.sequence == self.last.acknowledgement;
        Judgement::Ends {
            in_window: after_challenge,
        }
    }
}
