//! Where a shim listens.

use tokio::net::UnixStream;

use crate::ShimError;

/// Longest text taken for an address, bytes: a unix socket's name has at most 108.
const LONGEST: usize = 256;

/// A unix socket: `unix://` and a path, or else a name in the abstract namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address(String);

impl Address {
    /// Reads the text of a shim.
    ///
    /// # Errors
    /// [`ShimError::Address`]: of another scheme, empty or too long.
    pub fn parse(text: &str) -> Result<Self, ShimError> {
        let name = text.strip_prefix("unix://").unwrap_or(text);
        let sensible = !name.is_empty()
            && text.len() <= LONGEST
            && !name.contains("://")
            && !text.contains(|c: char| c.is_whitespace() || c.is_control() && c != '\0');
        match sensible {
            true => Ok(Self(text.to_owned())),
            false => Err(ShimError::Address {
                address: text.chars().take(LONGEST).collect(),
            }),
        }
    }

    /// As the shim wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Connects to it, if the process that listens is of our own user.
    pub(crate) async fn connect(&self) -> Result<UnixStream, ShimError> {
        let failed = |source| ShimError::Connect {
            address: self.0.clone(),
            source,
        };
        let stream = UnixStream::connect(self.name()).await.map_err(failed)?;
        let peer =
            rustix::net::sockopt::socket_peercred(&stream).map_err(|error| failed(error.into()))?;
        // A name in the abstract namespace is anybody's in the network namespace.
        if peer.uid != rustix::process::geteuid() {
            return Err(ShimError::Untrusted {
                address: self.0.clone(),
                user: peer.uid.as_raw(),
            });
        }
        Ok(stream)
    }

    /// The path; of a name in the abstract namespace with a zero before it.
    fn name(&self) -> String {
        let Some(path) = self.0.strip_prefix("unix://") else {
            return format!("\0{}", self.0);
        };
        match path.strip_prefix('@') {
            Some(name) => format!("\0{name}"),
            None => path.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unix_sockets_are_addresses() {
        for good in ["unix:///run/containerd/s/0a", "/containerd-shim/x.sock"] {
            assert_eq!(Address::parse(good).unwrap().as_str(), good);
        }
        let long = "x".repeat(300);
        for bad in ["", "unix://", "vsock://3:1024", "two words", "a\nb", &long] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[tokio::test]
    async fn paths_and_abstract_names_are_connected_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let text = format!("unix://{}", path.display());
        let address = Address::parse(&text).unwrap();
        assert!(address.connect().await.unwrap_err().is_gone());
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        address.connect().await.unwrap();

        let name = format!("/crioxide-test/{}", std::process::id());
        use std::os::{linux::net::SocketAddrExt as _, unix::net::SocketAddr};
        let socket = SocketAddr::from_abstract_name(&name).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind_addr(&socket).unwrap();
        for text in [name.clone(), format!("unix://@{name}")] {
            let address = Address::parse(&text).unwrap();
            address.connect().await.unwrap();
        }
    }
}
