//! Opening all ports: steering first, so that they are closed, then the sockets.

use std::io;
use std::thread::{self, ScopedJoinHandle};

use super::area::{Area, WORKER_QUEUES_MAX};
use super::control::open_queue;
use super::error::{AfXdpError, mtu_max};
use super::socket::{Socket, SocketRequest};
use super::{AfXdpIo, IoOptions, OpenPorts, PortRequest, QueueSelection, ZeroCopy};
use crate::dataplane::frame::BATCH_FRAMES_MAX;
use crate::dataplane::xdp::ethtool::Ethtool;
use crate::dataplane::xdp::{AttachedMode, Steering};

/// Sizes a UMEM frame can have here: powers of two, a page at the most.
pub const FRAME_SIZES: [u32; 2] = [2048, 4096];

/// Ethernet header and two VLAN tags: what comes on top of the MTU.
pub const LINK_HEADER_BYTES: u32 = 14 + 2 * 4;

/// A port whose numbers are settled.
struct Plan<'a> {
    request: &'a PortRequest,
    queues: Vec<u32>,
    frame_size_bytes: u32,
}

/// Attaches every port's steering program and opens every queue's socket: at no moment do frames
/// reach the kernel unfiltered. On an error nothing stays attached that was not before.
pub fn open_ports(ports: &[PortRequest], options: &IoOptions) -> Result<OpenPorts, AfXdpError> {
    if ports.is_empty() || options.workers == 0 {
        return Err(AfXdpError::NoPorts);
    }
    let ethtool = Ethtool::open().map_err(|source| AfXdpError::Interface {
        interface: "any".to_owned(),
        action: "open a socket to ask",
        source,
    })?;
    let plans = ports.iter().map(|request| plan(&ethtool, request));
    let plans: Vec<Plan> = plans.collect::<Result<_, _>>()?;
    // A worker sends by queues of its own: with none at a port, it could forward nothing to it.
    if let Some(plan) = plans.iter().find(|p| p.queues.len() < options.workers) {
        return Err(AfXdpError::TooFewQueues {
            interface: plan.request.steering.interface.clone(),
            queues: plan.queues.len(),
            workers: options.workers,
        });
    }

    let mut steering = Vec::new();
    let opened = attach_and_open(&plans, options, &mut steering);
    match opened {
        Ok(workers) => Ok(OpenPorts { steering, workers }),
        Err(error) => {
            // A port that was pinned before stays closed; one that was not is left as it was found.
            for port in steering.into_iter().filter(|port| !port.taken_over()) {
                let _ = port.detach();
            }
            Err(error)
        }
    }
}

/// The kernel takes its time to verify programs, and to hand out memory: both at once, because a
/// restart is closed for as long.
fn attach_and_open(
    plans: &[Plan],
    options: &IoOptions,
    steering: &mut Vec<Steering>,
) -> Result<Vec<AfXdpIo>, AfXdpError> {
    let (attached, areas) = thread::scope(|scope| {
        let areas = scope.spawn(|| map_areas(plans, options));
        (attach_all(plans, steering), joined(areas))
    });
    let areas = areas?;
    if let Err(error) = attached {
        areas.iter().for_each(Area::discard);
        return Err(error);
    }
    let workers = areas.into_iter().enumerate();
    workers
        .map(|(worker, area)| open_worker(plans, steering, options, worker, area))
        .collect()
}

