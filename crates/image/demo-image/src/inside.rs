//! What a process sees of itself in its container.

use std::io::{self, Write};
use std::net::UdpSocket;

/// One line each: host name, first process, user, number of processes, address.
pub(crate) fn describe(out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "hostname: {}", hostname())?;
    let first = std::fs::read("/proc/1/cmdline").unwrap_or_default();
    let first = String::from_utf8_lossy(&first).replace('\0', " ");
    writeln!(out, "process 1: {}", first.trim())?;
    writeln!(out, "user: {}", rustix::process::geteuid().as_raw())?;
    let entries = std::fs::read_dir("/proc")?.flatten();
    let processes =
        entries.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    writeln!(out, "processes it sees: {}", processes.count())?;
    writeln!(
        out,
        "address: {}",
        address().unwrap_or_else(|| "none".to_owned())
    )
}

pub(crate) fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// The address that packets to the outside would have. Connecting a datagram socket sends nothing.
fn address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip().to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn names_the_user() {
        let mut out = Vec::new();
        super::describe(&mut out).expect("a description");
        let text = String::from_utf8(out).expect("text");
        let user = rustix::process::geteuid().as_raw();
        assert!(text.contains(&format!("user: {user}\n")), "{text}");
        assert_eq!(text.lines().count(), 5, "{text}");
    }
}
