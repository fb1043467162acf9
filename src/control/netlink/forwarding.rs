//! Does the kernel forward packets itself, past the data plane and its policy?

use std::io;
use std::path::Path;

/// Names of the kernel's forwarding switches that are on, `net.ipv4.ip_forward` and the like, in
/// the network namespace of the calling thread. All must be off: what the steering program passes
/// to the kernel must end there.
///
/// # Errors
/// A switch exists but cannot be read.
pub fn kernel_forwards(interfaces: &[String]) -> io::Result<Vec<String>> {
    let mut switches = vec![
        "net/ipv4/ip_forward".to_owned(),
        "net/ipv6/conf/all/forwarding".to_owned(),
    ];
    for interface in interfaces {
        // The kernel forwards what arrives on an interface whose own switch is on, too.
        for family in ["ipv4", "ipv6"] {
            switches.push(format!("net/{family}/conf/{interface}/forwarding"));
        }
    }
    let mut on = Vec::new();
    for switch in switches {
        match std::fs::read_to_string(Path::new("/proc/sys").join(&switch)) {
            Ok(value) if value.trim() == "0" => {}
            Ok(_) => on.push(sysctl_name(&switch)),
            // No such interface, or no such protocol.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(on)
}

/// As `sysctl` spells it: dots for slashes, and slashes for the dots of `eth0.10`.
fn sysctl_name(path: &str) -> String {
    let swapped = path.chars().map(|letter| match letter {
        '/' => '.',
        '.' => '/',
        other => other,
    });
    swapped.collect()
}