/// One thread a port: the kernel verifies each port's program anew and waits for the frames under
/// way in the old one, and a restart is closed for as long.
fn attach_all(plans: &[Plan], steering: &mut Vec<Steering>) -> Result<(), AfXdpError> {
    let results: Vec<_> = thread::scope(|scope| {
        let attach = |plan: &Plan| Steering::attach(&plan.request.steering);
        let threads: Vec<_> = plans
            .iter()
            .map(|plan| scope.spawn(move || attach(plan)))
            .collect();
        threads.into_iter().map(joined).collect()
    });
    let mut outcome = Ok(());
    for result in results {
        match result {
            // Also beside a failure: the caller takes it back.
            Ok(attached) => steering.push(attached),
            Err(error) => outcome = outcome.and(Err(error.into())),
        }
    }
    outcome
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    let result = thread.join();
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The queues a worker serves, each with its port's place in `plans`.
fn worker_queues(plans: &[Plan], options: &IoOptions, worker: usize) -> Vec<(usize, u32)> {
    let of_port = |(port, plan): (usize, &Plan)| {
        let ours = plan.queues.iter().skip(worker).step_by(options.workers);
        ours.map(|queue| (port, *queue)).collect::<Vec<_>>()
    };
    plans.iter().enumerate().flat_map(of_port).collect()
}

/// Every worker's memory, its pages in place.
fn map_areas(plans: &[Plan], options: &IoOptions) -> Result<Vec<Area>, AfXdpError> {
    let frame_size_bytes = plans.iter().map(|plan| plan.frame_size_bytes).max();
    let map = |worker| {
        let queues = worker_queues(plans, options, worker);
        if queues.len() > WORKER_QUEUES_MAX {
            return Err(AfXdpError::TooManyQueues {
                found: queues.len(),
            });
        }
        // Both rings of every queue full, a batch in hand, and what the data plane may keep.
        let rings = queues
            .iter()
            .map(|(port, _)| 2 * plans[*port].request.ring_frames as usize);
        let frames = rings.sum::<usize>() + BATCH_FRAMES_MAX + options.spare_frames;
        let area = Area::map(frames as u32, frame_size_bytes.unwrap_or(FRAME_SIZES[0]))?;
        area.populate();
        Ok(area)
    };
    (0..options.workers).map(map).collect()
}

fn open_worker(
    plans: &[Plan],
    steering: &[Steering],
    options: &IoOptions,
    worker: usize,
    area: Area,
) -> Result<AfXdpIo, AfXdpError> {
    let mut queues = Vec::new();
    let ours = worker_queues(plans, options, worker);
    for (slot, (port, queue)) in ours.into_iter().enumerate() {
        let plan = &plans[port];
        let request = socket_request(plan.request, &steering[port], queue, options.busy_poll_us);
        let socket = Socket::open(&area, &request)?;
        let (slot, busy_poll_us) = (slot as u8, options.busy_poll_us);
        queues.push(open_queue(slot, plan.request, queue, busy_poll_us, socket)?);
    }
    Ok(AfXdpIo::new(area, queues, options.busy_poll_us))
}

/// What to open one queue's socket with.
pub fn socket_request(
    request: &PortRequest,
    steering: &Steering,
    queue: u32,
    busy_poll_us: u32,
) -> SocketRequest {
    SocketRequest {
        interface: request.steering.interface.clone(),
        queue,
        ring_frames: request.ring_frames,
        zero_copy: match (steering.mode(), request.zero_copy) {
            // A zero-copy socket gets nothing from a generic program.
            (AttachedMode::Generic, ZeroCopy::Auto) => ZeroCopy::Never,
            (_, asked) => asked,
        },
        busy_poll_us,
    }
}

fn plan<'a>(ethtool: &Ethtool, request: &'a PortRequest) -> Result<Plan<'a>, AfXdpError> {
    let interface = &request.steering.interface;
    let failed = |action: &'static str| {
        let interface = interface.clone();
        move |source: io::Error| AfXdpError::Interface {
            interface,
            action,
            source,
        }
    };
    if !request.ring_frames.is_power_of_two() || !(64..=65536).contains(&request.ring_frames) {
        return Err(AfXdpError::RingSize {
            interface: interface.clone(),
            found: request.ring_frames,
        });
    }
    let mtu_bytes = ethtool
        .mtu_bytes(interface)
        .map_err(failed("read its MTU"))?;
    let queues = ethtool
        .receive_queues(interface)
        .map_err(failed("count its queues"))?;
    Ok(Plan {
        request,
        queues: select_queues(interface, &request.queues, queues)?,
        frame_size_bytes: frame_size(interface, mtu_bytes, request.frame_size_bytes)?,
    })
}

fn select_queues(
    interface: &str,
    selection: &QueueSelection,
    queues: u32,
) -> Result<Vec<u32>, AfXdpError> {
    let selected: Vec<u32> = match selection {
        QueueSelection::All => (0..queues).collect(),
        QueueSelection::First(count) => (0..*count).collect(),
        QueueSelection::List(list) => list.clone(),
    };
    match selected.iter().find(|queue| **queue >= queues) {
        Some(queue) => Err(AfXdpError::NoSuchQueue {
            interface: interface.to_owned(),
            queue: *queue,
            queues,
        }),
        None => Ok(selected),
    }
}

fn frame_size(interface: &str, mtu_bytes: u32, asked: Option<u32>) -> Result<u32, AfXdpError> {
    let size = match asked {
        Some(size) if !FRAME_SIZES.contains(&size) => {
            return Err(AfXdpError::FrameSize {
                interface: interface.to_owned(),
                found: size,
            });
        }
        Some(size) => size,
        None => {
            let fitting = FRAME_SIZES.iter().find(|size| mtu_bytes <= mtu_max(**size));
            *fitting.unwrap_or(&FRAME_SIZES[FRAME_SIZES.len() - 1])
        }
    };
    if mtu_bytes > mtu_max(size) {
        return Err(AfXdpError::MtuTooLarge {
            interface: interface.to_owned(),
            mtu_bytes,
            frame_size_bytes: size,
        });
    }
    Ok(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_frame_that_holds_the_mtu_is_chosen() {
        assert_eq!(frame_size("a", 1500, None).unwrap(), 2048);
        assert_eq!(frame_size("a", 1770, None).unwrap(), 2048);
        assert_eq!(frame_size("a", 1771, None).unwrap(), 4096);
        assert_eq!(frame_size("a", 3818, None).unwrap(), 4096);
        assert_eq!(frame_size("a", 1500, Some(4096)).unwrap(), 4096);
    }

    #[test]
    fn too_large_an_mtu_names_what_fits() {
        let error = frame_size("eth7", 9000, None).unwrap_err().to_string();
        assert!(error.contains("eth7") && error.contains("9000"), "{error}");
        assert!(
            error.ends_with("run: ip link set dev eth7 mtu 3818"),
            "{error}"
        );
        let error = frame_size("eth7", 1771, Some(2048))
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("mtu 1770"), "{error}");
        let error = frame_size("eth7", 1500, Some(1024))
            .unwrap_err()
            .to_string();
        assert!(error.ends_with("allowed: [2048, 4096]"), "{error}");
    }

    #[test]
    fn queues_are_selected_among_those_there_are() {
        let select = |selection| select_queues("a", &selection, 4);
        assert_eq!(select(QueueSelection::All).unwrap(), [0, 1, 2, 3]);
        assert_eq!(select(QueueSelection::First(2)).unwrap(), [0, 1]);
        assert_eq!(select(QueueSelection::List(vec![3, 1])).unwrap(), [3, 1]);
        assert!(select(QueueSelection::First(5)).is_err());
        let error = select(QueueSelection::List(vec![4])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "interface a has 4 receive queues, none numbered 4"
        );
    }
}
