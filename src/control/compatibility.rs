//! The switches of the settings file, as the policy room has them.

use crate::policy::{Compatibility, CompatibilityError};
use crate::settings::{Compat, CompatPlugin};

/// Translates `[policy.compat]`.
///
/// # Errors
/// A word that settings know and policy does not: a defect of this program.
pub fn compatibility(compat: &Compat) -> Result<Compatibility, CompatibilityError> {
    let mut compatibility = Compatibility::default();
    for (switch, value) in [
        ("sg_np_combine", compat.sg_np_combine.name()),
        ("sg_unknown_groups", compat.sg_unknown_groups.name()),
        ("sg_unknown_strings", compat.sg_unknown_strings.name()),
        ("sg_egress_view", compat.sg_egress_view.name()),
        ("sg_priority_max", compat.sg_priority_max.name()),
        ("mnp_compat", compat.mnp_compat.name()),
        ("cnp_secondary", compat.cnp_secondary.name()),
        ("np_profile", compat.np_profile.name()),
        ("established", compat.established.name()),
        ("invalid", compat.invalid.name()),
        ("icmp", compat.icmp.name()),
        ("enp_generation", compat.enp_generation.name()),
    ] {
        compatibility.set(switch, value)?;
    }
    if compat.plugin != CompatPlugin::Unset {
        compatibility.set("plugin", compat.plugin.name())?;
    }
    Ok(compatibility)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{CompatEstablished, CompatMultiNetworkPolicy};

    #[test]
    fn defaults_are_defaults_and_every_word_is_known_to_both_rooms() {
        let mut compat = Compat::default();
        assert_eq!(compatibility(&compat).unwrap(), Compatibility::default());
        compat.established = CompatEstablished::Keep;
        compat.plugin = CompatPlugin::Subnet;
        let set = compatibility(&compat).unwrap();
        assert_ne!(set, Compatibility::default());
        compat.mnp_compat = CompatMultiNetworkPolicy::Iptables;
        assert_ne!(compatibility(&compat).unwrap(), set);
    }
}
