//! Changes to a parsed frame in place, its checksums and its [`PacketView`] kept right.
//!
//! No function here reads the payload: checksums are updated incrementally (RFC 1624). All take the
//! frame the view was parsed from; with another one they change nothing, or the wrong bytes, but
//! never panic.

use super::checksum::{self, ChecksumState};
use super::{Address, Family, FlowKey, InnerPacket, MacAddress, PacketView, protocol};

/// New addresses and ports of a packet; `None` keeps what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// Source address, of the packet's family.
    pub source: Option<Address>,
    /// Destination address, of the packet's family.
    pub destination: Option<Address>,
    /// Source port; identifier of an ICMP query.
    pub source_port: Option<u16>,
    /// Destination port; ignored for ICMP.
    pub destination_port: Option<u16>,
}

/// Sets both Ethernet addresses.
#[inline]
pub fn set_macs(bytes: &mut [u8], destination: MacAddress, source: MacAddress) {
    if let Some(header) = bytes.first_chunk_mut::<12>() {
        header[..6].copy_from_slice(&destination.0);
        header[6..].copy_from_slice(&source.0);
    }
}

/// Takes one from TTL or hop limit. Returns false, and changes nothing, when it would become 0
/// (RFC 1812 §5.3.1, 8200 §3).
#[inline]
pub fn decrement_ttl(bytes: &mut [u8], view: &mut PacketView) -> bool {
    if view.ttl <= 1 {
        return false;
    }
    let Some(ip) = bytes.get_mut(view.l3 as usize..) else {
        return false;
    };
    match view.key.family {
        Family::V4 => {
            let Some(header) = ip.first_chunk_mut::<20>() else {
                return false;
            };
            let old = u16::from_be_bytes([header[8], header[9]]);
            header[8] -= 1;
            let field = u16::from_be_bytes([header[10], header[11]]);
            let field = checksum::update(field, old, old - 0x100);
            header[10..12].copy_from_slice(&field.to_be_bytes());
        }
        Family::V6 => match ip.get_mut(7) {
            Some(hop_limit) => *hop_limit -= 1,
            None => return false,
        },
    }
    view.ttl -= 1;
    true
}

/// Replaces addresses and ports, and brings IP header checksum, transport checksum and `view.key`
/// in step.
///
/// A partial checksum stays partial (only the pseudo-header's part of it changes), an absent one
/// absent; a wrong one stays wrong. A later fragment has no ports to replace. SCTP's checksum is no
/// sum: when a port changes it is computed anew, which alone reads the payload.
pub fn rewrite(bytes: &mut [u8], view: &mut PacketView, rewrite: &Rewrite) {
    let state = checksum::detect(bytes, view);
    let Some(packet) = bytes.get_mut(view.l3 as usize..view.packet_end as usize) else {
        return;
    };
    let l4 = (view.l4 - view.l3) as usize;
    let old_key = view.key;
    let Some(mut change) = replace_addresses(packet, old_key.family, rewrite) else {
        return;
    };
    view.key.source = rewrite.source.unwrap_or(old_key.source);
    view.key.destination = rewrite.destination.unwrap_or(old_key.destination);
    if view.is_later_fragment() {
        return;
    }
    let Some(upper) = packet.get_mut(l4..) else {
        return;
    };
    if view.routing_segments_left && rewrite.destination.is_some() {
        // The transport checksum covers the last way-point, which is not what was replaced.
        change = Change::of_address(old_key.source, view.key.source);
    }
    if !has_pseudo_header(old_key.family, old_key.protocol) {
        change = Change::NONE;
    }
    change.also(replace_ports(upper, &mut view.key, rewrite));
    let ports_changed = (old_key.source_port, old_key.destination_port)
        != (view.key.source_port, view.key.destination_port);
    match state {
        ChecksumState::Absent => {}
        ChecksumState::Partial if view.key.protocol == protocol::SCTP => {}
        ChecksumState::Partial => {
            let addresses = Change::of_address(old_key.source, view.key.source).and(
                Change::of_address(old_key.destination, view.key.destination),
            );
            apply(upper, &view.key, |field| addresses.add_to_sum(field));
        }
        _ if view.key.protocol == protocol::SCTP => {
            if ports_changed {
                checksum::fill(bytes, view);
            }
        }
        _ => apply(upper, &view.key, |field| {
            let field = change.update(field);
            let never_zero = matches!(old_key.protocol, protocol::UDP | protocol::UDP_LITE);
            if field == 0 && never_zero {
                0xffff
            } else {
                field
            }
        }),
    }
}

