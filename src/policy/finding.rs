//! What loading or checking manifests has to say, and where.

use serde::{Deserialize, Serialize};

use super::document::Position;

macro_rules! ids {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal,)+) => {
        /// Every id a finding of this room has. They are stable, and explained in `docs/lint.md`.
        pub mod id {
            $($(#[doc = $doc])+ pub const $name: &str = $text;)+

            /// All of them.
            pub const ALL: &[&str] = &[$($name,)+];
        }
    };
}

ids! {
    /// The text is no YAML or JSON, or uses a tag or alias that cannot be followed.
    SYNTAX = "syntax",
    /// A key is there twice.
    DUPLICATE_FIELD = "duplicate-field",
    /// A value has another type than its field.
    WRONG_TYPE = "wrong-type",
    /// A field nobody reads; an error in a policy, and where it is almost one that is read.
    UNKNOWN_FIELD = "unknown-field",
    /// A field that must be there is not.
    REQUIRED_VALUE = "required-value",
    /// A value is not valid for its field.
    INVALID_VALUE = "invalid-value",
    /// A value is none of those its field allows.
    UNSUPPORTED_VALUE = "unsupported-value",
    /// A field that may not be there beside another.
    FORBIDDEN_VALUE = "forbidden-value",
    /// A value that must be unique is there twice.
    DUPLICATE_VALUE = "duplicate-value",
    /// A value is too long.
    TOO_LONG = "too-long",
    /// The kind does not exist in this version of its group.
    NO_MATCH = "no-match",
    /// Two objects of one kind, namespace and name.
    DUPLICATE_OBJECT = "duplicate-object",
    /// Two pods, or two services, have one address.
    DUPLICATE_ADDRESS = "duplicate-address",
    /// An object of a kind that is not read.
    UNKNOWN_KIND = "unknown-kind",
    /// A value left out that allows everything: an item, peers, ports, a selector.
    NULL_VALUE = "null-value",
    /// A block of addresses has bits behind its prefix.
    CIDR_HOST_BITS = "cidr-host-bits",
    /// Rules of a direction the policy is not about.
    INERT_RULES = "inert-rules",
    /// A policy that a compatibility switch takes the effect from.
    INERT_POLICY = "inert-policy",
    /// A policy that selects no pod.
    SELECTS_NOTHING = "selects-nothing",
    /// A peer that selects no pod.
    PEER_SELECTS_NOTHING = "peer-selects-nothing",
    /// A port name no pod in question has.
    UNKNOWN_NAMED_PORT = "unknown-named-port",
    /// Egress is allowed, but no name can be asked for.
    EGRESS_WITHOUT_DNS = "egress-without-dns",
    /// A peer of a version not known here, so that its rule fails closed.
    UNKNOWN_PEER = "unknown-peer",
    /// Two policies of one tier, or two overlapping rules of a pod's groups, have one priority.
    EQUAL_PRIORITY = "equal-priority",
    /// A rule behind another of its object that matches all it could match.
    SHADOWED_RULE = "shadowed-rule",
    /// A rule that denies a block also denies pods.
    DENIES_PODS = "denies-pods",
    /// A domain name with no address known.
    UNKNOWN_NAME = "unknown-name",
    /// A network that nobody describes.
    UNKNOWN_NETWORK = "unknown-network",
    /// Implementations of MultiNetworkPolicy read it differently.
    DIALECTS_DISAGREE = "dialects-disagree",
    /// A selected pod has no address.
    NO_ADDRESS = "no-address",
    /// An isolation annotation without effect.
    ISOLATION_ANNOTATION = "isolation-annotation",
    /// A set of manifests does not say which addresses are in the cluster.
    NO_CLUSTER_NETWORK = "no-cluster-network",
    /// A project's packets to destinations outside are all dropped.
    EGRESS_DROPPED = "egress-dropped",
    /// A name in a rule has no address.
    UNRESOLVED_NAME = "unresolved-name",
    /// A project without NetNamespace, where NetNamespaces keep projects apart.
    UNNUMBERED_PROJECT = "unnumbered-project",
    /// A change of a project's network that is not made.
    NETWORK_CHANGE_REFUSED = "network-change-refused",
    /// A rule that asks for something the data plane does not do.
    NOT_ENFORCED = "not-enforced",
    /// A rule no packet can reach.
    UNREACHABLE_RULE = "unreachable-rule",
    /// A word nobody defined, taken as upstream takes it.
    UNKNOWN_WORD = "unknown-word",
    /// A field without effect beside the others of its rule.
    IGNORED_FIELD = "ignored-field",
    /// A field that decides something elsewhere and nothing here.
    UNREAD_FIELD = "unread-field",
    /// A pod names a security group that does not exist.
    UNKNOWN_GROUP = "unknown-group",
    /// A security group no pod is bound to.
    UNUSED_GROUP = "unused-group",
    /// A group of tier 1 that no rule of tier 0 leads to.
    UNREACHABLE_TIER = "unreachable-tier",
    /// Security groups that cut a pod off from its gateway.
    NO_GATEWAY = "no-gateway",
    /// Security groups that cut a pod off from the name service or from DHCP.
    NO_BASICS = "no-basics",
    /// An annotation whose value is not the one that acts.
    ANNOTATION_VALUE = "annotation-value",
    /// Layer 2 forwarding where port security leaves nothing to forward.
    LAYER2_FORWARD = "layer2-forward",
    /// Port security that cannot check all it should.
    PORT_SECURITY = "port-security",
    /// An address a pod may have beside its own, which it will not get.
    VIRTUAL_ADDRESS = "virtual-address",
    /// A namespace carries another name in its name label.
    NAMESPACE_NAME_LABEL = "namespace-name-label",
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Loads, with a meaning that may surprise, or without effect.
    Warning,
    /// The whole set is refused.
    Error,
}

/// A place in a source file; line and column count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// [`super::SourceFile::name`].
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl Place {
    /// A place in a file.
    pub fn new(file: &str, position: Position) -> Self {
        Place {
            file: file.to_owned(),
            line: position.line,
            column: position.column,
        }
    }
}

impl std::fmt::Display for Place {
    /// `file:line:column`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Does it refuse the set?
    pub severity: Severity,
    /// Stable kebab-case id, documented in `docs/lint.md`.
    pub id: &'static str,
    /// Where in the files.
    pub place: Place,
    /// Number of the document in the file, from 1.
    pub document: u32,
    /// The object, `kind/namespace/name`; empty when the document could not be read that far.
    pub object: String,
    /// Field path in the apiserver's style, `spec.ingress[0].from[1].ipBlock.cidr`; may be empty.
    pub path: String,
    /// The reason in the apiserver's words: `Invalid value: "x": must be …`.
    pub message: String,
}

impl std::fmt::Display for Finding {
    /// `file:line:column: error: kind/ns/name: path: message [id]`, with `document N: ` before the
    /// object from the second document of a file on.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{}: {severity}: ", self.place)?;
        if self.document > 1 {
            write!(f, "document {}: ", self.document)?;
        }
        for part in [&self.object, &self.path] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        write!(f, "{} [{}]", self.message, self.id)
    }
}
