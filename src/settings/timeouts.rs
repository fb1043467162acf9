//! `[timeouts]`: how long an idle flow is remembered.

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
    /// UDP: no answer yet.
    pub udp_first_s: u32,
    /// UDP: answered.
    pub udp_stream_s: u32,
    /// ICMP and ICMPv6 queries.
    pub icmp_s: u32,
    /// SCTP: all states.
    pub sctp_s: u32,
    /// Every other protocol.
    pub other_s: u32,
    /// After a start: how long a flow met in its middle may also be admitted by what its opposite
    /// direction is allowed.
    pub restart_grace_s: u32,
}
