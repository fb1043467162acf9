//! Annotations of Kube-OVN that do nothing, or not what their writer will have meant.

use super::super::finding::id;
use super::super::inventory::{Pod, Source};
use super::super::kube_ovn::{PRIMARY_PROVIDER, annotation, listed, port_security, said};
use super::super::{Finding, PolicySet, Port, Severity};

/// Warnings about the annotations of pods and namespaces.
pub fn lint(set: &PolicySet, findings: &mut Vec<Finding>) {
    let mut linter = Linter { set, findings };
    for namespace in set.inventory.namespaces() {
        let name = annotation(PRIMARY_PROVIDER, "port_security");
        if let (Some(source), Some(value)) = (&namespace.source, namespace.annotations.get(&name)) {
            let object = format!("Namespace/{}", namespace.name);
            linter.port_security_value(source, object, &name, value);
        }
    }
    for port in set.ports.iter() {
        let pod = set.inventory.pod_at(port.pod);
        linter.port_security(port, pod);
        linter.layer2_forward(port, pod);
        linter.virtual_addresses(port, pod);
    }
}

struct Linter<'l> {
    set: &'l PolicySet,
    findings: &'l mut Vec<Finding>,
}

impl Linter<'_> {
    fn warn(
        &mut self,
        id: &'static str,
        source: &Source,
        object: String,
        name: &str,
        text: String,
    ) {
        self.findings.push(Finding {
            severity: Severity::Warning,
            id,
            place: source.place(),
            document: source.document(),
            object,
            path: format!("metadata.annotations[{name}]"),
            message: text,
        });
    }

    fn of_pod(&mut self, id: &'static str, pod: &Pod, name: &str, text: String) {
        let object = format!("Pod/{}", pod.full_name());
        self.warn(id, &pod.source, object, name, text);
    }

    fn port_security_value(&mut self, source: &Source, object: String, name: &str, value: &str) {
        if !matches!(value, "true" | "false") {
            let message =
                format!("no effect: only \"true\" turns port security on, found \"{value}\"");
            self.warn(id::ANNOTATION_VALUE, source, object, name, message);
        }
    }

    fn port_security(&mut self, port: &Port, pod: &Pod) {
        let name = || annotation(&port.provider, "port_security");
        if let Some(value) = said(&pod.annotations, &port.provider, "port_security") {
            let object = format!("Pod/{}", pod.full_name());
            self.port_security_value(&pod.source, object, &name(), value);
        }
        if !port.port_security {
            return;
        }
        if port.addresses.is_empty() {
            let message = "no effect yet: the pod has no address that frames could be held against";
            self.of_pod(id::PORT_SECURITY, pod, &name(), message.to_owned());
        } else if port.mac.is_none() {
            let said = annotation(&port.provider, "mac_address");
            let message = match pod.annotations.get(&said) {
                Some(text) => {
                    format!("\"{text}\" in {said} is no MAC address: MACs are not checked")
                }
                None => format!(
                    "MAC addresses are not checked: neither {said} nor the network \
                                 status tells the pod's"
                ),
            };
            self.of_pod(id::PORT_SECURITY, pod, &name(), message);
        }
    }

    fn layer2_forward(&mut self, port: &Port, pod: &Pod) {
        let Some(value) = said(&pod.annotations, &port.provider, "layer2_forward") else {
            return;
        };
        let name = annotation(&port.provider, "layer2_forward");
        let security = annotation(&port.provider, "port_security");
        if value != "true" {
            let secured = match port.port_security {
                true => String::new(),
                false => format!(
                    "; what keeps a pod from sending under another address is \
                                  {security}: \"true\""
                ),
            };
            let message = format!(
                "no effect: only \"true\" does anything, and \"{value}\" is as good as nothing\
                 {secured}"
            );
            self.of_pod(id::ANNOTATION_VALUE, pod, &name, message);
        } else if port.port_security {
            let whose = port_security(&self.set.inventory, pod, &port.provider);
            let own = pod.annotations.get(&security) == whose;
            let whose = if own { "its" } else { "its namespace's" };
            let message = format!(
                "no effect: {whose} {security} lets frames to the pod's own MAC address through, \
                 and no others"
            );
            self.of_pod(id::LAYER2_FORWARD, pod, &name, message);
        }
    }

    fn virtual_addresses(&mut self, port: &Port, pod: &Pod) {
        for text in listed(said(&pod.annotations, &port.provider, "port_vips")) {
            if text.parse::<std::net::IpAddr>().is_err() {
                let message = format!("no effect: \"{text}\" is no IP address and is left out");
                let name = annotation(&port.provider, "port_vips");
                self.of_pod(id::VIRTUAL_ADDRESS, pod, &name, message);
            }
        }
        for wanted in listed(said(&pod.annotations, PRIMARY_PROVIDER, "aaps")) {
            let why = match self.set.vips.iter().find(|vip| vip.name == wanted) {
                None => "there is none".to_owned(),
                Some(vip) if vip.namespace.is_empty() => {
                    format!("it names no namespace, and the pod's is {}", pod.namespace)
                }
                Some(vip) if vip.namespace != pod.namespace => {
                    format!("it is for namespace {}", vip.namespace)
                }
                Some(vip) if port.subnet.as_ref().is_some_and(|own| *own != vip.subnet) => {
                    let own = port.subnet.as_deref().unwrap_or_default();
                    format!("it is of subnet {:?}, the pod of {own:?}", vip.subnet)
                }
                Some(vip) if vip.addresses.is_empty() => "it has no address yet".to_owned(),
                Some(_) => continue,
            };
            let message = format!("no effect: Vip {wanted} gives the pod no address: {why}");
            let name = annotation(PRIMARY_PROVIDER, "aaps");
            self.of_pod(id::VIRTUAL_ADDRESS, pod, &name, message);
        }
    }
}
