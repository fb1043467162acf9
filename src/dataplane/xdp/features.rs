//! What an interface's driver can do with XDP: the kernel's `netdev` family of generic netlink
//! (Documentation/netlink/specs/netdev.yaml, since Linux 6.3).

use std::io;

use rustix::fd::OwnedFd;
use rustix::net::netlink::GENERIC;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with,
};

// linux/netlink.h, linux/genetlink.h, linux/netdev.h
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
const ATTRIBUTE_TYPE_MASK: u16 = 0x3fff;

/// Bytes of `struct nlmsghdr`, and of that with `struct genlmsghdr`.
const HEADER_BYTES: usize = 16;
const HEADERS_BYTES: usize = HEADER_BYTES + 4;

/// What the driver of an interface can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XdpFeatures {
    /// It runs programs itself: native mode.
    pub native: bool,
    /// It can hand frames over, to a socket or another interface.
    pub redirect: bool,
    /// It can receive into a socket's memory and send from it.
    pub zero_copy: bool,
}

/// Asks for an interface of the calling thread's network namespace. `None` where the kernel does
/// not tell.
pub fn xdp_features(ifindex: u32) -> io::Result<Option<XdpFeatures>> {
    let socket = socket_with(
        AddressFamily::NETLINK,
        SocketType::RAW,
        SocketFlags::CLOEXEC,
        Some(GENERIC),
    )?;
    let name = attribute(CTRL_ATTR_FAMILY_NAME, b"netdev\0");
    let Some(family) = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, &name)? else {
        return Ok(None);
    };
    let id = find(&family, CTRL_ATTR_FAMILY_ID).and_then(|value| value.first_chunk());
    let id = u16::from_ne_bytes(*id.ok_or(io::ErrorKind::InvalidData)?);
    let index = attribute(NETDEV_A_DEV_IFINDEX, &ifindex.to_ne_bytes());
    let Some(device) = ask(&socket, id, NETDEV_CMD_DEV_GET, &index)? else {
        return Ok(None);
    };
    let features = find(&device, NETDEV_A_DEV_XDP_FEATURES).and_then(|value| value.first_chunk());
    Ok(features.map(|bytes| decode(u64::from_ne_bytes(*bytes))))
}

/// `enum netdev_xdp_act`.
fn decode(features: u64) -> XdpFeatures {
    XdpFeatures {
        native: features & 1 != 0,
        redirect: features & 2 != 0,
        zero_copy: features & 8 != 0,
    }
}

/// One request and its answer's attributes; `None` when the kernel knows no such thing.
fn ask(
    socket: &OwnedFd,
    family: u16,
    command: u8,
    attributes: &[u8],
) -> io::Result<Option<Vec<u8>>> {
    send(
        socket,
        &request(family, command, attributes),
        SendFlags::empty(),
    )?;
    let mut answer = vec![0; 16 * 1024];
    let (_, length) = recv(socket, answer.as_mut_slice(), RecvFlags::empty())?;
    answer.truncate(length);
    attributes_of(&answer)
}

fn request(family: u16, command: u8, attributes: &[u8]) -> Vec<u8> {
    let length = (HEADERS_BYTES + attributes.len()) as u32;
    let mut message = length.to_ne_bytes().to_vec();
    message.extend(family.to_ne_bytes());
    message.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence and port numbers: one request at a time needs none.
    message.extend([0; 8]);
    message.extend([command, 1, 0, 0]);
    message.extend(attributes);
    message
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = ((4 + value.len()) as u16).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn attributes_of(answer: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let kind = answer.get(4..6).and_then(|bytes| bytes.first_chunk());
    let kind = u16::from_ne_bytes(*kind.ok_or(io::ErrorKind::UnexpectedEof)?);
    if kind != NLMSG_ERROR {
        return Ok(Some(answer.get(HEADERS_BYTES..).unwrap_or(&[]).to_vec()));
    }
    let code = answer
        .get(HEADER_BYTES..)
        .and_then(|bytes| bytes.first_chunk());
    let code = i32::from_ne_bytes(*code.ok_or(io::ErrorKind::UnexpectedEof)?);
    match -code {
        libc::ENOENT | libc::EOPNOTSUPP => Ok(None),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// The value of the first attribute of a kind.
fn find(mut attributes: &[u8], kind: u16) -> Option<&[u8]> {
    while let Some((header, _)) = attributes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let found = u16::from_ne_bytes([header[2], header[3]]) & ATTRIBUTE_TYPE_MASK;
        let value = attributes.get(4..length)?;
        if found == kind {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_found_behind_others_and_lies_are_survived() {
        let both = [attribute(7, b"abcde"), attribute(3, &8u64.to_ne_bytes())].concat();
        assert_eq!(find(&both, 7), Some(&b"abcde"[..]));
        assert_eq!(find(&both, 3), Some(&8u64.to_ne_bytes()[..]));
        assert_eq!(find(&both, 4), None);
        // Lengths too long, too short, and an end in the middle.
        for lie in [&[9u8, 0, 3, 0, 1][..], &[0, 0, 3, 0], &[3, 0, 3, 0], &[8]] {
            assert_eq!(find(lie, 3), None, "{lie:?}");
        }
    }

    #[test]
    fn errors_are_told_from_absence() {
        let answer = |code: i32| {
            let mut message = request(NLMSG_ERROR, 0, &[]);
            message[HEADER_BYTES..].copy_from_slice(&code.to_ne_bytes());
            message
        };
        assert!(attributes_of(&answer(-libc::ENOENT)).unwrap().is_none());
        let error = attributes_of(&answer(-libc::EPERM)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
        assert!(attributes_of(&[0; 3]).is_err());
    }

    #[test]
    fn loopback_is_known_or_the_kernel_does_not_tell() {
        if let Some(features) = xdp_features(1).unwrap() {
            assert!(!features.native && !features.zero_copy);
        }
        assert!(
            xdp_features(u32::MAX).is_ok_and(|f| f.is_none()) || xdp_features(u32::MAX).is_err()
        );
    }
}
