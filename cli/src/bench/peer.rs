//! The other process of a limit: the bench runs itself again as a child that connects back.
//!
//! Two processes and not two threads, since that is what a broker and its client are: address
//! spaces are switched and nothing is shared but the kernel.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use highwater_storage::map::Map;

/// Bytes that are handed to the kernel at once; fits into the second level cache.
pub(crate) const CHUNK_BYTES: usize = 1 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Arguments of the hidden `bench peer`.
#[derive(Debug, Args)]
pub(crate) struct PeerArgs {
    #[arg(long)]
    role: Role,
    #[arg(long)]
    connect: SocketAddr,
    /// Bytes to send in all, or bytes of one echo
    #[arg(long)]
    bytes: u64,
    #[arg(long)]
    file: Option<PathBuf>,
}

/// What the other process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Sends the same buffer over and over.
    Send,
    /// Sends a file that is mapped into memory.
    SendFile,
    /// Returns every message of `bytes` bytes.
    Echo,
}

/// Runs as the child. A connection that the parent closed is the normal end.
pub(crate) fn run_peer(args: &PeerArgs) -> Result<()> {
    let mut stream = TcpStream::connect(args.connect).context("the bench is gone")?;
    stream.set_nodelay(true)?;
    let map = match &args.file {
        Some(path) => {
            let context = || format!("mapping {}", path.display());
            Some(mapped(path, args.bytes).with_context(context)?)
        }
        None => None,
    };
    let mut go = [0];
    let outcome = stream.read_exact(&mut go).and_then(|()| match args.role {
        Role::Send => send(&mut stream, args.bytes),
        Role::SendFile => map
            .as_deref()
            .map_or(Ok(()), |map| send_file(&mut stream, map)),
        Role::Echo => echo(&mut stream, args.bytes),
    });
    match outcome {
        Ok(()) => Ok(()),
        Err(error) if parent_is_done(error.kind()) => Ok(()),
        Err(error) => Err(error).context("peer of the bench"),
    }
}

fn parent_is_done(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof
    )
}

fn send(stream: &mut TcpStream, bytes: u64) -> io::Result<()> {
    let buffer = patterned_bytes(CHUNK_BYTES);
    let mut left = bytes;
    while left > 0 {
        let chunk = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        stream.write_all(&buffer[..chunk])?;
        left -= chunk as u64;
    }
    Ok(())
}

/// The file in memory, ready to be sent: it is in the page cache and in the page tables, as what a
/// broker has just written is.
fn mapped(path: &Path, bytes: u64) -> Result<Arc<Map>> {
    let length = usize::try_from(bytes)?;
    let map = Map::of_finished_file(&File::open(path)?, length)?;
    map.populate_read(0..length)?;
    Ok(map)
}

fn send_file(stream: &mut TcpStream, map: &Map) -> io::Result<()> {
    for start in (0..map.length()).step_by(CHUNK_BYTES) {
        stream.write_all(map.bytes(start..map.length().min(start + CHUNK_BYTES)))?;
    }
    Ok(())
}

fn echo(stream: &mut TcpStream, bytes: u64) -> io::Result<()> {
    let mut message = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}

/// Bytes without a run that some layer could shortcut.
pub(crate) fn patterned_bytes(length: usize) -> Vec<u8> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// The child and our end of the connection to it; dropped, the child ends.
#[derive(Debug)]
pub(crate) struct Peer {
    child: Child,
    stream: TcpStream,
}

impl Peer {
    /// Starts the child and waits until it is connected; it does nothing before [`Peer::go`].
    pub(crate) fn start(role: Role, bytes: u64, file: Option<&Path>) -> Result<Peer> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let program = std::env::current_exe().context("finding the bench's own executable")?;
        let role = role.to_possible_value().context("every role has a name")?;
        let mut command = Command::new(program);
        command.args(["bench", "peer", "--role", role.get_name()]);
        command.args(["--connect", &listener.local_addr()?.to_string()]);
        command.args(["--bytes", &bytes.to_string()]);
        if let Some(file) = file {
            command.arg("--file").arg(file);
        }
        let mut child = command
            .stdin(Stdio::null())
            .spawn()
            .context("starting the peer process")?;
        match accept_from(&listener, &mut child) {
            Ok(stream) => Ok(Peer { child, stream }),
            Err(error) => {
                // It is ours and of no use; that it may already be gone is fine.
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// Lets the child begin.
    pub(crate) fn go(&mut self) -> io::Result<()> {
        self.stream.write_all(&[1])
    }

    /// Our end of the connection.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Either may fail only because the child has ended, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Accepts the child's connection without waiting for a child that died or hangs.
fn accept_from(listener: &TcpListener, child: &mut Child) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + CONNECT_TIMEOUT;
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false)?;
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("accepting the peer process"),
        }
        if let Some(status) = child.try_wait()? {
            bail!("the peer process ended before it connected: {status}");
        }
        if Instant::now() > deadline {
            bail!("the peer process did not connect within {CONNECT_TIMEOUT:?}");
        }
        thread::sleep(Duration::from_millis(1));
    }
}
