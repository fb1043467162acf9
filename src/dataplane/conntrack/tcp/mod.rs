//! TCP seen from the middle: which segments belong to a connection, and what they do to it.
//!
//! The bar is Linux' nf_conntrack (6.x), whose state table, window rules and exceptions are
//! followed one by one; each is named at its line. Numbered rules are those of RFC 9293, 5961, 7323
//! and of Rooij, "Real stateful TCP packet filtering" (2001), which is where nf_conntrack's four
//! window conditions come from.
//!
//! | file | question |
//! |---|---|
//! | [`state`] | flags and direction: which state comes next? |
//! | [`window`] | sequence and acknowledgement: can the segment be this connection's? |
//! | [`options`] | scale, SACK: what have both ends agreed on? |
//! | [`reset`] | may this RST end it? (RFC 5961 §3) |
//!
//! [`Tracking::segment`] is the one place where they meet.

pub mod options;
mod reset;
pub mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod twin;
pub mod window;

pub use state::{SegmentKind, TcpState};

use super::flow::FlowDirection;
use crate::wire::PacketView;
use options::Offer;
use state::Transition;
use window::{Ends, InWindow};

/// What a segment says, with the octets it takes up in sequence space.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'frame> {
    /// Its part in the state machine.
    pub kind: SegmentKind,
    /// First sequence number.
    pub sequence: u32,
    /// The one behind the last: payload, SYN and FIN count.
    pub end: u32,
    /// Acknowledgement number; means nothing without `has_acknowledgement`.
    pub acknowledgement: u32,
    /// ACK flag.
    pub has_acknowledgement: bool,
    /// SYN flag, with or without ACK.
    pub synchronises: bool,
    /// Window as in the header.
    pub window: u16,
    /// Options as in the header.
    pub options: &'frame [u8],
}

/// What the box is told to be lenient about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpRules {
    /// Connections may be picked up in their middle (`nf_conntrack_tcp_loose`).
    pub loose: bool,
    /// Segments outside the window pass, resets excepted (`nf_conntrack_tcp_be_liberal`).
    pub liberal: bool,
    /// Retransmissions without an answer after which a flow's timeout is cut
    /// (`nf_conntrack_tcp_max_retrans`).
    pub retransmissions_max: u8,
}

impl Default for TcpRules {
    fn default() -> Self {
        TcpRules {
            loose: true,
            liberal: false,
            retransmissions_max: 3,
        }
    }
}

/// What a flow knows of its own life besides its TCP state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Life {
    /// A packet has come from the other end before.
    pub replied: bool,
    /// The handshake was completed, or a picked up connection was answered.
    pub assured: bool,
}

/// Which timeout a flow lives by after a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Timer {
    /// That of its state.
    State,
    /// At most that of repeated segments without an answer, or of a closed window.
    Retransmission,
    /// At most that of data nobody has acknowledged.
    Unacknowledged,
    /// That of a reset, whatever the state.
    Reset,
}

/// What becomes of a segment and its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It passes; the flow is in this state and lives on by this timer.
    Accept {
        /// State from now on.
        state: TcpState,
        /// What bounds the flow's life.
        timer: Timer,
        /// From now on the connection counts as established for good.
        assures: bool,
    },
    /// It passes, and changes neither state nor deadline.
    Ignore,
    /// It passes, and the flow is forgotten: a reset was the only answer there ever was.
    End,
    /// The flow is over; the segment opens a new one.
    Reopen,
    /// It cannot be a segment of this connection. `closing`: it claims to end it, from the end that
    /// claimed so before or after the other; then a long life is cut to the timer of unacknowledged
    /// data.
    Invalid {
        /// Both ends want to be rid of the connection, in segments that do not fit.
        closing: bool,
    },
}

/// The last segment that was noted: what later ones are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Last {
    end: u32,
    acknowledgement: u32,
    window: u16,
    kind: SegmentKind,
    direction: FlowDirection,
    /// How often it has come again.
    retransmissions: u8,
    /// A SYN that was let through although it did not fit offered this scale and these flags.
    scale: u8,
    flags: u8,
}

impl Last {
    const NOTHING: Last = Last {
        end: 0,
        acknowledgement: 0,
        window: 0,
        kind: SegmentKind::None,
        direction: FlowDirection::Original,
        retransmissions: 0,
        scale: 0,
        flags: 0,
    };
}

/// A SYN was let through in LAST-ACK: the next ACK may be the challenge it provokes.
const EXPECT_CHALLENGE: u8 = 1 << 6;
/// Both ends have sent a SYN.
const SIMULTANEOUS: u8 = 1 << 7;

/// Sequence numbers of both ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracking {
    ends: Ends,
    last: Last,
}

