//! Services that lead elsewhere: what a client sends to a ClusterIP is decided behind its
//! translation, and fares differently where that is another.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::policy::Inventory;
use crate::policy::inventory::{Service, TargetPort};
use crate::wire::protocol;

/// A Service whose translation changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct ServiceChange {
    /// `namespace/name`.
    pub service: String,
    /// Where it leads with the first set, `198.19.0.1 tcp/80 to b/web 8080`; empty for nowhere.
    pub before: Vec<String>,
    /// With the second.
    pub after: Vec<String>,
}

/// The Services that lead elsewhere, by name.
pub fn services(before: &Inventory, after: &Inventory) -> Vec<ServiceChange> {
    let (mut old, new) = (translations(before), translations(after));
    let mut changes: Vec<_> = new
        .into_iter()
        .map(|(service, after)| ServiceChange {
            before: old.remove(&service).unwrap_or_default(),
            service,
            after,
        })
        .collect();
    changes.extend(old.into_iter().map(|(service, before)| ServiceChange {
        service,
        before,
        after: Vec::new(),
    }));
    changes.retain(|change| change.before != change.after);
    changes.sort();
    changes
}

fn translations(inventory: &Inventory) -> BTreeMap<String, Vec<String>> {
    let services = inventory.services().iter();
    services
        .map(|service| {
            let name = format!("{}/{}", service.namespace, service.name);
            (name, of_service(inventory, service))
        })
        .collect()
}

fn of_service(inventory: &Inventory, service: &Service) -> Vec<String> {
    let mut texts = Vec::new();
    for address in &service.cluster_addresses {
        for port in &service.ports {
            for pod in inventory.backends(service) {
                let target = match &port.target {
                    TargetPort::Number(number) => Some(*number),
                    TargetPort::Name(name) => pod.named_port(port.protocol, name),
                };
                let of_family = |one: &&std::net::IpAddr| one.is_ipv4() == address.is_ipv4();
                let (Some(target), Some(own)) = (target, pod.addresses.iter().find(of_family))
                else {
                    continue;
                };
                texts.push(format!(
                    "{address} {}/{} to {} {own} {target}",
                    protocol::name(port.protocol),
                    port.number,
                    pod.full_name()
                ));
            }
        }
    }
    texts.sort();
    texts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Compatibility, Names, SourceFile, load};

    fn inventory(objects: &str) -> std::sync::Arc<Inventory> {
        let file = SourceFile {
            name: "m.yaml".into(),
            text: format!(
                "{{kind: Pod, apiVersion: v1, metadata: {{namespace: b, name: web, labels: {{app: \
                 web}}}}, spec: {{containers: [{{ports: [{{name: http, containerPort: \
                 8080}}]}}]}}, \
                 status: {{podIP: 198.18.1.2}}}}\n---\n{objects}"
            )
            .into(),
        };
        let loaded = load(&[file], &Compatibility::default(), &Names::default());
        loaded.policy.unwrap().inventory
    }

    fn service(address: &str, target: &str) -> String {
        format!(
            "{{kind: Service, apiVersion: v1, metadata: {{namespace: b, name: web}}, spec: \
             {{clusterIP: {address}, selector: {{app: web}}, ports: [{{port: 80, targetPort: \
             {target}}}]}}}}"
        )
    }

    #[test]
    fn a_service_is_told_when_it_leads_elsewhere_and_only_then() {
        let named = inventory(&service("198.19.0.1", "http"));
        let numbered = inventory(&service("198.19.0.1", "8080"));
        assert_eq!(services(&named, &numbered), []);
        let other = inventory(&service("198.19.0.1", "8081"));
        let told = services(&named, &other);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].service, "b/web");
        assert_eq!(
            told[0].before,
            ["198.19.0.1 tcp/80 to b/web 198.18.1.2 8080"]
        );
        assert_eq!(
            told[0].after,
            ["198.19.0.1 tcp/80 to b/web 198.18.1.2 8081"]
        );
        let none = inventory("");
        assert_eq!(services(&named, &none)[0].after, [""; 0]);
        assert_eq!(services(&none, &named)[0].before, [""; 0]);
    }
}
