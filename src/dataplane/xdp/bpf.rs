//! The BPF calls this program needs, each made safe: objects, maps, links, pins, queries.
//!
//! Everything goes through the libbpf that the `afxdp` crate links; nothing here knows what the
//! program is for.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr;
use std::sync::Once;

use libbpf_sys as sys;

/// How a link attaches to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkMode {
    /// `XDP_FLAGS_DRV_MODE`.
    Driver,
    /// `XDP_FLAGS_SKB_MODE`.
    Generic,
}

/// What is attached to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachedProgram {
    /// The kernel's id of the program.
    pub id: u32,
    /// How it is attached; `None` when in several ways at once, or in hardware.
    pub mode: Option<LinkMode>,
}

/// An XDP link as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkDescription {
    /// The kernel's id of the link.
    pub id: u32,
    /// The program it holds.
    pub program_id: u32,
    /// The interface, 0 when it is gone. Of whichever namespace the interface is in.
    pub ifindex: u32,
}

/// A loaded object: its program and its maps.
#[derive(Debug)]
pub struct LoadedObject {
    /// The program.
    pub program: OwnedFd,
    /// The maps, in the order they were asked for.
    pub maps: Vec<Map>,
}

/// A map of a loaded object.
#[derive(Debug)]
pub struct Map {
    descriptor: OwnedFd,
    key_bytes: usize,
    /// Of one CPU, for a per-CPU map.
    value_bytes: usize,
    /// Values a key has: more than one for a per-CPU map.
    values: usize,
}

/// Loads an object and keeps its program and the maps of these names. The error's text holds what
/// libbpf and the verifier said.
pub fn load_object(object: &[u8], program: &CStr, maps: &[&CStr]) -> io::Result<LoadedObject> {
    capture_messages();
    MESSAGES.with_borrow_mut(String::clear);
    let loaded = load(object, program, maps);
    loaded.map_err(|error| {
        let messages = MESSAGES.with_borrow_mut(std::mem::take);
        match messages.trim() {
            "" => error,
            text => io::Error::new(error.kind(), format!("{error}: {text}")),
        }
    })
}

fn load(object: &[u8], program: &CStr, maps: &[&CStr]) -> io::Result<LoadedObject> {
    // SAFETY: libbpf only reads the buffer, within the length given, and copies what it keeps; null
    // options are permitted.
    let opened = unsafe {
        sys::bpf_object__open_mem(object.as_ptr().cast(), object.len() as _, ptr::null())
    };
    // SAFETY: libbpf encodes errors in the pointer; the call only looks at its value.
    let error = unsafe { sys::libbpf_get_error(opened.cast()) };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error.unsigned_abs() as i32));
    }
    let result = load_opened(opened, program, maps);
    // SAFETY: `opened` is the valid object from above and is not used afterwards; the descriptors
    // kept are duplicates.
    unsafe { sys::bpf_object__close(opened) };
    result
}

