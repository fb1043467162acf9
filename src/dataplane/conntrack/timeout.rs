//! How long a flow lives without a packet.

use super::flow::{Flow, FlowState, Marks};
use super::sctp::SctpState;
use super::tcp::{TcpState, Timer};
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
    /// At most, once segments are repeated without an answer.
    pub tcp_retransmission_us: u64,
    /// At most, while data is not acknowledged.
    pub tcp_unacknowledged_us: u64,
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
    /// GRE, no answer yet.
    pub gre_unreplied_us: u64,
    /// GRE both ways.
    pub gre_stream_us: u64,
    /// Every other protocol.
    pub other_us: u64,
    /// The least for flows whose addresses are translated.
    pub translated: TranslatedTimeouts,
}

/// The least that a flow with translated addresses lives: whoever is behind a translator cannot see
/// that it has forgotten him.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TranslatedTimeouts {
    /// TCP, opening or closing (RFC 5382 REQ-5: 4 minutes).
    pub tcp_transitory_us: u64,
    /// UDP, no answer yet (RFC 4787 REQ-5: 2 minutes).
    pub udp_unreplied_us: u64,
    /// UDP both ways (RFC 4787 REQ-5: 5 minutes advised).
    pub udp_stream_us: u64,
    /// ICMP queries (RFC 5508 REQ-2: 60 seconds).
    pub icmp_us: u64,
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
            tcp_retransmission_us: 300 * SECOND_US,
            tcp_unacknowledged_us: 300 * SECOND_US,
            udp_unreplied_us: 30 * SECOND_US,
            udp_stream_us: 120 * SECOND_US,
            icmp_us: 30 * SECOND_US,
            sctp_unreplied_us: 30 * SECOND_US,
            sctp_replied_us: 210 * SECOND_US,
            gre_unreplied_us: 30 * SECOND_US,
            gre_stream_us: 180 * SECOND_US,
            other_us: 600 * SECOND_US,
            translated: TranslatedTimeouts {
                tcp_transitory_us: 240 * SECOND_US,
                udp_unreplied_us: 120 * SECOND_US,
                udp_stream_us: 300 * SECOND_US,
                icmp_us: 60 * SECOND_US,
            },
        }
    }
}

/// Age from which traffic both ways counts as a stream, and not as a question and its answer
/// (nf_conntrack since 4.19).
const STREAM_AGE_US: u64 = 2 * SECOND_US;

impl Timeouts {
    /// Life of a flow after a packet, by its protocol and state.
    #[inline]
    pub fn of(&self, flow: &Flow, now_us: u64) -> u64 {
        let least = &self.translated;
        let (life_us, least_us) = match (flow.state, flow.original.protocol) {
            (FlowState::Tcp(TcpState::Established), _) => (self.tcp_established_us, 0),
            (FlowState::Tcp(TcpState::Closed), _) => (self.tcp_closed_us, 0),
            (FlowState::Tcp(state), _) => (self.of_tcp(state), least.tcp_transitory_us),
            (FlowState::Sctp(SctpState::Established), _) => (self.sctp_replied_us, 0),
            (FlowState::Sctp(_), _) => (self.sctp_unreplied_us, 0),
            (FlowState::Replied, protocol::UDP | protocol::UDP_LITE)
                if flow.created.age_us(now_us) > STREAM_AGE_US =>
            {
                (self.udp_stream_us, least.udp_stream_us)
            }
            (_, protocol::UDP | protocol::UDP_LITE) => {
                (self.udp_unreplied_us, least.udp_unreplied_us)
            }
            (_, protocol::ICMP | protocol::ICMPV6) => (self.icmp_us, least.icmp_us),
            (FlowState::Unreplied, protocol::SCTP) => (self.sctp_unreplied_us, 0),
            (FlowState::Replied, protocol::SCTP) => (self.sctp_replied_us, 0),
            (FlowState::Unreplied, protocol::GRE) => (self.gre_unreplied_us, 0),
            (FlowState::Replied, protocol::GRE) => (self.gre_stream_us, 0),
            _ => (self.other_us, 0),
        };
        match flow.marks.has(Marks::TRANSLATED) {
            true => life_us.max(least_us),
            false => life_us,
        }
    }

    /// The same for TCP, bounded by what else its tracker has seen.
    #[inline]
    pub fn of_segment(&self, flow: &Flow, timer: Timer, now_us: u64) -> u64 {
        let life_us = self.of(flow, now_us);
        match timer {
            Timer::State => life_us,
            Timer::Retransmission => life_us.min(self.tcp_retransmission_us),
            Timer::Unacknowledged => life_us.min(self.tcp_unacknowledged_us),
            Timer::Reset => self.tcp_closed_us,
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
