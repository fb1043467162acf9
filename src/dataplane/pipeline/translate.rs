//! Stage 5, where addresses are translated: which key a new flow's answers will have.

use super::{Packet, Pipeline};
use crate::dataplane::frame::FrameBuffer;
use crate::dataplane::nat::ports::Wish;
use crate::dataplane::nat::{PortChoice, SourceRule};
use crate::dataplane::route::RouteTarget;
use crate::dataplane::snapshot::{Forwarding, Snapshot};
use crate::dataplane::verdict::{DropReason, PortId};
use crate::wire::{FlowKey, protocol};

/// What a new flow's answers are addressed to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Translated {
    /// Their key.
    pub(super) reply: FlowKey,
    /// An external port was taken for it.
    pub(super) holds_port: bool,
}

impl Translated {
    /// That of a connection nothing is changed of.
    ///
    /// # Errors
    /// `InvalidState` for what has no answer.
    pub(super) fn plain(key: &FlowKey) -> Result<Translated, DropReason> {
        let reply = key.reversed().ok_or(DropReason::InvalidState)?;
        Ok(Translated {
            reply,
            holds_port: false,
        })
    }
}

impl<F: FrameBuffer> Pipeline<F> {
    /// The key of the answers to a new connection, whose own key is `key` after destination
    /// translation.
    ///
    /// # Errors
    /// `InvalidState` for what has no answer, `NatPortsExhausted` where no port is left.
    pub(super) fn translate(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        packet: &Packet<F>,
        key: &FlowKey,
    ) -> Result<Translated, DropReason> {
        let plain = Translated::plain(key)?;
        let nat = &snapshot.nat;
        if nat.sources.is_empty() || !matches!(snapshot.forwarding, Forwarding::Routed) {
            return Ok(plain);
        }
        let way = snapshot.routes.lookup(key.family, key.destination);
        let Some(RouteTarget::Port { port: leaves, .. }) = way else {
            return Ok(plain);
        };
        let redirected = packet.redirected_from.is_some();
        match nat.source_rule([packet.port, leaves], key, redirected) {
            None => Ok(plain),
            Some(rule) => self
                .source(now_us, snapshot, rule, leaves, key, plain.reply)
                .ok_or(DropReason::NatPortsExhausted),
        }
    }

    fn source(
        &mut self,
        now_us: u64,
        snapshot: &Snapshot,
        rule: &SourceRule,
        leaves: PortId,
        key: &FlowKey,
        reply: FlowKey,
    ) -> Option<Translated> {
        let hash = self.flows.ports().hash_source(key);
        let address = rule.address(&snapshot.routes, leaves, key.family, hash)?;
        let with_port = |port: u16| {
            let mut reply = FlowKey {
                destination: address,
                ..reply
            };
            match reply.is_icmp() {
                true => reply.source_port = port,
                false => reply.destination_port = port,
            }
            (!snapshot.nat.is_redirected(&reply)).then_some(reply)
        };
        if !protocol::has_ports(key.protocol) && !key.is_icmp() {
            // One connection of such a protocol to each destination.
            let reply = FlowKey {
                destination: address,
                ..reply
            };
            return (!self.flows.is_known(&reply)).then_some(Translated {
                reply,
                holds_port: false,
            });
        }
        let wish = Wish {
            address,
            ports: rule.ports.clone(),
            preserve: rule.choice == PortChoice::Preserve,
            reuse_delay_us: rule.reuse_delay_us,
        };
        let reply = self.flows.take_port(key, &wish, now_us, with_port)?;
        Some(Translated {
            reply,
            holds_port: true,
        })
    }
}
