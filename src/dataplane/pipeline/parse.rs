//! Stage 2: bytes to a [`PacketView`](crate::wire::parse::PacketView), or a reason to drop them.

use super::{Next, Packet, PacketState, Pipeline};
use crate::dataplane::frame::FrameBuffer;
use crate::dataplane::reply::ErrorKind;
use crate::dataplane::route::PortLink;
use crate::dataplane::snapshot::{Forwarding, Snapshot, TransparentPort};
use crate::dataplane::station::Sent;
use crate::dataplane::verdict::{DropReason, PortId, Verdict};
use crate::wire::{
    DestinationKind, FlowKey, PacketView, ParseError, ParseOptions, Parsed, destination_kind,
    destination_mac, martian, parse, parse_icmp_error, protocol, source_mac,
};

impl<F: FrameBuffer> Pipeline<F> {
    pub(super) fn parse(&mut self, now_us: u64, snapshot: &Snapshot, packet: &mut Packet<F>) {
        let Some(frame) = &packet.frame else { return };
        let parsed = match parse(frame.bytes(), &ParseOptions::default()) {
            Ok(parsed) => parsed,
            Err(error) => return packet.drop_for(drop_reason(error)),
        };
        if let Parsed::Ip(view) = &parsed
            && let Some(verdict) = self.elsewhere(now_us, snapshot, packet, view)
        {
            packet.trace.key = Some(view.key);
            packet.verdict = Some(verdict);
            return;
        }
        let Some(link) = snapshot.routes.link(packet.port) else {
            return packet.drop_for(DropReason::PortDown);
        };
        match &snapshot.forwarding {
            Forwarding::Routed => self.parse_routed(now_us, snapshot, link, packet, parsed),
            Forwarding::Transparent(ports) => parse_transparent(snapshot, ports, packet, parsed),
        }
    }

    /// What becomes of a packet that another worker is to judge.
    fn elsewhere(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &Packet<F>,
        view: &PacketView,
    ) -> Option<Verdict> {
        if self.handoff.is_alone() {
            return None;
        }
        let whole = view.fragment.is_none_or(|fragment| fragment.is_atomic());
        if !whole && !snapshot.nat.is_empty() {
            return self.fragment_elsewhere(now_us, snapshot, packet, view);
        }
        if packet.was_counted() {
            return None;
        }
        let inner = packet
            .frame
            .as_ref()
            .filter(|_| view.is_icmp_error())
            .and_then(|frame| parse_icmp_error(frame.bytes(), view).ok());
        // An error goes the way of the answers to what it quotes, so that it meets their flow.
        let key = match inner {
            Some(inner) => inner.key.reversed()?,
            None => view.key,
        };
        let owner = self.owner(snapshot, packet.port, &key);
        owner.map(Verdict::Handoff)
    }

    /// The worker that packets with this key belong to, when it is another: by both addresses, as
    /// they are after destination translation; by the port where they answer what has been given
    /// one.
    fn owner(&self, snapshot: &Snapshot, arrives: PortId, key: &FlowKey) -> Option<u8> {
        let nat = &snapshot.nat;
        if nat.is_empty() {
            return self.handoff.owner(key);
        }
        if let Some(key) = nat.redirect(arrives, key) {
            return self.handoff.owner(&key);
        }
        let numbered = key.is_icmp() || protocol::has_ports(key.protocol);
        if numbered && nat.is_source(&snapshot.routes, key.family, key.destination) {
            let port = match key.is_icmp() {
                true => key.source_port,
                false => key.destination_port,
            };
            return self.handoff.port_owner(port);
        }
        self.handoff.owner(key)
    }

    /// Where addresses are translated, only the first fragment tells whose a datagram is. All of
    /// them come together at the worker of the addresses they bear; it learns from the first, and
    /// hands them on, the first one first.
    fn fragment_elsewhere(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &Packet<F>,
        view: &PacketView,
    ) -> Option<Verdict> {
        if let Some(home) = self.handoff.owner(&view.key) {
            // Handed over already: by its home, to where it belongs.
            return (!packet.was_counted()).then_some(Verdict::Handoff(home));
        }
        let first = !view.is_later_fragment();
        let key = match first {
            true => view.key,
            // Not known yet: it waits here.
            false => self.fragments.flow_of(now_us, view)?,
        };
        let owner = self.owner(snapshot, packet.port, &key)?;
        let passes = match first {
            true => self.fragments.first(now_us, view, key),
            false => self.fragments.later(now_us, view).map(|_| ()),
        };
        if first && passes.is_ok() {
            self.waiting.release(view);
        }
        Some(match passes {
            Ok(()) => Verdict::Handoff(owner),
            Err(reason) => Verdict::Drop(reason),
        })
    }

