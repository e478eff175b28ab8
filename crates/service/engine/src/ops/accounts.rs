//! Who a container runs as, and the account files it sees.

use std::path::Path;

use crioxide_runtime_spec::{
    ResolvedUser,
    user::{UserRequest, accounts::MAX_FILE, resolve, synthesize},
};
use oci_spec::runtime::{Mount, MountBuilder};

use crate::{
    EngineError,
    error::Context as _,
    ports::{Ownership, Ports, RecordDirs},
};

/// Resolves the user inside `rootfs`, and makes account files with the missing lines where the image lacks them
/// although it has such files, as CRI-O does.
///
/// # Errors
/// Unknown names, numbers out of range, unusable account files.
pub(crate) async fn resolve_user(
    ports: &Ports,
    request: UserRequest<'_>,
    dirs: &RecordDirs,
    rootfs: &Path,
    ownership: &Ownership,
) -> Result<(ResolvedUser, Vec<Mount>), EngineError> {
    let read = |path: &'static str| async move {
        ports
            .records
            .read_in_root(rootfs, path, MAX_FILE)
            .await
            .doing(|| format!("failed to read the image's {path}"))
    };
    let (passwd, group) = (read("/etc/passwd").await?, read("/etc/group").await?);
    let mut passwd_lines = passwd.as_deref().unwrap_or_default();
    let mut group_lines = group.as_deref().unwrap_or_default();
    let user = resolve(request, &mut passwd_lines, &mut group_lines)
        .map_err(|error| EngineError::refused(crate::chain(&error)))?;
    let mut mounts = Vec::new();
    if let Some(passwd) = &passwd {
        let account = synthesize::NewAccount {
            name: "",
            uid: user.uid,
            gid: user.gid,
            home: user.home.as_deref().unwrap_or_default(),
        };
        let made = synthesize::passwd(passwd, account)
            .map_err(|error| EngineError::refused(crate::chain(&error)))?;
        if let Some(content) = made {
            mounts.push(replace(ports, dirs, "passwd", content, ownership).await?);
        }
    }
    if let Some(group) = &group {
        let made = synthesize::group(group, user.gid)
            .map_err(|error| EngineError::refused(crate::chain(&error)))?;
        if let Some(content) = made {
            mounts.push(replace(ports, dirs, "group", content, ownership).await?);
        }
    }
    Ok((user, mounts))
}

async fn replace(
    ports: &Ports,
    dirs: &RecordDirs,
    name: &'static str,
    content: Vec<u8>,
    ownership: &Ownership,
) -> Result<Mount, EngineError> {
    let written = ports
        .records
        .write_run_file(dirs, name, content, ownership.clone());
    let path = written
        .await
        .doing(|| format!("failed to write /etc/{name} for a container"))?;
    Ok(bind(&format!("/etc/{name}"), &path))
}

/// A bind mount of one of our own files.
pub(crate) fn bind(destination: &str, source: &Path) -> Mount {
    let options = ["bind", "rw", "nodev", "nosuid", "noexec"]
        .map(str::to_owned)
        .to_vec();
    let mount = MountBuilder::default()
        .destination(destination)
        .typ("bind")
        .source(source)
        .options(options)
        .build();
    mount.expect("a mount without id mappings is always valid")
}
