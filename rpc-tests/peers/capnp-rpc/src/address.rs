//! Listening and connecting on `host:port` and `unix:/path`.

use std::io;
use std::os::fd::AsFd;

use futures::AsyncReadExt;
use futures::io::{BufReader, BufWriter, ReadHalf, WriteHalf};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

/// Any stream that messages can go over.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

/// The reading half of a connection.
pub(crate) type Reading = BufReader<ReadHalf<Compat<Box<dyn Stream>>>>;
/// The writing half of a connection.
pub(crate) type Writing = BufWriter<WriteHalf<Compat<Box<dyn Stream>>>>;

/// A connection, and a second handle on its socket to shut it down by.
pub(crate) struct Socket {
    pub(crate) reading: Reading,
    pub(crate) writing: Writing,
    pub(crate) handle: socket2::Socket,
}

impl Socket {
    fn new<S: Stream + AsFd + 'static>(stream: S) -> io::Result<Self> {
        let handle = socket2::Socket::from(stream.as_fd().try_clone_to_owned()?);
        let stream: Box<dyn Stream> = Box::new(stream);
        let (reading, writing) = stream.compat().split();
        Ok(Self { reading: BufReader::new(reading), writing: BufWriter::new(writing), handle })
    }
}

fn unix_path(address: &str) -> Option<&str> {
    address.strip_prefix("unix:")
}

/// Connects to a server.
pub(crate) async fn connect(address: &str) -> io::Result<Socket> {
    if let Some(path) = unix_path(address) {
        Socket::new(UnixStream::connect(path).await?)
    } else {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Socket::new(stream)
    }
}

/// A socket that listens.
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    /// Listens, and tells the address with the port that was really taken.
    pub(crate) async fn bind(address: &str) -> io::Result<(Self, String)> {
        if let Some(path) = unix_path(address) {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            return Ok((Self::Unix(UnixListener::bind(path)?), address.to_owned()));
        }
        let listener = TcpListener::bind(address).await?;
        let actual = listener.local_addr()?.to_string();
        Ok((Self::Tcp(listener), actual))
    }

    /// Waits for the next client.
    pub(crate) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Socket::new(stream)
            }
            Self::Unix(listener) => Socket::new(listener.accept().await?.0),
        }
    }
}
