//! The names the API has for fields, level by level, so that a misspelt one is told from one that
//! nobody asks for here.
//!
//! A dump of a live cluster holds hundreds of fields that are of no use to policies; they pass. A
//! name that the API has not and that is almost one of those read here is an error: left out, it
//! would take a pod off the host's network, or its address away, and with it every policy.

use super::super::document::Field;
use super::{Path, Reader, Severity, nearest};

/// The fields of one level of an object.
pub struct Level {
    /// Those that are read.
    pub read: &'static [&'static str],
    /// The others the API has, in any version of it.
    pub others: &'static [&'static str],
}

/// Of every object.
pub const OBJECT: Level = Level {
    read: &["apiVersion", "kind", "metadata", "spec", "status"],
    others: &[],
};

/// `v1.PodSpec`.
pub const POD_SPEC: Level = Level {
    read: &["containers", "hostNetwork", "initContainers", "nodeName"],
    others: &[
        "activeDeadlineSeconds",
        "affinity",
        "automountServiceAccountToken",
        "dnsConfig",
        "dnsPolicy",
        "enableServiceLinks",
        "ephemeralContainers",
        "hostAliases",
        "hostIPC",
        "hostPID",
        "hostUsers",
        "hostname",
        "hostnameOverride",
        "imagePullSecrets",
        "nodeSelector",
        "os",
        "overhead",
        "preemptionPolicy",
        "priority",
        "priorityClassName",
        "readinessGates",
        "resourceClaims",
        "resources",
        "restartPolicy",
        "runtimeClassName",
        "schedulerName",
        "schedulingGates",
        "schedulingGroup",
        "securityContext",
        "serviceAccount",
        "serviceAccountName",
        "setHostnameAsFQDN",
        "shareProcessNamespace",
        "subdomain",
        "terminationGracePeriodSeconds",
        "tolerations",
        "topologySpreadConstraints",
        "volumes",
        "workloadRef",
    ],
};

/// `v1.Container`.
pub const CONTAINER: Level = Level {
    read: &["ports", "restartPolicy"],
    others: &[
        "args",
        "command",
        "env",
        "envFrom",
        "image",
        "imagePullPolicy",
        "lifecycle",
        "livenessProbe",
        "name",
        "readinessProbe",
        "resizePolicy",
        "resources",
        "restartPolicyRules",
        "securityContext",
        "startupProbe",
        "stdin",
        "stdinOnce",
        "terminationMessagePath",
        "terminationMessagePolicy",
        "tty",
        "volumeDevices",
        "volumeMounts",
        "workingDir",
    ],
};

/// `v1.ContainerPort`.
pub const CONTAINER_PORT: Level = Level {
    read: &["containerPort", "hostIP", "hostPort", "name", "protocol"],
    others: &[],
};

/// `v1.PodStatus`.
pub const POD_STATUS: Level = Level {
    read: &["hostIP", "hostIPs", "phase", "podIP", "podIPs"],
    others: &[
        "allocatedResources",
        "conditions",
        "containerStatuses",
        "ephemeralContainerStatuses",
        "extendedResourceClaimStatus",
        "initContainerStatuses",
        "message",
        "nominatedNodeName",
        "observedGeneration",
        "qosClass",
        "reason",
        "resize",
        "resourceClaimStatuses",
        "resources",
        "startTime",
    ],
};

/// `v1.PodIP` and `v1.HostIP`.
pub const POD_ADDRESS: Level = Level {
    read: &["ip"],
    others: &[],
};

/// `v1.NodeStatus`.
pub const NODE_STATUS: Level = Level {
    read: &["addresses"],
    others: &[
        "allocatable",
        "capacity",
        "conditions",
        "config",
        "daemonEndpoints",
        "declaredFeatures",
        "features",
        "images",
        "nodeInfo",
        "phase",
        "runtimeHandlers",
        "volumesAttached",
        "volumesInUse",
    ],
};

/// `v1.NodeAddress`.
pub const NODE_ADDRESS: Level = Level {
    read: &["address", "type"],
    others: &[],
};

/// `v1.ServiceSpec`.
pub const SERVICE_SPEC: Level = Level {
    read: &["clusterIP", "clusterIPs", "ports", "selector", "type"],
    others: &[
        "allocateLoadBalancerNodePorts",
        "externalIPs",
        "externalName",
        "externalTrafficPolicy",
        "healthCheckNodePort",
        "internalTrafficPolicy",
        "ipFamilies",
        "ipFamily",
        "ipFamilyPolicy",
        "loadBalancerClass",
        "loadBalancerIP",
        "loadBalancerSourceRanges",
        "publishNotReadyAddresses",
        "sessionAffinity",
        "sessionAffinityConfig",
        "topologyKeys",
        "trafficDistribution",
    ],
};

/// `v1.ServicePort`.
pub const SERVICE_PORT: Level = Level {
    read: &["name", "port", "protocol", "targetPort"],
    others: &["appProtocol", "nodePort"],
};

/// Reports the fields whose names are none of the API and almost one that is read.
pub fn report_misspelt(reader: &mut Reader, fields: &[Field], parent: &Path, level: &Level) {
    for field in fields {
        let name = &&*field.key;
        let known = level.read.contains(name) || level.others.contains(name);
        if !known && nearest(name, level.read).is_some() {
            reader.unknown_field(Severity::Error, field, parent, level.read);
        }
    }
}