    /// A station of its own: frames must be addressed to it.
    fn parse_routed(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        link: &PortLink,
        packet: &mut Packet<F>,
        parsed: Parsed,
    ) {
        let view = match parsed {
            // The kernel answers and learns (the steering program has passed it on already).
            Parsed::Arp(_) => {
                packet.verdict = Some(Verdict::Kernel);
                return;
            }
            Parsed::Ip(view) => view,
        };
        packet.trace.key = Some(view.key);
        packet.view = Some(view);
        if view.vlan.is_some() {
            return packet.drop_for(DropReason::UnexpectedVlan);
        }
        let Some(frame) = &packet.frame else { return };
        let destination = destination_mac(frame.bytes());
        let source = source_mac(frame.bytes());
        if source.is_group() || source.is_zero() {
            return packet.drop_for(DropReason::BadSourceMac);
        }
        if is_link_control(&view) {
            packet.verdict = Some(Verdict::Kernel);
            return;
        }
        if destination_kind(view.key.family, view.key.destination) != DestinationKind::Unicast {
            return packet.drop_for(DropReason::MulticastDestination);
        }
        if martian(&view.key).is_some() {
            return packet.drop_for(DropReason::MartianAddress);
        }
        if destination.is_group() {
            // A unicast packet in a broadcast frame is never forwarded (RFC 1812 §5.3.4).
            return packet.drop_for(DropReason::MulticastDestination);
        }
        if destination != link.mac {
            return packet.drop_for(DropReason::NotForThisStation);
        }
        if let Some(reason) = self.source_is_foreign(snapshot, packet, &view) {
            return packet.drop_for(reason);
        }
        if view.ttl <= 1 && !self.is_local(snapshot, &view) {
            packet.drop_for(DropReason::TtlExceeded);
            self.answer(now_us, snapshot, packet, ErrorKind::TimeExceeded);
        }
    }
}

impl<F: FrameBuffer> Pipeline<F> {
    /// Port security of the sender in routed mode. What is for the box itself never comes here in
    /// operation.
    #[inline]
    fn source_is_foreign(
        &self,
        snapshot: &Snapshot,
        packet: &Packet<F>,
        view: &PacketView,
    ) -> Option<DropReason> {
        let (stations, frame) = (snapshot.stations()?, packet.frame.as_ref()?);
        let (family, source) = (view.key.family, view.key.source);
        let on_link = || snapshot.is_on_link(packet.port, family, source);
        let sent = Sent::ip(frame.bytes(), view);
        let reason = stations.may_send(packet.port, &sent, on_link).err()?;
        (!self.is_local(snapshot, view)).then_some(reason)
    }
}

/// Port security of sender and receiver in transparent mode, where MAC addresses stay as they are.
fn is_foreign<F: FrameBuffer>(
    snapshot: &Snapshot,
    packet: &Packet<F>,
    parsed: &Parsed,
    peer: PortId,
) -> Option<DropReason> {
    let (stations, frame) = (snapshot.stations()?, packet.frame.as_ref()?);
    let sent = match parsed {
        Parsed::Arp(arp) => Sent::arp(frame.bytes(), arp),
        Parsed::Ip(view) => Sent::ip(frame.bytes(), view),
    };
    let received = || match parsed {
        // Whom a question or its answer is about is not who gets it.
        Parsed::Arp(_) => Ok(()),
        Parsed::Ip(view) => {
            let destination = (view.key.family, view.key.destination);
            let mac = destination_mac(frame.bytes());
            stations.may_receive(peer, mac, destination, || true)
        }
    };
    let sent = stations.may_send(packet.port, &sent, || true);
    sent.and_then(|()| received()).err()
}

