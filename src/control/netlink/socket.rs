//! Netlink sockets: dumps, commands, notifications.
//!
//! The crate `rtnetlink` offers the same with less control: it drops messages it cannot decode in
//! silence (a missing route is a wrong route) and knows no next-hop objects. Its sockets and
//! message types are used, its connection is not.

use std::io;

use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};

use super::message::KernelMessage;

/// Larger than any datagram the kernel sends for a dump (32 KiB).
const BUFFER_BYTES: usize = 128 * 1024;

/// Room for notifications that arrive while a dump is being read.
const RECEIVE_BUFFER_BYTES: usize = 8 * 1024 * 1024;

/// The kernel changed something while it was dumped (linux/netlink.h).
const NLM_F_DUMP_INTR: u16 = 0x10;

/// Bytes of `struct nlmsghdr`; messages begin at multiples of 4.
const HEADER_BYTES: usize = 16;

/// What everything that follows the kernel listens to.
const GROUPS: [MulticastGroup; 10] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Nexthop,
    MulticastGroup::Notify,
];

/// Something the kernel told without being asked.
#[derive(Debug)]
pub(super) enum Notice {
    /// A neighbour is new or has changed.
    NewNeighbour(NeighbourMessage),
    /// A neighbour is gone.
    DelNeighbour(NeighbourMessage),
    /// A link, address, route, rule or next-hop object has changed.
    Changed,
    /// Notifications were lost: everything must be read again.
    Overrun,
}

/// Everything of one kind the kernel knows.
#[derive(Debug, Default)]
pub(super) struct Dump {
    /// The entries.
    pub messages: Vec<KernelMessage>,
    /// It changed meanwhile: entries may be missing or doubled.
    pub interrupted: bool,
    /// Entries that could not be understood.
    pub undecodable: usize,
    /// Why the first of them was not.
    pub first_error: Option<String>,
}

/// A socket that receives notifications.
pub(super) struct Listener {
    socket: TokioSocket,
    buffer: Vec<u8>,
}

/// A socket for requests.
pub(super) struct Requester {
    socket: TokioSocket,
    buffer: Vec<u8>,
    sequence: u32,
}

fn open(groups: u32) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
    // Old kernels know neither; both only save work.
    let _ = socket.socket_ref().set_netlink_get_strict_chk(true);
    let _ = socket.socket_ref().set_cap_ack(true);
    Ok(socket)
}

async fn receive<'b>(socket: &TokioSocket, buffer: &'b mut [u8]) -> io::Result<&'b [u8]> {
    let mut free: &mut [u8] = buffer;
    socket.recv(&mut free).await?;
    let left = free.len();
    if left == 0 {
        // The kernel cuts what does not fit.
        return Err(io::Error::other("netlink datagram longer than the buffer"));
    }
    Ok(&buffer[..buffer.len() - left])
}

/// The messages of a datagram, undecoded.
fn split(mut datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
        if length < HEADER_BYTES || length > datagram.len() {
            return None;
        }
        let (message, _) = datagram.split_at(length);
        datagram = &datagram[length.next_multiple_of(4).min(datagram.len())..];
        Some(message)
    })
}

impl Listener {
    /// Subscribes to everything the mirror follows.
    pub fn subscribe() -> io::Result<Self> {
        let groups = GROUPS
            .iter()
            .fold(0, |groups, &group| groups | 1 << (group as u32 - 1));
        let socket = open(groups)?;
        // Beyond net.core.rmem_max only with CAP_NET_ADMIN; less means more overruns, no more.
        let (plain, size) = (socket.socket_ref(), RECEIVE_BUFFER_BYTES);
        if rustix::net::sockopt::set_socket_recv_buffer_size_force(plain, size).is_err() {
            let _ = rustix::net::sockopt::set_socket_recv_buffer_size(plain, size);
        }
        let buffer = vec![0; BUFFER_BYTES];
        Ok(Listener { socket, buffer })
    }

