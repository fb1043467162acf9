//! How the program gets onto an interface: a new link, or the one an earlier process left.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::bpf::{self, AttachedProgram, LinkMode, LoadedObject};
use super::maps::{MAP_NAMES, Maps};
use super::pin::{PinDirectory, PortPins, RETRY_FOR, RETRY_PAUSE};
use super::{AttachMode, AttachRequest, Attachment, Steering, XdpError};

/// The compiled `steer.c`.
const OBJECT: &[u8] = include_bytes!("steer.o");
const PROGRAM: &std::ffi::CStr = c"portcullis";

/// A link that holds our program on the interface, and is pinned.
pub struct Placed {
    pub link: OwnedFd,
    pub mode: LinkMode,
    pub taken_over: bool,
}

/// See [`Steering::attach`].
pub fn attach(request: &AttachRequest) -> Result<Steering, XdpError> {
    let ifindex = interface_index(&request.interface)?;
    // The lock before everything else: a port in use is left as it is.
    let pins = PinDirectory::open(&request.pin_directory)?.lock_port(&request.interface)?;
    let object = load()?;
    let mut maps = Maps::new(object.maps);
    maps.configure(request)?;
    let program_id = bpf::program_id(object.program.as_fd());
    let program_id = program_id.map_err(|source| XdpError::Load { source })?;
    let placed = place(request, ifindex, &object.program, &pins)?;
    Ok(Steering {
        request: request.clone(),
        ifindex,
        mode: placed.mode,
        taken_over: placed.taken_over,
        program: object.program,
        program_id,
        maps,
        link: placed.link,
        pins,
    })
}

/// Loads the object, for one port.
pub fn load() -> Result<LoadedObject, XdpError> {
    let object = bpf::load_object(OBJECT, PROGRAM, &MAP_NAMES);
    object.map_err(|source| XdpError::Load { source })
}

/// See [`super::attachment`].
pub fn attachment(interface: &str) -> Result<Option<Attachment>, XdpError> {
    let ifindex = interface_index(interface)?;
    let attached = attached_program(interface, ifindex)?;
    Ok(attached.map(|attached| {
        // Only a privileged process may ask for the name.
        let program = bpf::program_name(attached.id).unwrap_or_default();
        Attachment {
            program_id: attached.id,
            mode: attached.mode.map(Into::into),
            ours: program.as_bytes() == PROGRAM.to_bytes(),
            program,
        }
    }))
}

/// Puts the program on the interface. Its maps are filled: it judges from the first frame on.
pub fn place(
    request: &AttachRequest,
    ifindex: u32,
    program: &OwnedFd,
    pins: &PortPins,
) -> Result<Placed, XdpError> {
    let interface = &request.interface;
    if let Some(attached) = attached_program(interface, ifindex)? {
        let (link, pinned) = link_of_ours(interface, &attached, pins)?;
        let mode = check_mode(request, &attached)?;
        bpf::link_update(link.as_fd(), program.as_fd())
            .map_err(|source| attach_error(interface, mode, source))?;
        if !pinned {
            pins.pin_link(link.as_fd())?;
        }
        return Ok(Placed {
            link,
            mode,
            taken_over: true,
        });
    }
    let (link, mode) = create_link(request, ifindex, program.as_fd())?;
    // Replaces a pin whose interface is gone.
    pins.pin_link(link.as_fd())?;
    Ok(Placed {
        link,
        mode,
        taken_over: false,
    })
}

/// The link of the program attached, if it is ours: pinned, or of our program's name (moved here
/// with its interface, or its pin was removed). And whether it is pinned.
fn link_of_ours(
    interface: &str,
    attached: &AttachedProgram,
    pins: &PortPins,
) -> Result<(OwnedFd, bool), XdpError> {
    let failed = |source| interface_error(interface, "find the link of its XDP program", source);
    if let Some(link) = pins.link()? {
        let description = bpf::link_description(link.as_fd()).map_err(failed)?;
        if description.is_some_and(|link| link.program_id == attached.id) {
            return Ok((link, true));
        }
    }
    let name = bpf::program_name(attached.id).unwrap_or_default();
    let link = bpf::link_of_program(attached.id).map_err(failed)?;
    match link {
        Some(link) if name.as_bytes() == PROGRAM.to_bytes() => Ok((link, false)),
        link => Err(foreign(interface, attached, name, link)),
    }
}

fn foreign(
    interface: &str,
    attached: &AttachedProgram,
    program: String,
    link: Option<OwnedFd>,
) -> XdpError {
    let description = link.and_then(|link| bpf::link_description(link.as_fd()).ok().flatten());
    XdpError::Foreign {
        interface: interface.to_owned(),
        program_id: attached.id,
        program,
        command: match description {
            Some(link) => format!("bpftool link detach id {}", link.id),
            None => format!("ip link set dev {interface} xdp off"),
        },
    }
}

