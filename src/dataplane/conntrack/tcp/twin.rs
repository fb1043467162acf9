//! The slow obvious twin of [`window`](super::window): numbers that never wrap round, and the four
//! conditions as RFC 9293 and the comments there state them. Plain acknowledgements alone, of an
//! open connection without scaling.

use super::Segment;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fits {
    Yes,
    Late,
    No,
}

#[derive(Debug, Clone, Copy)]
struct Side {
    /// One behind the last number sent.
    sent: i128,
    /// One behind the last it may send.
    limit: i128,
    window: i128,
}

pub(super) struct Twin {
    sides: [Side; 2],
}

impl Twin {
    /// After a handshake with these first numbers, both ends announcing this window.
    pub(super) fn established(client: u32, server: u32, window: u16) -> Twin {
        let side = |first: u32| Side {
            sent: i128::from(first) + 1,
            limit: i128::from(first) + 1 + i128::from(window),
            window: window.into(),
        };
        Twin {
            sides: [side(client), side(server)],
        }
    }

    pub(super) fn acknowledgement(&mut self, reply: bool, segment: &Segment<'_>) -> Fits {
        let (s, r) = (usize::from(reply), usize::from(!reply));
        let (sender, receiver) = (self.sides[s], self.sides[r]);
        let bytes = i128::from(segment.end.wrapping_sub(segment.sequence));
        let first = closest(segment.sequence, sender.limit);
        let end = closest(segment.end, sender.sent);
        let acknowledged = closest(segment.acknowledgement, receiver.sent);
        let back = sender.window.max(66_000);
        let nothing_unsent = acknowledged <= receiver.sent;
        let recent =
            closest_to_lower(segment.acknowledgement, receiver.sent - back) >= receiver.sent - back;
        let new = closest_to_lower(segment.end, sender.sent - receiver.window)
            >= sender.sent - receiver.window;
        if first > sender.limit {
            let beyond = first + bytes - sender.limit + 1;
            if new && nothing_unsent && recent && (0..=receiver.window).contains(&beyond) {
                self.sides[s].sent = first + bytes;
                return Fits::Late;
            }
            return Fits::No;
        }
        if !nothing_unsent {
            return Fits::No;
        }
        if !new || !recent {
            return Fits::Late;
        }
        let announced = i128::from(segment.window);
        self.sides[s].window = sender.window.max(announced);
        self.sides[s].sent = sender.sent.max(end);
        let end_at_limit = closest(segment.end, sender.limit);
        if end_at_limit > sender.limit {
            self.sides[r].window += end_at_limit - sender.limit;
        }
        let acknowledged_at_limit = closest(segment.acknowledgement, receiver.limit - announced);
        let limit = acknowledged_at_limit + announced;
        if limit >= receiver.limit {
            self.sides[r].limit = limit + i128::from(announced == 0);
        }
        Fits::Yes
    }
}

/// The number with these low 32 bits that is closest to `near`; of two, the lower.
fn closest(bits: u32, near: i128) -> i128 {
    let difference = bits.wrapping_sub(near as u32) as i32;
    near + i128::from(difference)
}

fn closest_to_lower(bits: u32, near: i128) -> i128 {
    // The condition is "after near - 1": one further on the circle than `closest` to near.
    let difference = bits.wrapping_sub((near as u32).wrapping_sub(1)) as i32;
    near - 1 + i128::from(difference)
}
