//! Reading all the kernel has of one kind after the other.

use std::io;

use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage};
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::message::KernelMessage;
use super::mirror::{MirrorError, at};
use super::neighbours::Told;
use super::socket::{Dump, Requester};
use super::topology::{Raw, TABLE_LOCAL, TABLE_MAIN};

/// A dump that was disturbed by a change is repeated this often before it is taken as it is.
const TRIES: usize = 3;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// Links, addresses, routes, rules and next-hop objects.
pub(super) async fn dump_topology(requester: &mut Requester) -> Result<Raw, MirrorError> {
    let mut raw = Raw::default();
    let mut links = LinkMessage::default();
    let mask = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
    links.attributes.push(mask);
    raw.take(requester, "links", || {
        RouteNetlinkMessage::GetLink(links.clone())
    })
    .await?;
    let addresses = AddressMessage::default;
    raw.take(requester, "addresses", || {
        RouteNetlinkMessage::GetAddress(addresses())
    })
    .await?;
    for family in FAMILIES {
        for table in [TABLE_LOCAL, TABLE_MAIN] {
            let routes = || RouteNetlinkMessage::GetRoute(routes(family, table));
            raw.take(requester, "routes", routes).await?;
        }
        let mut rules = RuleMessage::default();
        rules.header.family = family;
        raw.take(requester, "rules", || {
            RouteNetlinkMessage::GetRule(rules.clone())
        })
        .await?;
    }
    raw.take_with(requester, "next-hop objects", || KernelMessage::GetNexthops)
        .await?;
    Ok(raw)
}

/// Neighbours of all interfaces, and how many could not be understood.
pub(super) async fn dump_neighbours(
    requester: &mut Requester,
) -> Result<(Vec<Told>, usize), MirrorError> {
    let all = || {
        let all = NeighbourMessage::default();
        KernelMessage::Route(RouteNetlinkMessage::GetNeighbour(all))
    };
    let dump = dump_steady(requester, all)
        .await
        .map_err(at("read neighbours"))?;
    let told = dump.messages.iter().filter_map(|message| match message {
        KernelMessage::Route(RouteNetlinkMessage::NewNeighbour(message)) => {
            Told::from_message(message)
        }
        _ => None,
    });
    Ok((told.collect(), dump.undecodable))
}

fn routes(family: AddressFamily, table: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header = RouteHeader {
        address_family: family,
        table: table as u8,
        ..RouteHeader::default()
    };
    message.attributes.push(RouteAttribute::Table(table));
    message
}

async fn dump_steady(
    requester: &mut Requester,
    request: impl Fn() -> KernelMessage,
) -> io::Result<Dump> {
    let mut dump = requester.dump(request()).await?;
    for _ in 1..TRIES {
        if !dump.interrupted {
            break;
        }
        dump = requester.dump(request()).await?;
    }
    Ok(dump)
}

impl Raw {
    async fn take(
        &mut self,
        requester: &mut Requester,
        what: &'static str,
        request: impl Fn() -> RouteNetlinkMessage,
    ) -> Result<(), MirrorError> {
        self.take_with(requester, what, || KernelMessage::Route(request()))
            .await
    }

    async fn take_with(
        &mut self,
        requester: &mut Requester,
        what: &'static str,
        request: impl Fn() -> KernelMessage,
    ) -> Result<(), MirrorError> {
        let dump = match dump_steady(requester, request).await {
            Ok(dump) => dump,
            Err(error) if not_there(&error) => return Ok(()),
            Err(error) => return Err(at(what)(error)),
        };
        self.interrupted |= dump.interrupted;
        self.undecodable += dump.undecodable;
        self.first_error = self.first_error.take().or(dump.first_error);
        for message in dump.messages {
            match message {
                KernelMessage::NewNexthop(nexthop) => self.nexthops.push(nexthop),
                KernelMessage::Route(message) => match message {
                    RouteNetlinkMessage::NewLink(link) => self.links.push(link),
                    RouteNetlinkMessage::NewAddress(address) => self.addresses.push(address),
                    RouteNetlinkMessage::NewRoute(route) => self.routes.push(route),
                    RouteNetlinkMessage::NewRule(rule) => self.rules.push(rule),
                    _ => {}
                },
                _ => {}
            }
        }
        Ok(())
    }
}

/// A table nobody has filled, next-hop objects in an old kernel, a kernel without IPv6.
fn not_there(error: &io::Error) -> bool {
    let absent = [libc::ENOENT, libc::EOPNOTSUPP, libc::EAFNOSUPPORT];
    error
        .raw_os_error()
        .is_some_and(|code| absent.contains(&code))
}
