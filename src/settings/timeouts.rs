//! `[timeouts]`: how long an idle flow is remembered.

use super::kind::Whole;
use super::reader::{Section, defaults};

/// Seconds a flow without packets is remembered, by its state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP: SYN seen, no answer.
    pub tcp_syn_sent_s: u32,
    /// TCP: SYN answered, not yet acknowledged.
    pub tcp_syn_received_s: u32,
    /// TCP: open (RFC 5382 REQ-5).
    pub tcp_established_s: u32,
    /// TCP: one FIN seen.
    pub tcp_fin_wait_s: u32,
    /// TCP: FIN acknowledged, other direction still open.
    pub tcp_close_wait_s: u32,
    /// TCP: both FINs seen, last acknowledgement missing.
    pub tcp_last_ack_s: u32,
    /// TCP: closed in order.
    pub tcp_time_wait_s: u32,
    /// TCP: reset.
    pub tcp_close_s: u32,
    /// TCP: at most, once segments are repeated without an answer.
    pub tcp_retransmission_s: u32,
    /// TCP: at most, while data is not acknowledged.
    pub tcp_unacknowledged_s: u32,
    /// TCP: the least for opening and closing flows that are translated (RFC 5382 REQ-5).
    pub tcp_translated_s: u32,
    /// UDP: no answer yet.
    pub udp_first_s: u32,
    /// UDP: answered.
    pub udp_stream_s: u32,
    /// UDP: the least for unanswered flows that are translated (RFC 4787 REQ-5).
    pub udp_first_translated_s: u32,
    /// UDP: the least for answered flows that are translated (RFC 4787 REQ-5).
    pub udp_stream_translated_s: u32,
    /// ICMP and ICMPv6 queries.
    pub icmp_s: u32,
    /// The least for those that are translated (RFC 5508 REQ-2).
    pub icmp_translated_s: u32,
    /// SCTP: open.
    pub sctp_s: u32,
    /// SCTP: opening or closing.
    pub sctp_transitory_s: u32,
    /// GRE: no answer yet.
    pub gre_first_s: u32,
    /// GRE: answered.
    pub gre_stream_s: u32,
    /// Every other protocol.
    pub other_s: u32,
    /// After a start: how long a flow met in its middle may also be admitted by what its opposite
    /// direction is allowed.
    pub restart_grace_s: u32,
}

/// A week: longer than any timer below is good for.
const SECONDS_MAX: u32 = 604_800;

impl Timeouts {
    pub(super) fn read(section: &mut Section<'_, '_>) -> Timeouts {
        let mut seconds = |key, default| section.optional(key, default, Whole(1..=SECONDS_MAX));
        Timeouts {
            tcp_syn_sent_s: seconds("tcp_syn_sent_s", 120),
            tcp_syn_received_s: seconds("tcp_syn_received_s", 60),
            tcp_established_s: seconds("tcp_established_s", 7_440),
            tcp_fin_wait_s: seconds("tcp_fin_wait_s", 120),
            tcp_close_wait_s: seconds("tcp_close_wait_s", 60),
            tcp_last_ack_s: seconds("tcp_last_ack_s", 30),
            tcp_time_wait_s: seconds("tcp_time_wait_s", 120),
            tcp_close_s: seconds("tcp_close_s", 10),
            tcp_retransmission_s: seconds("tcp_retransmission_s", 300),
            tcp_unacknowledged_s: seconds("tcp_unacknowledged_s", 300),
            tcp_translated_s: seconds("tcp_translated_s", 240),
            udp_first_s: seconds("udp_first_s", 30),
            udp_stream_s: seconds("udp_stream_s", 120),
            udp_first_translated_s: seconds("udp_first_translated_s", 120),
            udp_stream_translated_s: seconds("udp_stream_translated_s", 300),
            icmp_s: seconds("icmp_s", 30),
            icmp_translated_s: seconds("icmp_translated_s", 60),
            sctp_s: seconds("sctp_s", 210),
            sctp_transitory_s: seconds("sctp_transitory_s", 30),
            gre_first_s: seconds("gre_first_s", 30),
            gre_stream_s: seconds("gre_stream_s", 180),
            other_s: seconds("other_s", 600),
            restart_grace_s: section.optional("restart_grace_s", 30, Whole(0..=3_600)),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        defaults(Self::read)
    }
}
