//! Sequence numbers: which segments the receiver of a connection could take.
//!
//! For each end the tracker keeps what it has sent (`end`), how far it may send (`end_max`, told by
//! the other end's acknowledgements and windows), the largest window it has announced
//! (`window_max`) and the highest number it has acknowledged (`acknowledged`). A segment fits when
//!
//! ```text
//! I    sequence <= sender.end_max                          not beyond the receiver's window
//! II   end > sender.end - receiver.window_max              not all of it long received
//! III  acknowledgement <= receiver.end                     nothing acknowledged that was not sent
//! IV   acknowledgement > receiver.end - window             not too old: max(window_max, 66000)
//! ```
//!
//! in sequence arithmetic. A segment that fails I or III cannot be this connection's and is
//! dropped, unless it is beyond the window by no more than another one. One that fails only II or
//! IV is late. What is late, or a little early, passes and changes nothing, as in Linux since 6.1.

use super::options::{self, Offer};
use super::{Segment, SegmentKind, TcpRules, TcpState};
use crate::dataplane::conntrack::flow::FlowDirection;

/// The least that an acknowledgement may be behind (nf_conntrack's MAXACKWINDOW: 65,535 without
/// scaling, and some).
const ACKNOWLEDGEMENT_WINDOW: u32 = 66_000;

/// Does `a` stand before `b` in sequence space (RFC 9293 §3.4)?
#[inline]
pub fn before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}

/// Does `a` stand behind `b`?
#[inline]
pub fn after(a: u32, b: u32) -> bool {
    before(b, a)
}

/// What is known of one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct End {
    end: u32,
    end_max: u32,
    /// 0: nothing has been seen from this end yet.
    window_max: u32,
    acknowledged: u32,
}

mod flag {
    /// The end has offered window scaling.
    pub const SCALE: u8 = 1 << 0;
    /// The end may be sent selective acknowledgements.
    pub const SACK: u8 = 1 << 1;
    /// It was the first to send FIN.
    pub const CLOSING: u8 = 1 << 2;
    /// Its segments are not held to the window: the connection was picked up.
    pub const LIBERAL: u8 = 1 << 3;
    /// It has sent what was not acknowledged yet.
    pub const UNACKNOWLEDGED: u8 = 1 << 4;
    /// `acknowledged` is known.
    pub const ACKNOWLEDGES: u8 = 1 << 5;
}

/// Both ends, by the direction they send in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    ends: [End; 2],
    scales: [u8; 2],
    flags: [u8; 2],
}

/// Does a segment fit?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InWindow {
    /// It does, and has been taken into account; this is what it acknowledges.
    Yes(u32),
    /// It does not, and passes all the same.
    Tolerated,
    /// It is late: ignored, not invalid.
    Late,
    /// It cannot be this connection's.
    No,
}

impl Ends {
    /// After a first SYN.
    pub(super) fn opened(segment: &Segment<'_>) -> Ends {
        let mut ends = Ends::none();
        ends.ends[0] = End {
            end: segment.end,
            end_max: segment.end,
            window_max: u32::from(segment.window).max(1),
            acknowledged: 0,
        };
        ends.offer(0, Offer::read(segment.options));
        ends
    }

    /// After a segment in the middle of a connection whose options nobody here has seen.
    pub(super) fn picked_up(segment: &Segment<'_>) -> Ends {
        let mut ends = Ends::none();
        let window = u32::from(segment.window).max(1);
        ends.ends[0] = End {
            end: segment.end,
            end_max: segment.end.wrapping_add(window),
            window_max: window,
            acknowledged: 0,
        };
        ends.flags = [flag::SACK | flag::LIBERAL; 2];
        ends
    }

    /// Of an open connection, without its numbers.
    pub(super) fn unknown() -> Ends {
        let mut ends = Ends::none();
        ends.flags = [flag::SACK | flag::LIBERAL; 2];
        ends
    }

    fn none() -> Ends {
        Ends {
            ends: [End::default(); 2],
            scales: [0; 2],
            flags: [0; 2],
        }
    }

    /// The end sending in `direction` has opened a connection in place of the old one; the other
    /// has said nothing yet.
    pub(super) fn start_over(
        &mut self,
        direction: FlowDirection,
        end: u32,
        window: u16,
        offer: Offer,
    ) {
        let sender = direction as usize;
        *self = Ends::none();
        self.ends[sender] = End {
            end,
            end_max: end,
            window_max: u32::from(window).max(1),
            acknowledged: 0,
        };
        self.offer(sender, offer);
    }

