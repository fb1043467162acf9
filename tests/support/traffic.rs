//! Traffic between the hosts of a lab: echo services, questions to them, captures.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use portcullis::dataplane::backend::pcap::CaptureReader;

use super::namespace::Namespace;
use super::{seconds, within};

/// How long a denied question waits for the answer that must not come.
const SILENCE: Duration = Duration::from_millis(700);
/// How long an allowed question may take on a busy machine.
const PATIENCE: Duration = seconds(3);

/// TCP and UDP echo on some ports of a host, for both families, until it is dropped.
pub struct Echo {
    stop: Arc<AtomicBool>,
}

impl Echo {
    /// Starts the services and returns when they listen.
    pub fn start(host: &Namespace, ports: &[u16]) -> Self {
        Self::start_at(host, "::".parse().expect("an address"), ports)
    }

    /// The same at one of several addresses: a datagram's answer comes from the address asked.
    pub fn start_at(host: &Namespace, address: IpAddr, ports: &[u16]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for &port in ports {
            let at = SocketAddr::new(address, port);
            let (tcp, udp) = host.enter(move || (TcpListener::bind(at), UdpSocket::bind(at)));
            let (tcp, udp) = (tcp.expect("a free port"), udp.expect("a free port"));
            let (stop_tcp, stop_udp) = (stop.clone(), stop.clone());
            std::thread::spawn(move || serve_tcp(&tcp, &stop_tcp));
            std::thread::spawn(move || serve_udp(&udp, &stop_udp));
        }
        Echo { stop }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

const POLL: Duration = Duration::from_millis(20);

fn serve_tcp(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    listener.set_nonblocking(true).expect("a socket of ours");
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let stop = stop.clone();
                std::thread::spawn(move || serve_connection(stream, &stop));
            }
            Err(_) => std::thread::sleep(POLL),
        }
    }
}

fn serve_connection(mut stream: TcpStream, stop: &AtomicBool) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(POLL));
    let mut buffer = [0; 4096];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => drop(stream.write_all(&buffer[..length])),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

fn serve_udp(socket: &UdpSocket, stop: &AtomicBool) {
    socket
        .set_read_timeout(Some(POLL))
        .expect("a socket of ours");
    let mut buffer = [0; 65536];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    }
}

/// An open TCP connection to an echo service.
pub struct Connection(TcpStream);

impl Connection {
    /// Opens one; `None` when nobody answers.
    pub fn open(from: &Namespace, to: IpAddr, port: u16) -> Option<Self> {
        Self::open_within(from, to, port, PATIENCE)
    }

    fn open_within(from: &Namespace, to: IpAddr, port: u16, limit: Duration) -> Option<Self> {
        let to = SocketAddr::new(to, port);
        let stream = from.enter(move || TcpStream::connect_timeout(&to, limit));
        stream.ok().map(Connection)
    }

    /// Sends a line and waits for it to come back.
    pub fn echoes(&mut self, limit: Duration) -> bool {
        self.send("a line\n");
        self.receives("a line\n", limit)
    }

    /// Sends without waiting.
    pub fn send(&mut self, text: &str) {
        let _ = self.0.write_all(text.as_bytes());
    }

    /// Waits for exactly this text to come.
    pub fn receives(&mut self, text: &str, limit: Duration) -> bool {
        let mut received = vec![0; text.len()];
        self.0
            .set_read_timeout(Some(limit))
            .expect("a socket of ours");
        self.0.read_exact(&mut received).is_ok() && received == text.as_bytes()
    }

    /// Sends this many bytes and compares what comes back.
    pub fn echoes_bytes(&mut self, length: usize) -> bool {
        let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        let mut writer = self.0.try_clone().expect("a socket of ours");
        let to_send = sent.clone();
        let sender = std::thread::spawn(move || writer.write_all(&to_send));
        let mut received = vec![0; length];
        self.0
            .set_read_timeout(Some(seconds(10)))
            .expect("a socket of ours");
        let read = self.0.read_exact(&mut received);
        let _ = sender.join();
        read.is_ok() && received == sent
    }
}