fn load_opened(
    opened: *mut sys::bpf_object,
    program: &CStr,
    maps: &[&CStr],
) -> io::Result<LoadedObject> {
    // SAFETY: the caller gives a valid object.
    negated(unsafe { sys::bpf_object__load(opened) })?;
    // SAFETY: valid object, terminated name; the result is null or lives as long as the object.
    let found = unsafe { sys::bpf_object__find_program_by_name(opened, program.as_ptr()) };
    if found.is_null() {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: a program of a loaded object.
    let program = duplicate(unsafe { sys::bpf_program__fd(found) })?;
    let map = |name: &&CStr| {
        // SAFETY: valid object, terminated name; the result is null or lives as long as the object.
        let found = unsafe { sys::bpf_object__find_map_by_name(opened, name.as_ptr()) };
        if found.is_null() {
            return Err(io::ErrorKind::NotFound.into());
        }
        // SAFETY: a map of a loaded object.
        unsafe { Map::of(found) }
    };
    let maps = maps.iter().map(map).collect::<io::Result<_>>()?;
    Ok(LoadedObject { program, maps })
}

/// A duplicate of a descriptor that libbpf owns.
fn duplicate(descriptor: c_int) -> io::Result<OwnedFd> {
    negated(descriptor)?;
    // SAFETY: the descriptor is open: it belongs to an object that the caller holds.
    unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()
}

impl Map {
    /// # Safety
    /// `map` is a map of a loaded object.
    unsafe fn of(map: *const sys::bpf_map) -> io::Result<Self> {
        // SAFETY: the caller's promise, for all four.
        unsafe {
            let per_cpu = sys::bpf_map__type(map) == sys::BPF_MAP_TYPE_PERCPU_ARRAY;
            Ok(Map {
                descriptor: duplicate(sys::bpf_map__fd(map))?,
                key_bytes: sys::bpf_map__key_size(map) as usize,
                value_bytes: sys::bpf_map__value_size(map) as usize,
                values: if per_cpu { possible_cpus()? } else { 1 },
            })
        }
    }

    /// Stores a value.
    ///
    /// # Panics
    /// When key or value are not of the map's sizes, or the map is per CPU.
    pub fn update(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        assert_eq!((key.len(), value.len()), (self.key_bytes, self.value_bytes));
        assert_eq!(self.values, 1);
        // SAFETY: the kernel reads a key and a value of the sizes just checked.
        let result = unsafe {
            let (key, value) = (key.as_ptr().cast(), value.as_ptr().cast());
            sys::bpf_map_update_elem(self.descriptor.as_raw_fd(), key, value, 0)
        };
        from_errno(result).map(drop)
    }

    /// Reads the values of a key: one, or one of each CPU.
    ///
    /// # Panics
    /// When the key is not of the map's size.
    pub fn lookup(&self, key: &[u8]) -> io::Result<Vec<Vec<u8>>> {
        assert_eq!(key.len(), self.key_bytes);
        // The kernel pads the values of CPUs to eight bytes.
        let stride = self.value_bytes.next_multiple_of(8);
        let mut values = vec![0u8; stride * self.values];
        // SAFETY: the kernel reads a key of the size just checked, and writes as many values as
        // there are CPUs, each padded, or one.
        let result = unsafe {
            let (key, into) = (key.as_ptr().cast(), values.as_mut_ptr().cast());
            sys::bpf_map_lookup_elem(self.descriptor.as_raw_fd(), key, into)
        };
        from_errno(result)?;
        let each = values
            .chunks(stride)
            .map(|value| value[..self.value_bytes].to_vec());
        Ok(each.collect())
    }

    /// Removes a key; no error when it is not there.
    ///
    /// # Panics
    /// When the key is not of the map's size.
    pub fn delete(&self, key: &[u8]) -> io::Result<()> {
        assert_eq!(key.len(), self.key_bytes);
        let map = self.descriptor.as_raw_fd();
        // SAFETY: the kernel reads a key of the size just checked.
        let result = unsafe { sys::bpf_map_delete_elem(map, key.as_ptr().cast()) };
        match from_errno(result) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Number of values a per-CPU map has.
fn possible_cpus() -> io::Result<usize> {
    // SAFETY: no arguments.
    negated(unsafe { sys::libbpf_num_possible_cpus() }).map(|count| count as usize)
}

/// Attaches a program to an interface of the calling thread's network namespace.
pub fn link_create(program: BorrowedFd<'_>, ifindex: u32, mode: LinkMode) -> io::Result<OwnedFd> {
    let options = sys::bpf_link_create_opts {
        sz: size_of::<sys::bpf_link_create_opts>() as _,
        flags: match mode {
            LinkMode::Driver => sys::XDP_FLAGS_DRV_MODE,
            LinkMode::Generic => sys::XDP_FLAGS_SKB_MODE,
        },
        ..Default::default()
    };
    // SAFETY: the options are valid for their stated size and only read.
    let result = unsafe {
        sys::bpf_link_create(
            program.as_raw_fd(),
            ifindex as c_int,
            sys::BPF_XDP,
            &options,
        )
    };
    own(result)
}

/// Replaces the program of a link: every frame meets the one or the other.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: null options are permitted.
    let result =
        unsafe { sys::bpf_link_update(link.as_raw_fd(), program.as_raw_fd(), ptr::null()) };
    from_errno(result).map(drop)
}

/// Takes a link off its interface, whoever else holds it.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    from_errno(unsafe { sys::bpf_link_detach(link.as_raw_fd()) }).map(drop)
}

/// What the kernel says of an XDP link; `None` for a link of another type.
pub fn link_description(link: BorrowedFd<'_>) -> io::Result<Option<LinkDescription>> {
    let mut info = sys::bpf_link_info::default();
    object_info(link, &mut info)?;
    if info.type_ != sys::BPF_LINK_TYPE_XDP {
        return Ok(None);
    }
    Ok(Some(LinkDescription {
        id: info.id,
        program_id: info.prog_id,
        // SAFETY: the union's arm for the type just checked; all arms are plain numbers.
        ifindex: unsafe { info.__bindgen_anon_1.xdp.ifindex },
    }))
}

/// The XDP link that holds a program.
pub fn link_of_program(program_id: u32) -> io::Result<Option<OwnedFd>> {
    let mut id = 0;
    loop {
        // SAFETY: the kernel writes one number.
        let next = from_errno(unsafe { sys::bpf_link_get_next_id(id, &mut id) });
        match next {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => drop(other?),
        }
        // SAFETY: no pointers. A link that has gone since is skipped.
        let Ok(link) = own(unsafe { sys::bpf_link_get_fd_by_id(id) }) else {
            continue;
        };
        if link_description(link.as_fd())?.is_some_and(|link| link.program_id == program_id) {
            return Ok(Some(link));
        }
    }
}

/// The kernel's id of a program.
pub fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    let mut info = sys::bpf_prog_info::default();
    object_info(program, &mut info)?;
    Ok(info.id)
}

