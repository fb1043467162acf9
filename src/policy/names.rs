//! Which addresses names stand for, as far as known when policies are compiled.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// Addresses by name. Names are kept in lower case and without the dot that ends a full one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    addresses: BTreeMap<String, Vec<IpAddr>>,
}

impl Names {
    /// Adds addresses to those of a name.
    pub fn add(&mut self, name: &str, addresses: impl IntoIterator<Item = IpAddr>) {
        let known = self.addresses.entry(normal(name)).or_default();
        for address in addresses {
            if !known.contains(&address) {
                known.push(address);
            }
        }
    }

    /// The addresses of a name; none where it is not known.
    pub fn lookup(&self, name: &str) -> &[IpAddr] {
        self.addresses.get(&normal(name)).map_or(&[], Vec::as_slice)
    }

    /// Every name known, sorted, with its addresses.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[IpAddr])> {
        let entries = self.addresses.iter();
        entries.map(|(name, addresses)| (name.as_str(), addresses.as_slice()))
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}