/// A link's mode cannot be changed without taking it off for a moment.
fn check_mode(request: &AttachRequest, attached: &AttachedProgram) -> Result<LinkMode, XdpError> {
    let differs = |found, wanted| {
        Err(XdpError::ModeDiffers {
            interface: request.interface.clone(),
            found,
            wanted,
        })
    };
    match (request.mode, attached.mode) {
        (AttachMode::Native, Some(LinkMode::Generic)) => differs("generic", "native"),
        (AttachMode::Generic, Some(LinkMode::Driver)) => differs("native", "generic"),
        (_, Some(mode)) => Ok(mode),
        // An offloaded program, or several: never made by us.
        (AttachMode::Generic, None) => differs("another", "generic"),
        (_, None) => differs("another", "native"),
    }
}

fn create_link(
    request: &AttachRequest,
    ifindex: u32,
    program: BorrowedFd<'_>,
) -> Result<(OwnedFd, LinkMode), XdpError> {
    let interface = &request.interface;
    let try_mode = |mode| {
        let link = create_patiently(program, ifindex, mode);
        link.map(|link| (link, mode))
            .map_err(|source| attach_error(interface, mode, source))
    };
    match request.mode {
        AttachMode::Native => try_mode(LinkMode::Driver),
        AttachMode::Generic => try_mode(LinkMode::Generic),
        AttachMode::Auto => {
            // What native mode refuses (no support, MTU, queues) generic mode may do. A conflict
            // it reports again itself.
            try_mode(LinkMode::Driver).or_else(|_| try_mode(LinkMode::Generic))
        }
    }
}

/// A process that ends holds its interface a little longer: EBUSY, for a moment.
fn create_patiently(program: BorrowedFd<'_>, ifindex: u32, mode: LinkMode) -> io::Result<OwnedFd> {
    let since = Instant::now();
    loop {
        match bpf::link_create(program, ifindex, mode) {
            Err(error)
                if error.kind() == ErrorKind::ResourceBusy && since.elapsed() < RETRY_FOR =>
            {
                std::thread::sleep(RETRY_PAUSE);
            }
            result => return result,
        }
    }
}

/// Takes the program off and removes its pins.
pub fn detach(link: BorrowedFd<'_>, pins: PortPins) -> Result<(), XdpError> {
    match bpf::link_detach(link) {
        // The interface went before.
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => {}
        Err(source) => {
            return Err(interface_error("of the pin", "detach its program", source));
        }
        Ok(()) => {}
    }
    pins.remove()
}

/// What is attached to the interface.
pub fn attached_program(
    interface: &str,
    ifindex: u32,
) -> Result<Option<AttachedProgram>, XdpError> {
    bpf::attached_program(ifindex)
        .map_err(|source| interface_error(interface, "ask for its XDP program", source))
}

/// Index of an interface of this network namespace.
pub fn interface_index(interface: &str) -> Result<u32, XdpError> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};

    let failed = |error: rustix::io::Errno| interface_error(interface, "find it", error.into());
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).map_err(failed)?;
    netdevice::name_to_index(any, interface).map_err(|error| match error {
        rustix::io::Errno::NODEV => XdpError::InterfaceMissing {
            interface: interface.to_owned(),
        },
        other => failed(other),
    })
}

fn interface_error(interface: &str, action: &'static str, source: io::Error) -> XdpError {
    XdpError::Interface {
        interface: interface.to_owned(),
        action,
        source,
    }
}

fn attach_error(interface: &str, mode: LinkMode, source: io::Error) -> XdpError {
    let hint = match source.raw_os_error() {
        Some(libc::EEXIST) => {
            "; a macvlan or VLAN interface on top of it has a program already, or it has one in \
             the other mode"
        }
        Some(libc::EBUSY) => "; another program holds it",
        Some(libc::EOPNOTSUPP) => "; its driver has no native XDP: use mode generic or auto",
        Some(libc::ERANGE) => "; its MTU, or its veth peer's, is too large for native XDP",
        Some(libc::EINVAL) => "; the interface may have gone",
        Some(libc::EPERM) => "; the capability NET_ADMIN is missing",
        _ => "",
    };
    XdpError::Attach {
        interface: interface.to_owned(),
        mode: match mode {
            LinkMode::Driver => "native",
            LinkMode::Generic => "generic",
        },
        source,
        hint: hint.to_owned(),
    }
}
