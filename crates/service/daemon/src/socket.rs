//! The CRI socket.

use std::{io::ErrorKind, os::unix::fs::PermissionsExt as _, path::Path};

use tokio::net::UnixListener;

use crate::StartError;

/// Listens on `path` (mode 0660). A socket file that nobody answers on is taken over.
pub(crate) fn listen(path: &Path) -> Result<UnixListener, StartError> {
    let failed = |action| {
        move |source| StartError::Socket {
            action,
            path: path.to_owned(),
            source,
        }
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed("make the directory of"))?;
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            return Err(StartError::SocketInUse {
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(_) => std::fs::remove_file(path).map_err(failed("remove the old socket"))?,
    }
    let listener = UnixListener::bind(path).map_err(failed("listen on"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))
        .map_err(failed("set the mode of"))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn takes_over_dead_sockets_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run/crio.sock");
        let listener = listen(&path).unwrap();
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o660
        );
        assert!(matches!(listen(&path), Err(StartError::SocketInUse { .. })));
        drop(listener);
        assert!(path.exists());
        listen(&path).unwrap();
    }
}