/// A wire with a filter in it: every frame goes to the other port, link control without a question.
fn parse_transparent<F: FrameBuffer>(
    snapshot: &Snapshot,
    ports: &[TransparentPort],
    packet: &mut Packet<F>,
    parsed: Parsed,
) {
    let port = ports.get(packet.port.0 as usize);
    let Some((port, peer)) = port.and_then(|port| Some((port, port.peer?))) else {
        return packet.drop_for(DropReason::NoPeerPort);
    };
    let (vlan, tags) = match &parsed {
        Parsed::Arp(arp) => (arp.vlan, arp.vlan_count),
        Parsed::Ip(view) => (view.vlan, view.vlan_count),
    };
    if !port.accepts(vlan, tags) {
        return packet.drop_for(DropReason::UnexpectedVlan);
    }
    let frame = packet.frame.as_ref();
    if frame.is_some_and(|frame| source_mac(frame.bytes()).is_group()) {
        return packet.drop_for(DropReason::BadSourceMac);
    }
    if let Parsed::Ip(view) = &parsed {
        packet.trace.key = Some(view.key);
    }
    if let Some(reason) = is_foreign(snapshot, packet, &parsed, peer) {
        return packet.drop_for(reason);
    }
    match parsed {
        Parsed::Arp(_) => packet.verdict = Some(Verdict::Forward(peer)),
        Parsed::Ip(view) => {
            packet.view = Some(view);
            if is_link_control(&view) {
                packet.trace.state = PacketState::Untracked;
                packet.next = Next::ForwardAlone;
                packet.verdict = Some(Verdict::Forward(peer));
            }
        }
    }
}

/// Neighbour and router discovery, redirects, multicast listener discovery: what keeps an IPv6 link
/// alive. Never leaves the link: hop limit 255 or a link-local scope proves that it came from there
/// (RFC 4861 §6.1, 7.1, 8.1; RFC 2710 §3).
fn is_link_control(view: &PacketView) -> bool {
    if view.key.protocol != protocol::ICMPV6 || !view.key.is_icmp() || view.fragment.is_some() {
        return false;
    }
    match (view.key.destination_port >> 8) as u8 {
        protocol::ICMPV6_ROUTER_SOLICITATION..=protocol::ICMPV6_REDIRECT => view.ttl == 255,
        protocol::ICMPV6_MLD_QUERY..=protocol::ICMPV6_MLD_DONE | protocol::ICMPV6_MLD2_REPORT => {
            view.ttl == 1
        }
        _ => false,
    }
}

/// The counter a parse error belongs to.
fn drop_reason(error: ParseError) -> DropReason {
    match error {
        ParseError::EthernetTruncated
        | ParseError::ArpTruncated
        | ParseError::Ipv4Truncated
        | ParseError::Ipv4TotalLength
        | ParseError::Ipv6Truncated
        | ParseError::Ipv6PayloadLength
        | ParseError::TransportTruncated => DropReason::Truncated,
        ParseError::UnknownEtherType(_) => DropReason::UnknownEtherType,
        ParseError::TooManyVlanTags => DropReason::UnexpectedVlan,
        ParseError::Ipv4Checksum => DropReason::BadHeaderChecksum,
        ParseError::Ipv4SourceRoute => DropReason::IpOptions,
        ParseError::ExtensionTruncated
        | ParseError::ExtensionsTooLong
        | ParseError::ExtensionOrder
        | ParseError::HopByHopOption
        | ParseError::DestinationOption
        | ParseError::RoutingHeaderType0 => DropReason::ExtensionHeaders,
        ParseError::TinyFragment => DropReason::TinyFragment,
        ParseError::ArpNotIpv4
        | ParseError::Ipv4Version
        | ParseError::Ipv4HeaderLength
        | ParseError::Ipv4Options
        | ParseError::Ipv6Version
        | ParseError::Ipv6Jumbogram
        | ParseError::FragmentLength
        | ParseError::FragmentTooLong
        | ParseError::TcpDataOffset
        | ParseError::UdpLength
        | ParseError::UdpLiteCoverage
        | ParseError::SctpChunk
        | ParseError::DccpDataOffset
        | ParseError::NotIcmpError => DropReason::MalformedHeader,
    }
}