/// The name of a loaded program: at most 15 bytes.
pub fn program_name(id: u32) -> io::Result<String> {
    // SAFETY: no pointers.
    let program = own(unsafe { sys::bpf_prog_get_fd_by_id(id) })?;
    let mut info = sys::bpf_prog_info::default();
    object_info(program.as_fd(), &mut info)?;
    let bytes = info.name.iter().take_while(|c| **c != 0);
    let bytes: Vec<u8> = bytes.map(|c| *c as u8).collect();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Fills `info`, one of the kernel's information structures, from a descriptor.
fn object_info<T: Copy>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut size = size_of::<T>() as u32;
    let into: *mut c_void = ptr::from_mut(info).cast();
    // SAFETY: the kernel writes at most `size` bytes into `info`, a C structure of numbers for
    // which any bytes are valid (and private callers pass no other); pointers inside are null.
    let result = unsafe { sys::bpf_obj_get_info_by_fd(object.as_raw_fd(), into, &mut size) };
    from_errno(result).map(drop)
}

/// Pins a link, program or map. The path is the calling thread's.
pub fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a terminated path, only read.
    from_errno(unsafe { sys::bpf_obj_pin(object.as_raw_fd(), path.as_ptr()) }).map(drop)
}

/// Opens a pinned object.
pub fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: a terminated path, only read.
    own(unsafe { sys::bpf_obj_get(path.as_ptr()) })
}

/// Instructions the verifier walked through to accept a program; `None` where the kernel does not
/// tell (before Linux 5.16).
#[cfg(test)]
pub fn verified_instructions(program: BorrowedFd<'_>) -> io::Result<Option<u32>> {
    /// `struct bpf_prog_info` goes on behind what this libbpf knows of it.
    #[derive(Clone, Copy, Default)]
    #[repr(C)]
    struct Longer {
        known: sys::bpf_prog_info,
        recursion_misses: u64,
        verified_instructions: u32,
        attach_btf_object_id: u32,
    }
    let mut info = Longer::default();
    object_info(program, &mut info)?;
    Ok(Some(info.verified_instructions).filter(|count| *count > 0))
}