/// Replaces addresses and ports of the packet that an ICMP error quotes, and brings the quoted
/// checksums, the error's own checksum and `inner.key` in step.
///
/// The error's own addresses are changed with [`rewrite`], before or after.
pub fn rewrite_quoted(
    bytes: &mut [u8],
    view: &PacketView,
    inner: &mut InnerPacket,
    rewrite: &Rewrite,
) {
    let (Some(icmp), true) = (
        bytes.get_mut(view.l4 as usize..inner.quote_end as usize),
        view.is_icmp_error() && inner.l3 >= view.l4 + 8,
    ) else {
        return;
    };
    let (header, quote) = icmp.split_at_mut((inner.l3 - view.l4) as usize);
    let l4 = (inner.l4 - inner.l3) as usize;
    // Everything that changes lies in the quoted headers.
    let touched_bytes = quote.len().min(l4 + 20);
    let before = checksum::sum(&quote[..touched_bytes]);
    let old_key = inner.key;
    let Some(mut change) = replace_addresses(quote, old_key.family, rewrite) else {
        return;
    };
    inner.key.source = rewrite.source.unwrap_or(old_key.source);
    inner.key.destination = rewrite.destination.unwrap_or(old_key.destination);
    let later = inner.fragment.is_some_and(|fragment| fragment.is_later());
    if let (Some(upper), false) = (quote.get_mut(l4..), later) {
        if !has_pseudo_header(old_key.family, old_key.protocol) {
            change = Change::NONE;
        }
        change.also(replace_ports(upper, &mut inner.key, rewrite));
        apply(upper, &inner.key, |field| match old_key.protocol {
            protocol::UDP | protocol::UDP_LITE if field == 0 => 0,
            protocol::UDP | protocol::UDP_LITE => match change.update(field) {
                0 => 0xffff,
                field => field,
            },
            _ => change.update(field),
        });
    }
    let after = checksum::sum(&quote[..touched_bytes]);
    if let Some(field) = header.get_mut(2..4) {
        let value = checksum::update(u16::from_be_bytes([field[0], field[1]]), before, after);
        field.copy_from_slice(&value.to_be_bytes());
    }
}

/// Replaces the id in the outermost VLAN tag; priority bits stay. Returns false when there is no
/// tag. The zone of `view.key` stays: it says where the packet came from.
pub fn set_vlan(bytes: &mut [u8], view: &mut PacketView, vlan: u16) -> bool {
    let Some(tag) = bytes.get_mut(14..16).filter(|_| view.vlan_count > 0) else {
        return false;
    };
    tag[0] = tag[0] & 0xf0 | (vlan >> 8) as u8 & 0x0f;
    tag[1] = vlan as u8;
    view.vlan = Some(vlan & 0x0fff);
    true
}

/// Inserts an outermost VLAN tag. The caller has made the frame 4 bytes longer before; what these
/// hold does not matter. Returns false, and changes nothing, when the frame is too short or has two
/// tags. Moves the whole packet by 4 bytes.
pub fn push_vlan(bytes: &mut [u8], view: &mut PacketView, vlan: u16) -> bool {
    let old_bytes = bytes.len().saturating_sub(4);
    if old_bytes < view.packet_end as usize || old_bytes < 14 || view.vlan_count >= 2 {
        return false;
    }
    bytes.copy_within(12..old_bytes, 16);
    bytes[12..14].copy_from_slice(&protocol::ETHER_VLAN.to_be_bytes());
    bytes[14..16].copy_from_slice(&(vlan & 0x0fff).to_be_bytes());
    view.vlan = Some(vlan & 0x0fff);
    view.vlan_count += 1;
    view.l3 += 4;
    view.l4 += 4;
    view.packet_end += 4;
    true
}

/// Removes the outermost VLAN tag. The caller makes the frame 4 bytes shorter afterwards. Returns
/// false, and changes nothing, when there is no tag. Moves the whole packet by 4 bytes.
pub fn pop_vlan(bytes: &mut [u8], view: &mut PacketView) -> bool {
    if view.vlan_count == 0 || bytes.len() < 18 || view.l3 < 18 {
        return false;
    }
    bytes.copy_within(16.., 12);
    view.vlan_count -= 1;
    view.vlan = (view.vlan_count > 0).then(|| u16::from_be_bytes([bytes[14], bytes[15]]) & 0x0fff);
    view.l3 -= 4;
    view.l4 -= 4;
    view.packet_end -= 4;
    true
}