impl<'frame> Segment<'frame> {
    /// The segment in a frame that was parsed; `None` for anything but TCP, and for later
    /// fragments.
    #[inline]
    pub fn of(bytes: &'frame [u8], view: &PacketView) -> Option<Self> {
        let header = view.tcp(bytes)?;
        let kind = SegmentKind::of(header.flags);
        let synchronises = matches!(kind, SegmentKind::Syn | SegmentKind::SynAck);
        let finishes = header.flags.contains(crate::wire::TcpFlags::FIN);
        let end = header.sequence.wrapping_add(header.payload_bytes);
        let control = u32::from(synchronises) + u32::from(finishes);
        Some(Segment {
            kind,
            sequence: header.sequence,
            end: end.wrapping_add(control),
            acknowledgement: header.acknowledgement,
            has_acknowledgement: header.flags.contains(crate::wire::TcpFlags::ACK),
            synchronises,
            window: header.window,
            options: view.tcp_options(bytes).unwrap_or_default(),
        })
    }
}

impl Tracking {
    /// A connection from its first segment, or `None` when that cannot open one: only a SYN can,
    /// or with `tcp_loose` an acknowledgement in mid-stream. The segment itself still goes through
    /// [`Tracking::segment`] for its effect on the window.
    pub fn open(segment: &Segment<'_>, rules: &TcpRules) -> Option<(Tracking, TcpState)> {
        let (ends, state) = match segment.kind {
            SegmentKind::Syn => (Ends::opened(segment), TcpState::SynSent),
            SegmentKind::Ack if rules.loose => (Ends::picked_up(segment), TcpState::Established),
            _ => return None,
        };
        let last = Last::NOTHING;
        let mut tracking = Tracking { ends, last };
        let admitted = tracking
            .ends
            .admit(FlowDirection::Original, state, segment, rules);
        if let InWindow::Yes(acknowledged) = admitted {
            tracking.count(FlowDirection::Original, segment, acknowledged);
        }
        tracking.last.kind = segment.kind;
        Some((tracking, state))
    }

    /// A connection that is known to be open, without its sequence numbers: whatever its next
    /// segments show is believed.
    pub fn unknown() -> Tracking {
        Tracking {
            ends: Ends::unknown(),
            last: Last::NOTHING,
        }
    }

    /// Could a segment with this number have gone this way, so that an ICMP error may quote it?
    pub fn may_have_sent(&self, direction: FlowDirection, sequence: u32) -> bool {
        self.ends.may_have_sent(direction, sequence)
    }

    /// What becomes of a segment of this flow.
    pub fn segment(
        &mut self,
        state: TcpState,
        direction: FlowDirection,
        segment: &Segment<'_>,
        life: Life,
        rules: &TcpRules,
    ) -> Outcome {
        let mut next = match state.after(direction, segment.kind) {
            Transition::Invalid => return Outcome::Invalid { closing: false },
            Transition::Ignore => match self.ignored(state, direction, segment) {
                None => return Outcome::Ignore,
                Some(next) => next,
            },
            Transition::To(TcpState::SynSent) if state.is_over() => {
                // RFC 9293 §3.6.1: a new SYN may reopen a connection from TIME-WAIT; one that was
                // aborted is started anew. The conditions on the sequence number are left to the
                // ends.
                let aborted =
                    self.last.direction == direction && self.last.kind == SegmentKind::Reset;
                if self.ends.is_closing() || aborted {
                    return Outcome::Reopen;
                }
                match self.ignored(state, direction, segment) {
                    None => return Outcome::Ignore,
                    Some(next) => next,
                }
            }
            Transition::To(next) => next,
        };
        let mut check_window = true;
        match next {
            TcpState::TimeWait if self.is_challenge(state, direction, segment) => {
                self.last.flags &= !EXPECT_CHALLENGE;
                return Outcome::Ignore;
            }
            TcpState::SynSentBoth => self.last.flags |= SIMULTANEOUS,
            TcpState::SynReceived
                if direction == FlowDirection::Reply
                    && segment.kind == SegmentKind::Ack
                    && self.last.flags & SIMULTANEOUS != 0 =>
            {
                // RFC 9293 §3.5, figure 7: after two SYNs the ACK may come from either end first.
                next = TcpState::Established;
            }
            TcpState::Closed if segment.kind == SegmentKind::Reset => {
                match self.judge_reset(state, direction, segment, life) {
                    reset::Judgement::Refuse => {
                        return Outcome::Invalid { closing: false };
                    }
                    reset::Judgement::Ends { in_window } => check_window = !in_window,
                    reset::Judgement::Passes => next = state,
                }
            }
            _ => {}
        }
        if check_window {
            match self.ends.admit(direction, state, segment, rules) {
                InWindow::Yes(acknowledged) => self.count(direction, segment, acknowledged),
                InWindow::Tolerated => {}
                InWindow::Late => return Outcome::Ignore,
                InWindow::No => return self.refuse(direction, segment, life),
            }
        }
        self.accept(state, next, direction, segment, life, rules)
    }

