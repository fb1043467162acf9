//! How long a flow lives without a packet.

use super::flow::FlowState;
use super::tcp::TcpState;
use crate::wire::protocol;

/// Timeouts by protocol and state, in microseconds on the worker's clock.
///
/// Defaults follow Linux' nf_conntrack, except `tcp_established`: 2 hours 4 minutes, the least that
/// RFC 5382 REQ-5 permits, instead of five days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// SYN seen, no answer.
    pub tcp_syn_sent_us: u64,
    /// SYN and SYN/ACK seen.
    pub tcp_syn_received_us: u64,
    /// Handshake complete.
    pub tcp_established_us: u64,
    /// One end has sent FIN.
    pub tcp_fin_wait_us: u64,
    /// That FIN has been acknowledged.
    pub tcp_close_wait_us: u64,
    /// Both ends have sent FIN.
    pub tcp_last_ack_us: u64,
    /// Both FINs acknowledged.
    pub tcp_time_wait_us: u64,
    /// RST seen.
    pub tcp_closed_us: u64,
    /// UDP, no answer yet.
    pub udp_unreplied_us: u64,
    /// UDP both ways.
    pub udp_stream_us: u64,
    /// ICMP and ICMPv6 queries.
    pub icmp_us: u64,
    /// SCTP, no answer yet.
    pub sctp_unreplied_us: u64,
    /// SCTP both ways.
    pub sctp_replied_us: u64,
    /// Every other protocol.
    pub other_us: u64,
}

const SECOND_US: u64 = 1_000_000;

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            tcp_syn_sent_us: 120 * SECOND_US,
            tcp_syn_received_us: 60 * SECOND_US,
            tcp_established_us: 7_440 * SECOND_US,
            tcp_fin_wait_us: 120 * SECOND_US,
            tcp_close_wait_us: 60 * SECOND_US,
            tcp_last_ack_us: 30 * SECOND_US,
            tcp_time_wait_us: 120 * SECOND_US,
            tcp_closed_us: 10 * SECOND_US,
            udp_unreplied_us: 30 * SECOND_US,
            udp_stream_us: 120 * SECOND_US,
            icmp_us: 30 * SECOND_US,
            sctp_unreplied_us: 30 * SECOND_US,
            sctp_replied_us: 210 * SECOND_US,
            other_us: 600 * SECOND_US,
        }
    }
}

impl Timeouts {
    /// Life of a flow of this protocol in this state after a packet.
    #[inline]
    pub fn of(&self, protocol: u8, state: FlowState) -> u64 {
        match (state, protocol) {
            (FlowState::Tcp(state), _) => self.of_tcp(state),
            (FlowState::Unreplied, protocol::UDP) => self.udp_unreplied_us,
            (FlowState::Replied, protocol::UDP) => self.udp_stream_us,
            (_, protocol::ICMP | protocol::ICMPV6) => self.icmp_us,
            (FlowState::Unreplied, protocol::SCTP) => self.sctp_unreplied_us,
            (FlowState::Replied, protocol::SCTP) => self.sctp_replied_us,
            _ => self.other_us,
        }
    }

    fn of_tcp(&self, state: TcpState) -> u64 {
        match state {
            TcpState::SynSent | TcpState::SynSentBoth => self.tcp_syn_sent_us,
            TcpState::SynReceived => self.tcp_syn_received_us,
            TcpState::Established => self.tcp_established_us,
            TcpState::FinWait => self.tcp_fin_wait_us,
            TcpState::CloseWait => self.tcp_close_wait_us,
            TcpState::LastAck => self.tcp_last_ack_us,
            TcpState::TimeWait => self.tcp_time_wait_us,
            TcpState::Closed => self.tcp_closed_us,
        }
    }
}