/// Runs a program on one frame, as if it had arrived on the loopback interface: its verdict.
#[cfg(test)]
pub fn test_run(program: BorrowedFd<'_>, frame: &[u8]) -> io::Result<u32> {
    let (mut frame, mut verdict) = (frame.to_vec(), 0);
    let (data, size) = (frame.as_mut_ptr().cast(), frame.len() as u32);
    let (none, no_size) = (ptr::null_mut(), ptr::null_mut());
    let program = program.as_raw_fd();
    // SAFETY: the kernel reads `size` bytes of `data` and writes one number; null is permitted for
    // what is not wanted.
    let result = unsafe {
        sys::bpf_prog_test_run(program, 1, data, size, none, no_size, &mut verdict, no_size)
    };
    from_errno(result).map(|_| verdict)
}

/// What is attached to an interface of the calling thread's network namespace.
pub fn attached_program(ifindex: u32) -> io::Result<Option<AttachedProgram>> {
    let mut info = sys::xdp_link_info::default();
    let size = size_of::<sys::xdp_link_info>() as _;
    // SAFETY: libbpf writes at most `size` bytes of plain numbers.
    negated(unsafe { sys::bpf_get_link_xdp_info(ifindex as c_int, &mut info, size, 0) })?;
    let (id, mode) = match u32::from(info.attach_mode) {
        sys::XDP_ATTACHED_NONE => return Ok(None),
        sys::XDP_ATTACHED_DRV => (info.prog_id, Some(LinkMode::Driver)),
        sys::XDP_ATTACHED_SKB => (info.prog_id, Some(LinkMode::Generic)),
        sys::XDP_ATTACHED_MULTI => (info.drv_prog_id, None),
        _ => (info.prog_id, None),
    };
    Ok(Some(AttachedProgram { id, mode }))
}

/// The raw calls answer -1 and leave the reason in `errno`.
fn from_errno(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(result)
}

/// libbpf's own functions answer the negated reason.
fn negated(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        return Err(io::Error::from_raw_os_error(-result));
    }
    Ok(result)
}

fn own(result: c_int) -> io::Result<OwnedFd> {
    let descriptor = from_errno(result)?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Text kept of what libbpf says: the end of a verifier's log is the part that tells.
const MESSAGES_BYTES_MAX: usize = 4096;

thread_local! {
    static MESSAGES: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps libbpf's warnings for the errors of the calling thread, instead of printing them.
fn capture_messages() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: the function given has the signature libbpf calls.
        unsafe { sys::libbpf_set_print(Some(keep_message)) };
    });
}

unsafe extern "C" {
    fn vsnprintf(
        into: *mut c_char,
        size: usize,
        format: *const c_char,
        arguments: *mut sys::__va_list_tag,
    ) -> c_int;
}

unsafe extern "C" fn keep_message(
    level: sys::libbpf_print_level,
    format: *const c_char,
    arguments: *mut sys::__va_list_tag,
) -> c_int {
    if level != sys::LIBBPF_WARN {
        return 0;
    }
    let mut text = vec![0u8; 4 * MESSAGES_BYTES_MAX];
    // SAFETY: libbpf passes a printf format with its arguments; on x86-64 a C `va_list` parameter
    // is the pointer received here. At most `len` bytes are written, terminated.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        vsnprintf(text.as_mut_ptr().cast(), text.len(), format, arguments);
    }
    // Elsewhere a `va_list` is no pointer: the format without its arguments has to do.
    // SAFETY: a terminated string from libbpf, copied within the buffer's length.
    #[cfg(not(target_arch = "x86_64"))]
    unsafe {
        let _ = (arguments, vsnprintf as *const ());
        libc::strncpy(text.as_mut_ptr().cast(), format, text.len() - 1);
    }
    let end = text.iter().position(|byte| *byte == 0).unwrap_or(0);
    let line = String::from_utf8_lossy(&text[..end]);
    // Re-entry or thread exit: the message is lost, nothing else.
    let _ = MESSAGES.try_with(|messages| {
        if let Ok(mut messages) = messages.try_borrow_mut() {
            messages.push_str(&line);
            if messages.len() > MESSAGES_BYTES_MAX {
                let cut = messages.len() - MESSAGES_BYTES_MAX;
                let cut = (cut..).find(|at| messages.is_char_boundary(*at));
                messages.drain(..cut.unwrap_or(0));
            }
        }
    });
    0
}
