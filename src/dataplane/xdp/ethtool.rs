//! What a driver tells of its interface: MTU, queues, driver name, offloads (`SIOCETHTOOL`).
#![allow(unsafe_code)]

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketType, socket};

// linux/ethtool.h
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;

/// Words of `struct ethtool_drvinfo` (196 bytes), and where in it the driver's name stands.
const DRVINFO_WORDS: usize = 49;
const DRVINFO_DRIVER: std::ops::Range<usize> = 4..36;

/// Queues of an interface, present and possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channels {
    /// Queues that receive, in use.
    pub receive: u32,
    /// Queues that send, in use.
    pub transmit: u32,
    /// Most queues that could receive.
    pub receive_max: u32,
    /// Most queues that could send.
    pub transmit_max: u32,
}

/// One offload, by the name `ethtool -k` uses for it in its long form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feature {
    /// For example `rx-gro`, `tx-tcp-segmentation`.
    pub name: String,
    /// In force.
    pub active: bool,
    /// Cannot be changed.
    pub fixed: bool,
}

/// Questions about the interfaces of the network namespace it was opened in.
#[derive(Debug)]
pub struct Ethtool {
    socket: OwnedFd,
}

impl Ethtool {
    /// For the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let socket = socket(AddressFamily::UNIX, SocketType::DGRAM, None)?;
        Ok(Ethtool { socket })
    }

    /// Largest IP packet the interface carries.
    pub fn mtu_bytes(&self, interface: &str) -> io::Result<u32> {
        let mut request = request(interface)?;
        self.call(libc::SIOCGIFMTU, &mut request)?;
        // SAFETY: SIOCGIFMTU fills this arm of the union, a plain number.
        Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
    }

    /// `IFF_*` flags.
    pub fn flags(&self, interface: &str) -> io::Result<i32> {
        let mut request = request(interface)?;
        self.call(libc::SIOCGIFFLAGS, &mut request)?;
        // SAFETY: SIOCGIFFLAGS fills this arm of the union, a plain number.
        Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
    }

    /// Name of the driver: `veth`, `macvlan`, `ixgbe`.
    pub fn driver(&self, interface: &str) -> io::Result<String> {
        let mut info = vec![0; DRVINFO_WORDS];
        info[0] = ETHTOOL_GDRVINFO;
        self.ask(interface, &mut info)?;
        let bytes: Vec<u8> = info.iter().flat_map(|word| word.to_ne_bytes()).collect();
        Ok(text(&bytes[DRVINFO_DRIVER]))
    }

    /// Queues; `None` when the driver does not tell.
    pub fn channels(&self, interface: &str) -> io::Result<Option<Channels>> {
        // struct ethtool_channels: cmd, max rx, tx, other, combined, then the counts.
        let mut channels = [ETHTOOL_GCHANNELS, 0, 0, 0, 0, 0, 0, 0, 0];
        match self.ask(interface, &mut channels) {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => return Ok(None),
            other => other?,
        }
        let [_, max_rx, max_tx, _, max_combined, rx, tx, _, combined] = channels;
        Ok(Some(Channels {
            receive: rx + combined,
            transmit: tx + combined,
            receive_max: max_rx + max_combined,
            transmit_max: max_tx + max_combined,
        }))
    }

    /// Receive queues in use.
    pub fn receive_queues(&self, interface: &str) -> io::Result<u32> {
        if let Some(channels) = self.channels(interface)? {
            return Ok(channels.receive.max(1));
        }
        // Drivers that do not tell have one, but for a few (tun) that sysfs knows of.
        let queues = std::fs::read_dir(format!("/sys/class/net/{interface}/queues"));
        let names = queues
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name());
        let receive = names.filter(|name| name.as_encoded_bytes().starts_with(b"rx-"));
        Ok((receive.count() as u32).max(1))
    }

    /// All offloads.
    pub fn features(&self, interface: &str) -> io::Result<Vec<Feature>> {
        // struct ethtool_sset_info: cmd, reserved, u64 mask, one count.
        let mut sets = [ETHTOOL_GSSET_INFO, 0, 0, 0, 0];
        sets[2..4].copy_from_slice(&words(1 << ETH_SS_FEATURES));
        self.ask(interface, &mut sets)?;
        let count = sets[4] as usize;

        // struct ethtool_gstrings: cmd, set, count, the strings.
        let mut strings = vec![0; 3 + count * ETH_GSTRING_LEN / 4];
        strings[..3].copy_from_slice(&[ETHTOOL_GSTRINGS, ETH_SS_FEATURES, count as u32]);
        self.ask(interface, &mut strings)?;
        let bytes: Vec<u8> = strings[3..]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        let names = bytes.chunks_exact(ETH_GSTRING_LEN).map(text);

        // struct ethtool_gfeatures: cmd, number of blocks, blocks of four words.
        let blocks = count.div_ceil(32);
        let mut features = vec![0; 2 + blocks * 4];
        features[..2].copy_from_slice(&[ETHTOOL_GFEATURES, blocks as u32]);
        self.ask(interface, &mut features)?;
        let bit = |at: usize, word: usize| features[2 + at / 32 * 4 + word] >> (at % 32) & 1 != 0;
        let feature = |(at, name)| Feature {
            name,
            active: bit(at, 2),
            fixed: bit(at, 3) || !bit(at, 0),
        };
        let named = names.enumerate().map(feature);
        Ok(named.filter(|feature| !feature.name.is_empty()).collect())
    }

    /// `SIOCETHTOOL` with a command and its arguments in `data`, which also takes the answer.
    fn ask(&self, interface: &str, data: &mut [u32]) -> io::Result<()> {
        let mut request = request(interface)?;
        request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
        // The commands above write no more than their structure, or than the number of strings or
        // blocks stated in it: `data` has that length.
        self.call(libc::SIOCETHTOOL, &mut request)
    }

    fn call(&self, number: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
        // SAFETY: all requests used here read and write one `ifreq`; what SIOCETHTOOL writes behind
        // its pointer is bounded by `ask`.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), number as _, request) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}

fn request(interface: &str) -> io::Result<libc::ifreq> {
    // SAFETY: a C structure of numbers and pointers, for which zero bytes are valid.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if interface.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn words(value: u64) -> [u32; 2] {
    let bytes = value.to_ne_bytes();
    let word = |at| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4)]
}

fn text(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_answers() {
        let ethtool = Ethtool::open().unwrap();
        assert!(ethtool.mtu_bytes("lo").unwrap() >= 1500);
        assert_ne!(ethtool.flags("lo").unwrap() & libc::IFF_LOOPBACK, 0);
        assert_eq!(ethtool.receive_queues("lo").unwrap(), 1);
        let features = ethtool.features("lo").unwrap();
        let loopback = features
            .iter()
            .find(|feature| feature.name == "loopback")
            .unwrap();
        assert!(loopback.active && loopback.fixed);
        assert!(features.iter().any(|feature| feature.name == "rx-gro"));
    }

    #[test]
    fn a_missing_or_impossible_interface_is_an_error() {
        let ethtool = Ethtool::open().unwrap();
        for name in ["pc-none", "a-name-longer-than-any-interface"] {
            let error = ethtool.mtu_bytes(name).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{name}");
        }
    }
}
