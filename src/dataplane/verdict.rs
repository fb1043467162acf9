//! The one verdict every frame ends with, and the named reasons for dropping one.

/// Number a port has for the data plane: its position in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u8);

/// What became of a frame. Every frame ends with exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Sent out of this port, rewritten.
    Forward(PortId),
    /// Not sent anywhere.
    Drop(DropReason),
    /// For the box itself: passed to the kernel's own stack.
    Kernel,
    /// Terminated by a service of this process.
    Local,
    /// Waits in a bounded queue (an unresolved neighbour, a fragment's first part); a later verdict
    /// follows.
    Hold,
    /// Given to the worker that owns the flow.
    Handoff(u8),
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// Why a frame was dropped. Counted, and named the same in metrics, logs, captures,
        /// `replay` and `explain`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant,)+ }

        impl DropReason {
            /// Every reason, in counter order.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant,)+];

            /// Number of reasons.
            pub const COUNT: usize = Self::ALL.len();

            /// The name used everywhere outside this program.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name,)+ }
            }

            /// One sentence for a person who meets the name in a counter.
            pub const fn explanation(self) -> &'static str {
                match self { $(DropReason::$variant => concat!($($doc),+),)+ }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than its headers, or than the lengths its headers state.
    Truncated = "truncated",
    /// A header field has a value its specification forbids.
    MalformedHeader = "malformed-header",
    /// The IPv4 header checksum is wrong (RFC 1812 §5.2.2).
    BadHeaderChecksum = "bad-header-checksum",
    /// An IPv6 extension header chain is too long, out of order, or carries a type 0 routing header
    /// (RFC 5095, 7112).
    ExtensionHeaders = "extension-headers",
    /// An IPv4 source route or another option that a firewall must not forward (RFC 7126).
    IpOptions = "ip-options",
    /// EtherType neither IPv4, IPv6 nor ARP.
    UnknownEtherType = "unknown-ether-type",
    /// A VLAN tag where none is expected, or too many of them.
    UnexpectedVlan = "unexpected-vlan",
    /// The source Ethernet address is a group address or zero.
    BadSourceMac = "bad-source-mac",
    /// Unicast frame for another station's Ethernet address.
    NotForThisStation = "not-for-this-station",
    /// An address that must never be forwarded: loopback, unspecified, broadcast, multicast or
    /// reserved source, link-local (RFC 1122 §3.2.1.3, 3927 §2.7, 4291 §2.5).
    MartianAddress = "martian-address",
    /// An address of a pod with port security in a frame that does not come from its MAC address.
    PortSecuritySourceMac = "port-security-source-mac",
    /// A source address that is none of the pod's the frame comes from, which has port security.
    PortSecuritySource = "port-security-source",
    /// ARP from a pod with port security that speaks of an address which is not its own.
    PortSecurityArp = "port-security-arp",
    /// Neighbour discovery from a pod with port security that speaks of an address which is not its
    /// own (RFC 4861 §4.3, 4.4).
    PortSecurityDiscovery = "port-security-discovery",
    /// For an address of a pod with port security, but not for its MAC address.
    PortSecurityDestinationMac = "port-security-destination-mac",
    /// For the MAC address of a pod with port security, but for none of its addresses.
    PortSecurityDestination = "port-security-destination",
    /// The route back to the source does not leave by the port the frame came in on (RFC 3704).
    SpoofedSource = "spoofed-source",
    /// Multicast or broadcast destination; not forwarded.
    MulticastDestination = "multicast-destination",
    /// A later fragment whose first fragment has not been judged.
    FragmentWithoutFirst = "fragment-without-first",
    /// A first fragment too short to hold the headers policy asks about (RFC 1858, 7112).
    TinyFragment = "tiny-fragment",
    /// Fragments of one datagram overlap (RFC 5722).
    FragmentOverlap = "fragment-overlap",
    /// The table of tracked fragmented datagrams is full.
    FragmentTableFull = "fragment-table-full",
    /// No room is left for fragments that come before the first of their datagram, or their source
    /// or datagram has used up its share.
    FragmentPoolFull = "fragment-pool-full",
    /// The packet cannot belong to any flow in the state it claims (conntrack's INVALID).
    InvalidState = "invalid-state",
    /// An ICMP error that quotes no live flow, or quotes it from the wrong end.
    UnrelatedIcmpError = "unrelated-icmp-error",
    /// The flow table is full of flows that may not be evicted.
    FlowTableFull = "flow-table-full",
    /// The source has as many unanswered flows as one source may have.
    HalfOpenSource = "half-open-source",
    /// No external address or port is left for it (RFC 5508 REQ-8, 6888 §4).
    NatPortsExhausted = "nat-ports-exhausted",
    /// Sent straight to where only a translation rule may send connections.
    RedirectOnly = "redirect-only",
    /// A policy denies it.
    Policy = "policy",
    /// No policy has been loaded yet: closed until the first complete load.
    NoPolicy = "no-policy",
    /// No route to the destination.
    NoRoute = "no-route",
    /// The route to the destination is a blackhole, prohibit or unreachable route, or leaves by a
    /// device that is no port.
    RouteRejects = "route-rejects",
    /// The next hop's link-layer address could not be resolved.
    NeighbourUnresolved = "neighbour-unresolved",
    /// Too many frames wait for neighbours.
    NeighbourQueueFull = "neighbour-queue-full",
    /// TTL or hop limit ran out here.
    TtlExceeded = "ttl-exceeded",
    /// Larger than the outgoing link's MTU and not to be fragmented.
    PacketTooBig = "packet-too-big",
    /// Would leave by the port it came in on, which this forwarding mode does not do.
    SamePort = "same-port",
    /// The outgoing port's transmit ring is full, or the port is gone.
    TransmitFull = "transmit-full",
    /// The ring to the worker that owns the flow is full.
    HandoffFull = "handoff-full",
    /// For the box itself, but not on the management list.
    Management = "management",
    /// For the box itself, seen here before the steering program knew of the address.
    KernelUnreachable = "kernel-unreachable",
    /// The port has no peer to forward to.
    NoPeerPort = "no-peer-port",
    /// The port is administratively down or without carrier.
    PortDown = "port-down",
    /// Larger than the data plane's frames. Seen in `replay` alone: in operation the kernel drops
    /// such a frame before the rings, and counts it in `XDP_STATISTICS.rx_dropped`.
    FrameTooLarge = "frame-too-large",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_kebab_case() {
        let mut names: Vec<_> = DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert!(
            names
                .iter()
                .all(|n| n.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'))
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), DropReason::COUNT);
    }
}