    /// Has one end sent FIN?
    pub(super) fn is_closing(&self) -> bool {
        (self.flags[0] | self.flags[1]) & flag::CLOSING != 0
    }

    pub(super) fn set_closing(&mut self, direction: FlowDirection) {
        self.flags[direction as usize] |= flag::CLOSING;
    }

    pub(super) fn has_unacknowledged_data(&self) -> bool {
        (self.flags[0] | self.flags[1]) & flag::UNACKNOWLEDGED != 0
    }

    /// The highest number that the end sending in `direction` has acknowledged.
    pub(super) fn acknowledged_by(&self, direction: FlowDirection) -> Option<u32> {
        let end = direction as usize;
        (self.flags[end] & flag::ACKNOWLEDGES != 0).then_some(self.ends[end].acknowledged)
    }

    /// Could the end that sends in this direction have sent this number not long ago? It is what an
    /// ICMP error may quote (RFC 5927 §4).
    pub(super) fn may_have_sent(&self, direction: FlowDirection, sequence: u32) -> bool {
        let sender = self.ends[direction as usize];
        let receiver = self.ends[direction.opposite() as usize];
        if sender.window_max == 0 || self.flags[direction as usize] & flag::LIBERAL != 0 {
            return true;
        }
        let window = receiver.window_max.max(ACKNOWLEDGEMENT_WINDOW);
        !after(sequence, sender.end) && !before(sequence, sender.end.wrapping_sub(window))
    }

    /// Judges a segment and takes it into account when it fits.
    pub(super) fn admit(
        &mut self,
        direction: FlowDirection,
        state: TcpState,
        segment: &Segment<'_>,
        rules: &TcpRules,
    ) -> InWindow {
        let (s, r) = (direction as usize, direction.opposite() as usize);
        let (mut sequence, mut end) = (segment.sequence, segment.end);
        let mut acknowledgement = segment.acknowledgement;
        let mut highest = acknowledgement;
        if self.flags[r] & flag::SACK != 0 && segment.has_acknowledgement {
            highest = options::highest_acknowledged(segment.options, acknowledgement);
        }
        if let Some(opened) = self.begin(direction, state, segment, highest) {
            return opened;
        }
        let resets = segment.kind == SegmentKind::Reset;
        if !segment.has_acknowledgement || resets && acknowledgement == 0 {
            // Without ACK there is nothing to hold against it; some stacks set ACK in a reset, and
            // the number to 0.
            acknowledgement = self.ends[r].end;
            highest = acknowledgement;
        }
        if resets && sequence == 0 && state == TcpState::SynSent {
            // The answer to a SYN (RFC 9293 §3.10.7.1).
            sequence = self.ends[s].end;
            end = sequence;
        }
        let judged = match self.judge(direction, sequence, end, highest) {
            InWindow::Yes(_) => InWindow::Yes(acknowledgement),
            _ if rules.liberal || self.flags[s] & flag::LIBERAL != 0 => {
                return InWindow::Tolerated;
            }
            other => return other,
        };
        self.take(direction, segment, end, [acknowledgement, highest]);
        judged
    }

    /// What a segment that is the first from its end, or opens the connection again, tells. Some
    /// verdict when there is nothing more to ask.
    fn begin(
        &mut self,
        direction: FlowDirection,
        state: TcpState,
        segment: &Segment<'_>,
        highest: u32,
    ) -> Option<InWindow> {
        let (s, r) = (direction as usize, direction.opposite() as usize);
        let first = self.ends[s].window_max == 0;
        let again = segment.synchronises
            && after(segment.end, self.ends[s].end)
            && matches!(state, TcpState::SynSent | TcpState::SynReceived);
        if first && !segment.synchronises {
            // The middle of a connection: believe what the segment says.
            let window = (u32::from(segment.window) << self.scales[s]).max(1);
            self.ends[s].end = segment.end;
            self.ends[s].window_max = window;
            self.ends[s].end_max = segment.end.wrapping_add(window);
            let receiver = &mut self.ends[r];
            if receiver.window_max == 0 {
                (receiver.end, receiver.end_max) = (highest, highest);
            } else if highest == receiver.end.wrapping_add(1) {
                // The answer to a keep-alive, whose one octet does not count.
                receiver.end = highest;
            }
            return None;
        }
        if !first && !again {
            return None;
        }
        // The first SYN or SYN-ACK of this end; or another one with a higher number, before the
        // connection was open: whoever sends it has started anew (RFC 9293 §3.8.3).
        self.ends[s].end = segment.end;
        self.ends[s].end_max = segment.end;
        self.ends[s].window_max = u32::from(segment.window).max(1);
        self.offer(s, Offer::read(segment.options));
        let both = self.flags[s] & self.flags[r] & flag::SCALE != 0;
        if direction == FlowDirection::Reply && !both {
            // RFC 7323 §2.2: scaling is on only when both ends have offered it.
            self.scales = [0; 2];
        }
        let simultaneous =
            !segment.has_acknowledgement && (first || direction == FlowDirection::Reply);
        simultaneous.then_some(InWindow::Yes(segment.acknowledgement))
    }