/// Folded sums of replaced words, before and after.
#[derive(Debug, Clone, Copy)]
struct Change {
    old: u16,
    new: u16,
}

impl Change {
    const NONE: Change = Change { old: 0, new: 0 };

    #[inline]
    fn of_address(old: Address, new: Address) -> Change {
        Change {
            old: checksum::address_sum(old),
            new: checksum::address_sum(new),
        }
    }

    #[inline]
    fn and(self, other: Change) -> Change {
        Change {
            old: checksum::add(self.old, other.old),
            new: checksum::add(self.new, other.new),
        }
    }

    #[inline]
    fn also(&mut self, other: Change) {
        *self = self.and(other);
    }

    /// A complete checksum field after the change.
    #[inline]
    fn update(self, field: u16) -> u16 {
        checksum::update(field, self.old, self.new)
    }

    /// A plain folded sum after the change. Never 0, like the sum of any pseudo-header.
    #[inline]
    fn add_to_sum(self, sum: u16) -> u16 {
        match checksum::add(checksum::add(sum, !self.old), self.new) {
            0 => 0xffff,
            sum => sum,
        }
    }
}

/// Writes the addresses of an IP header, and its checksum. `None` when `packet` is too short.
#[inline]
fn replace_addresses(packet: &mut [u8], family: Family, rewrite: &Rewrite) -> Option<Change> {
    let mut change = Change::NONE;
    match family {
        Family::V4 => {
            let header = packet.first_chunk_mut::<20>()?;
            for (at, new) in [(12, rewrite.source), (16, rewrite.destination)] {
                let Some(new) = new else { continue };
                let field = &mut header[at..at + 4];
                let old = checksum::sum(field);
                field.copy_from_slice(&new.to_v4_bits().to_be_bytes());
                let new = checksum::sum(field);
                change.also(Change { old, new });
            }
            let field = change.update(u16::from_be_bytes([header[10], header[11]]));
            header[10..12].copy_from_slice(&field.to_be_bytes());
        }
        Family::V6 => {
            let header = packet.first_chunk_mut::<40>()?;
            for (at, new) in [(8, rewrite.source), (24, rewrite.destination)] {
                let Some(new) = new else { continue };
                let field = &mut header[at..at + 16];
                let old = checksum::sum(field);
                field.copy_from_slice(&new.to_bits().to_be_bytes());
                let new = checksum::sum(field);
                change.also(Change { old, new });
            }
        }
    }
    Some(change)
}

/// Writes ports, or the identifier of an ICMP query, of a protocol that has them.
#[inline]
fn replace_ports(upper: &mut [u8], key: &mut FlowKey, rewrite: &Rewrite) -> Change {
    let mut change = Change::NONE;
    let mut replace = |at: usize, port: &mut u16, new: Option<u16>| {
        if let (Some(new), Some(field)) = (new, upper.get_mut(at..at + 2)) {
            field.copy_from_slice(&new.to_be_bytes());
            let old = std::mem::replace(port, new);
            change.also(Change { old, new });
        }
    };
    if key.is_icmp() {
        if key.reversed().is_some() {
            replace(4, &mut key.source_port, rewrite.source_port);
        }
    } else if protocol::has_ports(key.protocol) {
        replace(0, &mut key.source_port, rewrite.source_port);
        replace(2, &mut key.destination_port, rewrite.destination_port);
    }
    change
}

/// Passes the transport checksum field, where there is one, through `change`.
#[inline]
fn apply(upper: &mut [u8], key: &FlowKey, change: impl FnOnce(u16) -> u16) {
    let at = checksum::field_offset(key.family, key.protocol);
    if let Some(field) = at.and_then(|at| upper.get_mut(at..at + 2)) {
        let value = change(u16::from_be_bytes([field[0], field[1]]));
        field.copy_from_slice(&value.to_be_bytes());
    }
}

#[inline]
const fn has_pseudo_header(family: Family, number: u8) -> bool {
    !matches!((family, number), (Family::V4, protocol::ICMP))
}
