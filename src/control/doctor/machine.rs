//! Findings about the machine as a whole.

use super::{Finding, MachineFacts, Severity};

/// Oldest kernel everything here was tried on: AF_XDP, links, socket lookups, BPF capabilities.
const KERNEL_MIN: (u32, u32) = (5, 15);

/// Memory of the frames of two ports with the rings as they come, registered once for each socket.
const MEMLOCK_BYTES_MIN: u64 = 128 << 20;

/// What bites of these facts.
pub fn findings(facts: &MachineFacts) -> Vec<Finding> {
    let checks = [
        kernel(facts),
        capabilities(facts),
        af_xdp(facts),
        program(facts),
        pin_directory(facts),
        memlock(facts),
    ];
    let mut findings: Vec<Finding> = checks.into_iter().flatten().collect();
    findings.extend(
        facts
            .kernel_forwards
            .iter()
            .map(|switch| forwarding(switch)),
    );
    findings
}

fn problem(
    id: &'static str,
    found: impl Into<String>,
    consequence: impl Into<String>,
    command: impl Into<String>,
) -> Finding {
    Finding {
        id,
        severity: Severity::Problem,
        interface: None,
        found: found.into(),
        consequence: consequence.into(),
        command: command.into(),
    }
}

fn kernel(facts: &MachineFacts) -> Option<Finding> {
    let mut numbers = facts
        .kernel_release
        .split(['.', '-'])
        .map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    let (need_major, need_minor) = KERNEL_MIN;
    ((major, minor) < KERNEL_MIN).then(|| {
        problem(
            "kernel-version",
            format!("Linux {}", facts.kernel_release),
            format!("before {need_major}.{need_minor} features the gateway relies on are missing"),
            "apt-get install linux-image-amd64 && reboot",
        )
    })
}

fn capabilities(facts: &MachineFacts) -> Option<Finding> {
    let missing = &facts.missing_capabilities;
    (!missing.is_empty()).then(|| {
        problem(
            "capabilities",
            format!("without {}", missing.join(", ")),
            "interfaces, sockets or programs cannot be opened",
            "sudo portcullis doctor",
        )
    })
}

fn af_xdp(facts: &MachineFacts) -> Option<Finding> {
    let error = facts.af_xdp_error.as_ref()?;
    // Without capabilities the answer says nothing of the kernel.
    facts.missing_capabilities.is_empty().then(|| {
        problem(
            "af-xdp",
            format!("no AF_XDP socket can be opened: {error}"),
            "no frame can be received",
            "grep CONFIG_XDP_SOCKETS /boot/config-$(uname -r)",
        )
    })
}

fn program(facts: &MachineFacts) -> Option<Finding> {
    let error = facts.program_error.as_ref()?;
    facts.missing_capabilities.is_empty().then(|| {
        problem(
            "steering-program",
            error.clone(),
            "the gateway does not start",
            "grep -E 'CONFIG_BPF_SYSCALL|CONFIG_BPF_JIT' /boot/config-$(uname -r)",
        )
    })
}

fn pin_directory(facts: &MachineFacts) -> Option<Finding> {
    facts.pin_error.as_ref().map(|error| {
        problem(
            "bpffs",
            error.reason.clone(),
            "the gateway does not start: without a lasting pin its ports would be open after a \
             crash",
            error.command.clone(),
        )
    })
}

fn memlock(facts: &MachineFacts) -> Option<Finding> {
    let bytes = facts.memlock_bytes?;
    let limited = facts.missing_capabilities.contains(&"CAP_IPC_LOCK");
    (limited && bytes < MEMLOCK_BYTES_MIN).then(|| {
        problem(
            "memlock",
            format!("RLIMIT_MEMLOCK is {bytes} bytes and CAP_IPC_LOCK is missing"),
            "the kernel does not take the memory for frames",
            "ulimit -l unlimited",
        )
    })
}

fn forwarding(switch: &str) -> Finding {
    problem(
        "kernel-forwards",
        format!("{switch} is on"),
        "what reaches the kernel's own stack is forwarded past every policy: on ports that are \
         not attached yet, and after a detach",
        format!("sysctl -w {switch}=0"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::PinError;
    use super::*;

    fn healthy() -> MachineFacts {
        MachineFacts {
            kernel_release: "6.1.0-25-amd64".to_owned(),
            missing_capabilities: Vec::new(),
            memlock_bytes: Some(8 << 20),
            af_xdp_error: None,
            program_error: None,
            pin_error: None,
            kernel_forwards: Vec::new(),
        }
    }

    fn ids(facts: &MachineFacts) -> Vec<&'static str> {
        findings(facts).iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn a_healthy_machine_has_no_findings() {
        assert_eq!(ids(&healthy()), [""; 0]);
    }

    #[test]
    fn each_fault_has_its_finding() {
        let mut facts = healthy();
        facts.kernel_release = "5.10.0-1-amd64".to_owned();
        assert_eq!(ids(&facts), ["kernel-version"]);
        for (release, fine) in [("5.15", true), ("5.14.21-suse", false), ("odd", true)] {
            facts.kernel_release = release.to_owned();
            assert_eq!(ids(&facts).is_empty(), fine, "{release}");
        }

        let mut facts = healthy();
        facts.kernel_forwards = vec!["net.ipv4.ip_forward".to_owned()];
        let found = findings(&facts);
        assert_eq!(found[0].command, "sysctl -w net.ipv4.ip_forward=0");

        let mut facts = healthy();
        facts.af_xdp_error = Some("no".to_owned());
        facts.program_error = Some("no".to_owned());
        facts.pin_error = Some(PinError {
            reason: "none".to_owned(),
            command: "mount".to_owned(),
        });
        assert_eq!(ids(&facts), ["af-xdp", "steering-program", "bpffs"]);
    }

    #[test]
    fn what_follows_from_missing_capabilities_is_said_once() {
        let mut facts = healthy();
        facts.missing_capabilities = vec!["CAP_NET_ADMIN", "CAP_IPC_LOCK"];
        facts.af_xdp_error = Some("EPERM".to_owned());
        facts.program_error = Some("EPERM".to_owned());
        assert_eq!(ids(&facts), ["capabilities", "memlock"]);
        facts.memlock_bytes = None;
        assert_eq!(ids(&facts), ["capabilities"]);
    }
}