    /// The four conditions.
    fn judge(
        &mut self,
        direction: FlowDirection,
        sequence: u32,
        end: u32,
        highest: u32,
    ) -> InWindow {
        let (s, r) = (direction as usize, direction.opposite() as usize);
        let (sender, receiver) = (self.ends[s], self.ends[r]);
        let window = sender.window_max.max(ACKNOWLEDGEMENT_WINDOW);
        let sent = before(highest, receiver.end.wrapping_add(1));
        let recent = after(highest, receiver.end.wrapping_sub(window).wrapping_sub(1));
        let oldest = sender.end.wrapping_sub(receiver.window_max).wrapping_sub(1);
        let is_new = after(end, oldest);
        if !before(sequence, sender.end_max.wrapping_add(1)) {
            let beyond = end.wrapping_sub(sender.end_max).wrapping_add(1);
            let known = receiver.window_max != 0;
            if known && is_new && sent && recent && beyond <= receiver.window_max {
                // Some senders use more than the window (nf_conntrack since 6.2). Nothing but the
                // first condition speaks against it: it passes, and what acknowledges it must fit.
                self.ends[s].end = end;
                self.flags[s] |= flag::UNACKNOWLEDGED;
                return InWindow::Late;
            }
            return InWindow::No;
        }
        if !sent {
            return InWindow::No;
        }
        if (receiver.window_max != 0 && !is_new) || !recent {
            return InWindow::Late;
        }
        InWindow::Yes(highest)
    }

    /// Takes a segment that fits into account.
    fn take(
        &mut self,
        direction: FlowDirection,
        segment: &Segment<'_>,
        end: u32,
        [acknowledgement, highest]: [u32; 2],
    ) {
        let (s, r) = (direction as usize, direction.opposite() as usize);
        let scale = match segment.synchronises {
            // RFC 7323 §2.2: the window of a SYN is never scaled.
            true => 0,
            false => self.scales[s],
        };
        let window = u32::from(segment.window) << scale;
        let sender = &mut self.ends[s];
        // A selective acknowledgement tells that the window reaches beyond it.
        let seen = window.wrapping_add(highest.wrapping_sub(acknowledgement));
        sender.window_max = sender.window_max.max(seen);
        if after(end, sender.end) {
            sender.end = end;
            self.flags[s] |= flag::UNACKNOWLEDGED;
        }
        if segment.has_acknowledgement {
            let known = self.flags[s] & flag::ACKNOWLEDGES != 0;
            if !known || after(acknowledgement, sender.acknowledged) {
                sender.acknowledged = acknowledgement;
                self.flags[s] |= flag::ACKNOWLEDGES;
            }
        }
        let end_max = sender.end_max;
        let receiver = &mut self.ends[r];
        if receiver.window_max != 0 && after(end, end_max) {
            receiver.window_max = receiver.window_max.wrapping_add(end.wrapping_sub(end_max));
        }
        let limit = highest.wrapping_add(window);
        if after(limit, receiver.end_max.wrapping_sub(1)) {
            // A window of 0 is probed with one octet.
            receiver.end_max = limit.wrapping_add(u32::from(window == 0));
        }
        if acknowledgement == receiver.end {
            self.flags[r] &= !flag::UNACKNOWLEDGED;
        }
    }

    fn offer(&mut self, end: usize, offer: Offer) {
        self.scales[end] = offer.scale.unwrap_or(0);
        self.flags[end] &= flag::LIBERAL;
        if offer.scale.is_some() {
            self.flags[end] |= flag::SCALE;
        }
        if offer.sack {
            self.flags[end] |= flag::SACK;
        }
    }
}
