//! Attach sockets: clients that see the output of a container and type into it.
//!
//! conmon's protocol: to the client, packets of one byte stream number and up to 8192 bytes; from the client, raw bytes,
//! up to 32768 a packet; a half-close ends its input.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::event::epoll::EventFlags;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, SocketType};

use crate::socket;
use crate::streams::log::Stream;
use crate::watcher::{ContainerKey, Source, Token, Watcher};

/// More simultaneous clients than this are turned away.
const MOST_CLIENTS: usize = 64;

/// Most bytes of output in one packet.
const OUTPUT_PACKET: usize = 8192;

/// Output a client may be behind by, in bytes of kernel memory.
const SEND_BUFFER: usize = 1 << 20;

/// Most bytes of stdin in one packet.
const INPUT_PACKET: usize = 32 * 1024;

struct Client {
    number: u32,
    socket: OwnedFd,
    token: Option<Token>,
    input_ended: bool,
}

/// The attach side of one container.
pub(crate) struct Attach {
    key: ContainerKey,
    listener: OwnedFd,
    token: Option<Token>,
    path: PathBuf,
    link: PathBuf,
    clients: Vec<Client>,
    next: u32,
    paused: bool,
}

/// What a client sent.
pub(crate) enum Input {
    Nothing,
    Bytes(Vec<u8>),
    /// It will send no more; other clients may.
    End,
}

impl Attach {
    /// Listens at `<bundle>/attach` and links `<socket_dir>/<id>` to the bundle.
    pub(crate) fn listen(
        key: ContainerKey,
        id: &str,
        bundle: &Path,
        socket_dir: &Path,
    ) -> io::Result<Self> {
        let path = bundle.join("attach");
        let link = socket_dir.join(id);
        let listener = socket::listen_at(&path, SocketType::SEQPACKET, 10)?;
        std::fs::create_dir_all(socket_dir)?;
        match std::fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(bundle, &link)?;
        Ok(Self {
            key,
            listener,
            token: None,
            path,
            link,
            clients: Vec::new(),
            next: 0,
            paused: false,
        })
    }

    pub(crate) fn watch(&mut self, watcher: &mut Watcher) -> io::Result<()> {
        self.token = Some(watcher.add(&self.listener, Source::AttachListener(self.key))?);
        Ok(())
    }

    /// Takes a new client.
    pub(crate) fn accept(&mut self, watcher: &mut Watcher) {
        let Some(connection) = socket::accept(&self.listener) else {
            return;
        };
        if self.clients.len() >= MOST_CLIENTS {
            return;
        }
        // Room for a client that pauses for a moment; charged only while it is behind.
        let _ = rustix::net::sockopt::set_socket_send_buffer_size_force(&connection, SEND_BUFFER);
        let number = self.next;
        self.next += 1;
        let events = if self.paused {
            EventFlags::empty()
        } else {
            EventFlags::IN
        };
        let Ok(token) =
            watcher.add_for(&connection, Source::AttachClient(self.key, number), events)
        else {
            return;
        };
        self.clients.push(Client {
            number,
            socket: connection,
            token: Some(token),
            input_ended: false,
        });
    }

    /// Sends output to everybody. Who cannot take it at once is dropped, so that nobody else waits.
    pub(crate) fn broadcast(&mut self, stream: Stream, bytes: &[u8], watcher: &mut Watcher) {
        for piece in bytes.chunks(OUTPUT_PACKET) {
            self.send(stream, piece, watcher);
        }
    }

    fn send(&mut self, stream: Stream, bytes: &[u8], watcher: &mut Watcher) {
        let number = [stream.number()];
        let packet = [IoSlice::new(&number), IoSlice::new(bytes)];
        self.clients.retain_mut(|client| {
            let mut none = SendAncillaryBuffer::new(&mut [] as &mut [MaybeUninit<u8>]);
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = rustix::io::retry_on_intr(|| {
                rustix::net::sendmsg(&client.socket, &packet, &mut none, flags)
            });
            if sent.is_err() {
                forget(client, watcher);
            }
            sent.is_ok()
        });
    }

    /// Reads one packet of a client.
    pub(crate) fn read(&mut self, number: u32, watcher: &mut Watcher) -> Input {
        let Some(at) = self
            .clients
            .iter()
            .position(|client| client.number == number)
        else {
            return Input::Nothing;
        };
        let client = &mut self.clients[at];
        let mut bytes = vec![0; INPUT_PACKET];
        match rustix::net::recv(&client.socket, &mut bytes[..], RecvFlags::DONTWAIT) {
            Ok((_, count)) if count > 0 => {
                bytes.truncate(count);
                Input::Bytes(bytes)
            }
            Ok(_) if !client.input_ended => {
                // Shut down for writing or closed; a closed one shows with the next output, or hangs up.
                client.input_ended = true;
                if let Some(token) = &client.token {
                    watcher.change(&client.socket, token, EventFlags::empty());
                }
                Input::End
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Input::Nothing,
            _ => {
                self.drop_client(number, watcher);
                Input::Nothing
            }
        }
    }

    /// Ends one client.
    pub(crate) fn drop_client(&mut self, number: u32, watcher: &mut Watcher) {
        self.clients.retain_mut(|client| {
            if client.number == number {
                forget(client, watcher);
            }
            client.number != number
        });
    }

    /// Stops or resumes reading what clients type.
    pub(crate) fn set_paused(&mut self, paused: bool, watcher: &mut Watcher) {
        if self.paused == paused {
            return;
        }
        self.paused = paused;
        for client in self.clients.iter().filter(|client| !client.input_ended) {
            if let Some(token) = &client.token {
                watcher.change(
                    &client.socket,
                    token,
                    if paused {
                        EventFlags::empty()
                    } else {
                        EventFlags::IN
                    },
                );
            }
        }
    }

    /// Ends all sessions and removes the socket; the link stays, as with conmon, until the container is removed.
    pub(crate) fn close(&mut self, watcher: &mut Watcher) {
        if let Some(token) = self.token.take() {
            watcher.remove(&self.listener, token);
        }
        for client in &mut self.clients {
            forget(client, watcher);
        }
        self.clients.clear();
        let _ = std::fs::remove_file(&self.path);
    }

    /// Removes the link.
    pub(crate) fn remove_link(&self) {
        let _ = std::fs::remove_file(&self.link);
    }
}

fn forget(client: &mut Client, watcher: &mut Watcher) {
    if let Some(token) = client.token.take() {
        watcher.remove(&client.socket, token);
    }
}