    /// The next notifications. Dropping the future loses none.
    pub async fn receive(&mut self) -> io::Result<Vec<Notice>> {
        let datagram = match receive(&self.socket, &mut self.buffer).await {
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                return Ok(vec![Notice::Overrun]);
            }
            other => other?,
        };
        Ok(split(datagram).map(Self::notice).collect())
    }

    fn notice(message: &[u8]) -> Notice {
        let kind = u16::from_ne_bytes([message[4], message[5]]);
        if !matches!(kind, libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH) {
            return Notice::Changed;
        }
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map(|m| m.payload) {
            Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(neighbour))) => {
                Notice::NewNeighbour(neighbour)
            }
            Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(neighbour))) => {
                Notice::DelNeighbour(neighbour)
            }
            // As good as lost.
            _ => Notice::Overrun,
        }
    }
}

impl Requester {
    /// Opens a socket for requests.
    pub fn open() -> io::Result<Self> {
        Ok(Requester {
            socket: open(0)?,
            buffer: vec![0; BUFFER_BYTES],
            sequence: 0,
        })
    }

    /// Everything of one kind. An error of the kernel's is an error of this.
    pub async fn dump(&mut self, request: KernelMessage) -> io::Result<Dump> {
        let sequence = self.send(request, NLM_F_DUMP).await?;
        let mut dump = Dump::default();
        loop {
            let datagram = receive(&self.socket, &mut self.buffer).await?;
            for bytes in split(datagram) {
                let header = NetlinkBuffer::new_checked(bytes).map_err(io::Error::other)?;
                if header.sequence_number() != sequence {
                    // The rest of a dump that was given up.
                    continue;
                }
                dump.interrupted |= header.flags() & NLM_F_DUMP_INTR != 0;
                match NetlinkMessage::<KernelMessage>::deserialize(bytes).map(|m| m.payload) {
                    Ok(NetlinkPayload::InnerMessage(message)) => dump.messages.push(message),
                    Ok(NetlinkPayload::Error(error)) => return Err(error.to_io()),
                    Ok(NetlinkPayload::Done(done)) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(-done.code));
                    }
                    Ok(NetlinkPayload::Done(_)) => return Ok(dump),
                    Ok(_) => {}
                    Err(error) => {
                        dump.undecodable += 1;
                        dump.first_error.get_or_insert_with(|| error.to_string());
                    }
                }
            }
        }
    }

    /// Sends a command that the kernel will acknowledge; its number.
    pub async fn command(&mut self, request: KernelMessage, flags: u16) -> io::Result<u32> {
        self.send(request, NLM_F_ACK | flags).await
    }

    /// Acknowledgements: the numbers of commands, with the kernel's error if it refused. Dropping
    /// the future loses none.
    pub async fn acknowledged(&mut self) -> io::Result<Vec<(u32, Option<io::Error>)>> {
        let datagram = receive(&self.socket, &mut self.buffer).await?;
        let messages = split(datagram).map(NetlinkMessage::<KernelMessage>::deserialize);
        let answers = messages.filter_map(|message| {
            let message = message.ok()?;
            let NetlinkPayload::Error(error) = message.payload else {
                return None;
            };
            let refused = error.code.is_some().then(|| error.to_io());
            Some((message.header.sequence_number, refused))
        });
        Ok(answers.collect())
    }

    async fn send(&mut self, request: KernelMessage, flags: u16) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let header = NetlinkHeader::default();
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send_to(&bytes, &SocketAddr::new(0, 0)).await?;
        Ok(self.sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_split_at_message_boundaries() {
        let message = |length: u32| {
            let mut bytes = Vec::from(length.to_ne_bytes());
            bytes.resize((length as usize).next_multiple_of(4), 7);
            bytes
        };
        let datagram = [message(17), message(16), message(19)].concat();
        let lengths: Vec<usize> = split(&datagram).map(<[u8]>::len).collect();
        assert_eq!(lengths, [17, 16, 19]);
        // A last message without its padding, a length below a header's, one beyond the end.
        assert_eq!(split(&datagram[..datagram.len() - 1]).count(), 3);
        assert_eq!(split(&message(16)[..3]).count(), 0);
        assert_eq!(
            split(&[message(16), 3u32.to_ne_bytes().to_vec()].concat()).count(),
            1
        );
        assert_eq!(split(&1_000u32.to_ne_bytes()).count(), 0);
    }
}
