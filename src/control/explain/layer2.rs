//! What port security says of a frame, as a stage before all others.

use super::{Stage, Written, direction_name};
use crate::control::layer2::{Check, FAMILY, drop_reason};
use crate::policy::port_security::Refusal;

/// The ends that look at frames at all, or that drop this one.
pub(super) fn stages(checks: &[Check]) -> Vec<Stage> {
    let told = checks
        .iter()
        .filter(|check| check.secured_by.is_some() || check.refusal.is_some());
    told.map(stage).collect()
}

fn stage(check: &Check) -> Stage {
    let rule = written(check);
    let (verdict, reason) = match &check.refusal {
        Some(refusal) => {
            let name = drop_reason(check.direction, refusal).name();
            ("deny", format!("{refusal}; counted as {name}"))
        }
        None => (
            "allow",
            "the frame's addresses are the port's own".to_owned(),
        ),
    };
    Stage {
        family: FAMILY.to_owned(),
        direction: direction_name(check.direction).to_owned(),
        protects: check.end.clone(),
        verdict: verdict.to_owned(),
        isolated_by: rule.iter().cloned().collect(),
        // What turned it on is told once, and shown where it denies.
        rule: rule.filter(|_| check.refusal.is_some()),
        reason,
        nearest: Vec::new(),
        change: None,
    }
}

/// What turned port security on.
pub(crate) fn written(check: &Check) -> Option<Written> {
    let by = check.secured_by.as_ref()?;
    Some(Written {
        name: format!("port security of {}", by.object),
        place: by.place.clone(),
        path: by.path.clone(),
    })
}

/// `L2 egress at a/p: source address 10.16.0.99 is none of the port's: 10.16.0.15`.
pub(crate) fn summary(check: &Check, refusal: &Refusal) -> String {
    let direction = direction_name(check.direction);
    format!("{FAMILY} {direction} at {}: {refusal}", check.end)
}

/// What would have to be changed for a frame to pass.
pub(super) fn change(check: &Check) -> Option<String> {
    let own_addresses = |what: &str| {
        let by = check.secured_by.as_ref();
        let by = by.map_or_else(|| check.end.clone(), |by| by.object.clone());
        format!(
            "Pod {}: {what} an address of its own; list another in \
             ovn.kubernetes.io/port_vips, or as a Vip in ovn.kubernetes.io/aaps; or turn port \
             security off at {by}",
            check.end
        )
    };
    Some(match check.refusal.as_ref()? {
        Refusal::Tagged => "send the frame without a VLAN tag".to_owned(),
        Refusal::GroupSource(_) => "send the frame from a MAC address of one station".to_owned(),
        Refusal::SourceMac { own, .. }
        | Refusal::ArpMac { own, .. }
        | Refusal::LinkLayer { own, .. } => {
            format!("Pod {}: use its own MAC address, {own}", check.end)
        }
        Refusal::DestinationMac { own, .. } => {
            format!(
                "send the frame to the MAC address of Pod {}, {own}",
                check.end
            )
        }
        Refusal::Tunnel(port) => format!("use another port than {port}"),
        Refusal::Destination { .. } => own_addresses("is sent packets to"),
        Refusal::ArpAddress { .. }
        | Refusal::Source { .. }
        | Refusal::Target { .. }
        | Refusal::NoAddressFor(..) => own_addresses("send from"),
    })
}
