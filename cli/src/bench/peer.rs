//! The other process of a limit: the bench runs itself again as a child that connects back.
//!
//! Two processes and not two threads, since that is what a broker and its client are: address
//! spaces are switched and nothing is shared but the kernel.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

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
    /// Sends a file with `sendfile`.
    SendFile,
    /// Returns every message of `bytes` bytes.
    Echo,
}

/// Runs as the child. A connection that the parent closed is the normal end.
pub(crate) fn run_peer(args: &PeerArgs) -> Result<()> {
    let mut stream = TcpStream::connect(args.connect).context("the bench is gone")?;
    stream.set_nodelay(true)?;
    let mut go = [0];
    let outcome = stream.read_exact(&mut go).and_then(|()| match args.role {
        Role::Send => send(&mut stream, args.bytes),
        Role::SendFile => send_file(&stream, args.file.as_deref(), args.bytes),
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

fn send_file(stream: &TcpStream, file: Option<&Path>, bytes: u64) -> io::Result<()> {
    let path = file.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "--file is missing"))?;
    let file = File::open(path)?;
    let mut left = bytes;
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX);
        let sent = rustix::fs::sendfile(stream, &file, None, wanted)?;
        if sent == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        left -= sent as u64;
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