/// Does a TCP echo service answer?
pub fn tcp(from: &Namespace, to: IpAddr, port: u16) -> bool {
    Connection::open(from, to, port).is_some_and(|mut open| open.echoes(PATIENCE))
}

/// Is a TCP service unreachable? Waits for a moment of silence.
pub fn tcp_denied(from: &Namespace, to: IpAddr, port: u16) -> bool {
    Connection::open_within(from, to, port, SILENCE).is_none()
}

/// Does a UDP echo service answer a datagram of this length?
pub fn udp(from: &Namespace, to: IpAddr, port: u16, length: usize) -> bool {
    // A datagram may be lost on a busy machine.
    within(PATIENCE, || udp_once(from, to, port, length, seconds(1)))
}

/// Is a UDP service unreachable?
pub fn udp_denied(from: &Namespace, to: IpAddr, port: u16) -> bool {
    !udp_once(from, to, port, 10, SILENCE)
}

fn udp_once(from: &Namespace, to: IpAddr, port: u16, length: usize, limit: Duration) -> bool {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = from.enter(move || UdpSocket::bind(any)).expect("a socket");
    let sent: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    // Connected, as the box's own clients must be to be told from its services.
    socket.connect(SocketAddr::new(to, port)).expect("a route");
    let _ = socket.send(&sent);
    socket
        .set_read_timeout(Some(limit))
        .expect("a socket of ours");
    let mut received = vec![0; length + 1];
    socket
        .recv(&mut received)
        .is_ok_and(|count| received[..count] == sent)
}

/// Does an echo request get its reply?
pub fn ping(from: &Namespace, to: IpAddr) -> bool {
    let to = to.to_string();
    within(PATIENCE, || {
        let output = from.output(&["ping", "-q", "-c1", "-W1", &to]);
        output.status.success()
    })
}

/// Is an echo request lost?
pub fn ping_denied(from: &Namespace, to: IpAddr) -> bool {
    let output = from.output(&["ping", "-q", "-c1", "-W0.7", &to.to_string()]);
    !output.status.success()
}

/// Frames an interface receives, as tcpdump writes them.
pub struct Capture {
    tcpdump: Child,
    file: tempfile::NamedTempFile,
}

impl Capture {
    /// Starts to capture what matches a filter.
    pub fn start(host: &Namespace, interface: &str, filter: &str) -> Self {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = host.command("tcpdump");
        command
            .args([
                "-i",
                interface,
                "-U",
                "--immediate-mode",
                "-Z",
                "root",
                "-w",
            ])
            .arg(file.path())
            .arg(filter)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut tcpdump = command.spawn().expect("tcpdump is installed");
        // It says "listening on" when it does.
        let mut told = [0; 1];
        let stderr = tcpdump.stderr.as_mut().expect("it is piped");
        stderr.read_exact(&mut told).expect("tcpdump starts");
        Capture { tcpdump, file }
    }

    /// Ends the capture; gives the frames.
    pub fn stop(mut self) -> Vec<Vec<u8>> {
        std::thread::sleep(Duration::from_millis(100));
        let _ = self.tcpdump.kill();
        let _ = self.tcpdump.wait();
        let mut frames = Vec::new();
        let mut reader = CaptureReader::open(self.file.path()).expect("tcpdump writes captures");
        while let Ok(Some(frame)) = reader.next_frame() {
            frames.push(frame.bytes.to_vec());
        }
        frames
    }
}

/// Sends raw Ethernet frames out of an interface.
pub fn inject(host: &Namespace, interface: &str, frames: &[Vec<u8>]) {
    for frame in frames {
        let mut command = host.command("socat");
        let address = format!("INTERFACE:{interface}");
        command.args(["-u", "-", &address]).stdin(Stdio::piped());
        let mut socat = command.spawn().expect("socat is installed");
        let stdin = socat.stdin.take();
        stdin
            .expect("it is piped")
            .write_all(frame)
            .expect("socat reads");
        assert!(socat.wait().expect("it is ours").success());
    }
}
