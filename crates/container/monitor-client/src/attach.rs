//! The client's side of an attach socket, be its owner our monitor or a conmon.

use std::io;
use std::path::Path;

use crate::connection::PacketSocket;

/// Most bytes of input in one packet.
const INPUT_PACKET: usize = 32 << 10;

/// Room for a packet of output: a byte that names the stream, and up to 8192 bytes.
const OUTPUT_PACKET: usize = 16 << 10;

/// A connection to a container's output and input.
#[derive(Debug)]
pub struct AttachConnection(PacketSocket);

impl AttachConnection {
    /// Connects to `<container_attach_socket_dir>/<id>/attach`.
    ///
    /// # Errors
    /// Nobody listens: the container has ended.
    pub fn connect(path: &Path) -> io::Result<Self> {
        PacketSocket::connect(path).map(Self)
    }

    /// The next output: its stream (2 or 3) and content. `None` when the container ended. May be cancelled.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn receive(&self) -> io::Result<Option<(u8, Vec<u8>)>> {
        let mut packet = vec![0; OUTPUT_PACKET];
        let length = self.0.receive_into(&mut packet).await?;
        packet.truncate(length);
        let Some(stream) = packet.first().copied() else {
            return Ok(None);
        };
        packet.remove(0);
        Ok(Some((stream, packet)))
    }

    /// Types.
    ///
    /// # Errors
    /// The container ended.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        for packet in bytes.chunks(INPUT_PACKET) {
            self.0.send(packet, &[]).await?;
        }
        Ok(())
    }

    /// Says that nothing more will be typed.
    ///
    /// # Errors
    /// The container ended.
    pub fn end_input(&self) -> io::Result<()> {
        self.0.end()
    }
}
