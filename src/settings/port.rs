//! `[[port]]`: the interfaces the appliance forwards between.

use super::choice::choice;
use toml::Spanned;
use toml::de::DeValue;

use super::kind::{Kind, ListOf, OneNumberOf, Parsed, PowerOfTwo, Whole, WordOr, Wrong};
use super::reader::Section;
use super::replay::MAC;

/// One interface frames are taken from and sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Name used in metrics, logs, captures and other settings; unique.
    pub name: String,
    /// The kernel's name of the interface, at most 15 bytes; unique.
    pub interface: String,
    /// Receive queues to bind.
    pub queues: Queues,
    /// How the steering program is attached.
    pub mode: PortMode,
    /// Whether frames are copied between kernel and UMEM.
    pub zero_copy: ZeroCopy,
    /// Which side of the appliance it is on.
    pub role: PortRole,
    /// Bytes of one UMEM frame.
    pub frame_size_bytes: FrameSize,
    /// Descriptors in each of the port's rings; a power of two.
    pub ring_frames: u32,
    /// The secondary network behind the port, `namespace/name` of its NetworkAttachmentDefinition;
    /// `None` for the cluster's own.
    pub network: Option<String>,
    /// MAC addresses of routers behind the port: what they send comes from others.
    pub routers: Vec<[u8; 6]>,
    /// VLAN ids accepted; none means untagged frames alone.
    pub vlans: Vec<u16>,
}

/// Receive queues of a port to bind. Frames of a queue that is not bound are dropped by the
/// steering program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Queues {
    /// Every queue the interface has when it is bound.
    #[default]
    All,
    /// Queues 0 to n - 1.
    First(u32),
    /// These queues.
    List(Vec<u32>),
}

choice! {
    /// How the steering program is attached to an interface.
    PortMode {
        /// Native where the driver can, generic otherwise.
        Auto = "auto",
        /// In the driver; an error where it cannot.
        Native = "native",
        /// In the kernel's generic receive path.
        Generic = "generic",
    }
}

choice! {
    /// Whether frames are copied between the kernel and the UMEM.
    ZeroCopy {
        /// Zero copy where the driver can, copy otherwise.
        Auto = "auto",
        /// Always copy.
        Never = "never",
        /// Zero copy; an error where the driver cannot.
        Require = "require",
    }
}

choice! {
    /// Which side of the appliance a port is on.
    PortRole {
        /// No assumption.
        Unspecified = "unspecified",
        /// Towards the protected hosts.
        Inside = "inside",
        /// Towards the network they are protected from.
        Outside = "outside",
    }
}

/// Bytes of one UMEM frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FrameSize {
    /// The smallest that holds a frame of the interface's MTU.
    #[default]
    Auto,
    /// 2048 or 4096.
    Bytes(u32),
}

/// More than any machine has; keeps a port's number in a byte everywhere.
const PORTS_MAX: usize = 64;

const QUEUES_MAX: u32 = 1024;

const NAME: Parsed<String> = Parsed {
    allowed: "1 to 31 of a-z, 0-9 and -",
    parse: |text| {
        let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        let fine = (1..=31).contains(&text.len()) && text.bytes().all(letters);
        fine.then(|| text.to_owned()).ok_or_else(String::new)
    },
};

/// As the kernel's `dev_valid_name`.
const INTERFACE: Parsed<String> = Parsed {
    allowed: "the kernel's name of an interface: 1 to 15 bytes without blanks, / and :",
    parse: |text| {
        let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
        let fine = (1..=15).contains(&text.len()) && !text.contains(bad);
        let fine = fine && !matches!(text, "." | "..");
        fine.then(|| text.to_owned()).ok_or_else(String::new)
    },
};

/// A NetworkAttachmentDefinition, or none.
const NETWORK: Parsed<Option<String>> = Parsed {
    allowed: "namespace/name of a NetworkAttachmentDefinition, or \"\"",
    parse: |text| {
        let part = |part: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            !part.is_empty() && part.len() <= 253 && part.chars().all(inner)
        };
        match text.split_once('/') {
            None if text.is_empty() => Ok(None),
            Some((one, other)) if part(one) && part(other) => Ok(Some(text.to_owned())),
            _ => Err(String::new()),
        }
    },
};

impl Port {
    pub(super) fn read_all(root: &mut Section<'_, '_>) -> Vec<Port> {
        let mut sections = root.tables("port");
        if sections.is_empty() {
            root.missing("port", "one or more [[port]] tables");
        }
        if sections.len() > PORTS_MAX {
            root.reject(
                "port",
                format!("{} tables", sections.len()),
                "64 tables at most",
            );
        }
        let mut ports: Vec<Port> = Vec::new();
        for section in &mut sections {
            // A port with a wrong name keeps its place: the others are numbered by theirs.
            let port = Self::read(section);
            let same = |a: &str, b: &str| a == b && !a.is_empty();
            if ports.iter().any(|other| same(&other.name, &port.name)) {
                section.reject("name", format!("{:?} a second time", port.name), "unique");
            }
            if ports
                .iter()
                .any(|other| same(&other.interface, &port.interface))
            {
                let found = format!("{:?} a second time", port.interface);
                section.reject("interface", found, "unique");
            }
            ports.push(port);
        }
        ports
    }

    fn read(section: &mut Section<'_, '_>) -> Port {
        let frame_size = WordOr {
            word: "auto",
            kind: OneNumberOf(&[2048, 4096]),
        };
        let vlans = ListOf {
            kind: Whole(1..=4094),
            length: 0..=4094,
        };
        let routers = ListOf {
            kind: MAC,
            length: 0..=64,
        };
        let port = Port {
            name: section.required("name", NAME).unwrap_or_default(),
            interface: section.required("interface", INTERFACE).unwrap_or_default(),
            queues: section.optional("queues", Queues::All, QueuesKind),
            mode: section.choice("mode"),
            zero_copy: section.choice("zero_copy"),
            role: section.choice("role"),
            frame_size_bytes: match section.optional("frame_size_bytes", None, frame_size) {
                None => FrameSize::Auto,
                Some(bytes) => FrameSize::Bytes(bytes),
            },
            ring_frames: section.optional("ring_frames", 4096, PowerOfTwo(64..=65_536)),
            network: section.optional("network", None, NETWORK),
            routers: section.optional("routers", Vec::new(), routers),
            vlans: section
                .optional("vlans", Vec::new(), vlans)
                .into_iter()
                .map(|id| id as u16)
                .collect(),
        };
        if port.mode == PortMode::Generic && port.zero_copy == ZeroCopy::Require {
            let allowed = "\"auto\" or \"never\" with mode \"generic\", which always copies";
            section.reject("zero_copy", "\"require\"", allowed);
        }
        port
    }
}

struct QueuesKind;

impl Kind for QueuesKind {
    type Value = Queues;

    fn allowed(&self) -> String {
        "\"all\", a number of queues from 1 to 1024, or a list of queue numbers from 0 to 1023"
            .to_owned()
    }

    fn read(&self, value: &Spanned<DeValue<'_>>) -> Result<Queues, Vec<Wrong>> {
        let list = ListOf {
            kind: Whole(0..=QUEUES_MAX - 1),
            length: 1..=QUEUES_MAX as usize,
        };
        match value.get_ref() {
            DeValue::String(word) if word == "all" => Ok(Queues::All),
            DeValue::Integer(_) => {
                let number = Whole(1..=QUEUES_MAX).read(value);
                number.map(Queues::First).map_err(|_| self.refuse(value))
            }
            DeValue::Array(_) => list.read(value).map(Queues::List),
            _ => Err(self.refuse(value)),
        }
    }
}