    fn accept(
        &mut self,
        state: TcpState,
        next: TcpState,
        direction: FlowDirection,
        segment: &Segment<'_>,
        life: Life,
        rules: &TcpRules,
    ) -> Outcome {
        self.last.kind = segment.kind;
        self.last.direction = direction;
        if state != next && next == TcpState::FinWait {
            self.ends.set_closing(direction);
        }
        let mut timer = if self.last.retransmissions >= rules.retransmissions_max {
            Timer::Retransmission
        } else if segment.kind == SegmentKind::Reset {
            Timer::Reset
        } else if self.ends.has_unacknowledged_data() {
            Timer::Unacknowledged
        } else if self.last.window == 0 {
            // Nobody may send, or nothing has been acknowledged yet.
            Timer::Retransmission
        } else {
            Timer::State
        };
        if !life.replied && direction == FlowDirection::Original {
            // A SYN sent again does not renew the flow: whoever reuses the port could keep it, and
            // its translation, alive for ever.
            if segment.kind == SegmentKind::Syn && state == TcpState::SynSent {
                return Outcome::Ignore;
            }
            if next == TcpState::Established && timer == Timer::State {
                // Picked up in mid-stream, and nobody has answered yet.
                timer = Timer::Unacknowledged;
            }
        }
        if !life.replied && segment.kind == SegmentKind::Reset {
            return Outcome::End;
        }
        let opens = matches!(state, TcpState::SynReceived | TcpState::Established);
        Outcome::Accept {
            state: next,
            timer,
            assures: life.replied && opens && next == TcpState::Established,
        }
    }

    /// A segment out of the window that wants to end the connection: when both ends have sent such,
    /// the connection is probably gone and only the numbers kept here are wrong.
    fn refuse(&mut self, direction: FlowDirection, segment: &Segment<'_>, life: Life) -> Outcome {
        let ends = |kind| matches!(kind, SegmentKind::Reset | SegmentKind::Fin);
        if !life.assured || !ends(segment.kind) {
            return Outcome::Invalid { closing: false };
        }
        let closing = self.last.direction != direction && ends(self.last.kind);
        if !closing {
            self.last.kind = segment.kind;
            self.last.direction = direction;
        }
        Outcome::Invalid { closing }
    }

    /// A segment that does not fit the state, and passes: the ends may be in step with each other
    /// while this box is not. It is noted, and the answer to it shows who is right (RFC 5961 §4).
    /// When this one is such an answer, the state that follows.
    fn ignored(
        &mut self,
        state: TcpState,
        direction: FlowDirection,
        segment: &Segment<'_>,
    ) -> Option<TcpState> {
        if segment.kind == SegmentKind::SynAck
            && self.last.kind == SegmentKind::Syn
            && self.last.direction != direction
            && segment.acknowledgement == self.last.end
        {
            // It acknowledges the SYN let through before: a new connection in place of the old.
            let offer = Offer::from_bits(self.last.scale, self.last.flags);
            let window = self.last.window;
            self.ends
                .start_over(direction.opposite(), self.last.end, window, offer);
            return Some(TcpState::SynReceived);
        }
        self.note(direction, segment);
        if segment.kind == SegmentKind::Syn && direction == FlowDirection::Original {
            let offer = Offer::read(segment.options);
            (self.last.scale, self.last.flags) = offer.to_bits();
            if state == TcpState::LastAck {
                self.last.flags |= EXPECT_CHALLENGE;
            }
        }
        if state == TcpState::SynSent
            && segment.kind == SegmentKind::Ack
            && direction == FlowDirection::Reply
        {
            // A challenge in answer to the SYN: the RST that follows bears its number.
            self.last.acknowledgement = segment.acknowledgement;
        }
        None
    }

    /// An ACK that answers a SYN let through in LAST-ACK (RFC 5961 §4.2) and must not be taken for
    /// that of the FIN.
    fn is_challenge(
        &self,
        state: TcpState,
        direction: FlowDirection,
        segment: &Segment<'_>,
    ) -> bool {
        state == TcpState::LastAck
            && segment.kind == SegmentKind::Ack
            && self.last.direction != direction
            && self.last.kind == SegmentKind::Syn
            && self.last.flags & EXPECT_CHALLENGE != 0
    }

    fn note(&mut self, direction: FlowDirection, segment: &Segment<'_>) {
        self.last.kind = segment.kind;
        self.last.direction = direction;
        self.last.end = segment.end;
        self.last.window = segment.window;
    }

    /// Counts acknowledgements that come again and again.
    fn count(&mut self, direction: FlowDirection, segment: &Segment<'_>, acknowledged: u32) {
        if segment.kind != SegmentKind::Ack {
            return;
        }
        let same = self.last.direction == direction
            && self.last.acknowledgement == acknowledged
            && self.last.end == segment.end
            && self.last.window == segment.window;
        if same {
            self.last.retransmissions = self.last.retransmissions.saturating_add(1);
        } else {
            self.last.direction = direction;
            self.last.acknowledgement = acknowledged;
            self.last.end = segment.end;
            self.last.window = segment.window;
            self.last.retransmissions = 0;
        }
    }
}
