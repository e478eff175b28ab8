//! The overlay driver: one directory per layer, stacked by overlayfs when mounted.

mod chown;
mod link;
mod mapped;
mod mount;
mod program;

use self::link::LINKS;
use self::mount::{Interface, OverlayMount, VfsFlags};
use super::home::PrivateHome;
use super::quota::Projects;
use super::tree::open_directory;
use super::{
    Driver, DriverError, LayerContent, LayerUse, RootMode, accept_missing, layers_in, move_away,
    move_in, sync_directory,
};
use crate::store::options::OverlayOptions;
use crate::{LayerId, LayerUsage, MountAccess, MountIds, MountOptions, Volatility};
use crioxide_sys::project_quota::ProjectLimits;
use rustix::fs::CWD;
use rustix::mount::UnmountFlags;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Overlay layers below one or two homes.
#[derive(Debug)]
pub(crate) struct Overlay {
    home: PathBuf,
    image_home: PathBuf,
    /// Homes of read-only stores, searched last.
    foreign_homes: Vec<PathBuf>,
    options: OverlayOptions,
    private_home: PrivateHome,
    /// Where container layers are to be limited.
    projects: Option<Projects>,
    interface: Interface,
}

impl Overlay {
    /// Makes the homes if they are not there.
    pub(crate) fn open(
        home: PathBuf,
        image_home: PathBuf,
        foreign_homes: Vec<PathBuf>,
        options: OverlayOptions,
    ) -> Result<Self, DriverError> {
        for directory in [&home, &image_home] {
            make_dir_all(directory, 0o700)?;
            make_dir_all(&directory.join(LINKS), 0o755)?;
        }
        if options.mount_program.is_some() {
            program::note(&home)
                .map_err(|error| DriverError::io("write", error.path, error.source))?;
        }
        let private_home = PrivateHome::new(home.clone());
        let limited = options.limits != ProjectLimits::default();
        let projects = limited.then(|| Projects::of(&home)).transpose()?;
        Ok(Self {
            projects,
            home,
            image_home,
            foreign_homes,
            options,
            private_home,
            interface: Interface::Best,
        })
    }

    /// The home that has layer `id`.
    fn home_of(&self, id: &LayerId) -> Option<&Path> {
        let mut homes = self.homes();
        homes.find(|home| home.join(id).is_dir())
    }

    fn homes(&self) -> impl Iterator<Item = &Path> {
        let own = self.own_homes();
        own.chain(self.foreign_homes.iter().map(PathBuf::as_path))
    }

    fn own_homes(&self) -> impl Iterator<Item = &Path> {
        let image_home = Some(self.image_home.as_path()).filter(|home| *home != self.home);
        std::iter::once(self.home.as_path()).chain(image_home)
    }

    fn require_home_of(&self, id: &LayerId) -> Result<&Path, DriverError> {
        self.home_of(id).ok_or_else(|| DriverError::Damaged {
            id: id.to_string(),
            problem: format!("{} is missing", self.home.join(id).display()),
        })
    }

    /// Where `l/<short name>` is found, relative to the home if it is there.
    fn find_lower(&self, name: String) -> PathBuf {
        if self.foreign_homes.is_empty() && self.image_home == self.home {
            return name.into();
        }
        let found = self
            .homes()
            .map(|home| home.join(&name))
            .find(|path| path.is_dir());
        found.unwrap_or_else(|| name.into())
    }

    fn overlay_mount(
        &self,
        id: &LayerId,
        options: &MountOptions,
    ) -> Result<OverlayMount, DriverError> {
        let home = self.require_home_of(id)?;
        let own = home.join(id);
        let own_relative = if home == self.home {
            PathBuf::from(id.as_str())
        } else {
            own.clone()
        };
        let names = link::read_lower(&own)?;
        let mut lowers: Vec<PathBuf> = names
            .into_iter()
            .map(|name| self.find_lower(name))
            .collect();
        if lowers.is_empty() {
            // A layer without a parent gets an empty one: overlayfs wants a lower directory.
            make_dir(&own.join("empty"), 0o700).or_else(ignore_existing)?;
            lowers.push(own_relative.join("empty"));
        }
        let mut mount = OverlayMount {
            home: self.home.clone(),
            target: self.target(id),
            ..Default::default()
        };
        match options.access {
            MountAccess::ReadWrite => {
                mount.writable = Some((own_relative.join("diff"), own_relative.join("work")));
            }
            MountAccess::ReadOnly => {
                lowers.insert(0, own_relative.join("diff"));
                mount.flags.read_only = true;
            }
        }
        mount.lowers = lowers;
        for option in self.options.mount_options.iter().chain(&options.options) {
            add_option(&mut mount, option);
        }
        if options.access == MountAccess::ReadWrite && options.volatility == Volatility::Volatile {
            mount.options.push((mount::VOLATILE.into(), None));
        }
        if !options.mount_label.is_empty() {
            mount
                .options
                .push(("context".into(), Some(options.mount_label.clone())));
        }
        Ok(mount)
    }

    fn target(&self, id: &LayerId) -> PathBuf {
        Path::new(id.as_str()).join("merged")
    }

    /// Restores short names that are gone, and tells which layer below is really missing.
    fn repair_links(&self, id: &LayerId) -> Result<(), DriverError> {
        for home in self.own_homes() {
            for layer in layers_in(home)? {
                if home.join(&layer).join("diff").is_dir() {
                    let name = link::of_layer(home, &layer)?;
                    link::point_to(home, &name, &layer)?;
                }
            }
        }
        let home = self.require_home_of(id)?;
        for lower in link::read_lower(&home.join(id))? {
            if !self.homes().any(|home| home.join(&lower).is_dir()) {
                return Err(DriverError::MissingLower {
                    id: id.to_string(),
                    lower,
                });
            }
        }
        Ok(())
    }
}

impl Driver for Overlay {
    fn prepare(&self, staged: &Path, layer_use: LayerUse) -> Result<(), DriverError> {
        make_dir(staged, 0o700)?;
        if let Some(projects) = self
            .projects
            .as_ref()
            .filter(|_| layer_use == LayerUse::Container)
        {
            projects.limit(staged, self.options.limits)?;
        }
        make_dir(&staged.join("diff"), 0o555)?;
        link::write(staged, &link::generate())?;
        make_dir(&staged.join("work"), 0o700)?;
        make_dir(&staged.join("merged"), 0o700)
    }

    fn stack(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        root: RootMode,
    ) -> Result<(), DriverError> {
        let Some(parent) = parent else {
            return make_dir(&staged.join("empty"), 0o700);
        };
        let home = self.require_home_of(parent)?;
        if root == RootMode::OfParent {
            let parent_diff = home.join(parent).join("diff");
            let status = fs::metadata(&parent_diff)
                .map_err(|error| DriverError::io("look at", &parent_diff, error))?;
            let diff = staged.join("diff");
            fs::set_permissions(
                &diff,
                fs::Permissions::from_mode(status.permissions().mode() & 0o7777),
            )
            .map_err(|error| DriverError::io("set the mode of", &diff, error))?;
        }
        link::write_lower(staged, &link::lower_on(home, parent)?)
    }

    fn own_root(
        &self,
        staged: &Path,
        parent: Option<&LayerId>,
        ids: &MountIds,
    ) -> Result<(), DriverError> {
        if self.options.mount_program.is_some() {
            // It maps the owners of this layer as well.
            return Ok(());
        }
        let below = parent.map(|parent| self.content(parent)).transpose()?;
        mapped::own_root(&self.staged_content(staged), below.as_deref(), ids)
    }

    fn label(&self, _staged: &Path, _label: &str) -> Result<(), DriverError> {
        // Mounts have it (`context=`).
        Ok(())
    }

    fn staged_content(&self, staged: &Path) -> PathBuf {
        staged.join("diff")
    }

    fn staging_home(&self, layer_use: LayerUse) -> PathBuf {
        self.home_for(layer_use).join("tempdirs")
    }

    fn install(&self, staged: &Path, id: &LayerId, layer_use: LayerUse) -> Result<(), DriverError> {
        let home = self.home_for(layer_use);
        let target = home.join(id);
        let link_path = staged.join("link");
        let name = fs::read_to_string(&link_path)
            .map_err(|error| DriverError::io("read", link_path, error))?;
        link::point_to(home, &name, id)?;
        move_in(staged, &target)
    }

    fn flush(&self, installed: &[LayerId]) -> Result<(), DriverError> {
        let home = self.home_for(LayerUse::Image);
        for id in installed {
            link::sync_lower(&home.join(id))?;
        }
        // ext4 and xfs keep the order of renames. btrfs may keep that of a record and lose that of the layer.
        sync_directory(home)
    }

    fn discard(&self, id: &LayerId, trash: &Path) -> Result<(), DriverError> {
        for home in self.own_homes() {
            let layer = home.join(id);
            if let Ok(name) = fs::read_to_string(layer.join("link"))
                && link::is_link(&name)
            {
                let link = home.join(LINKS).join(name);
                accept_missing(fs::remove_file(&link))
                    .map_err(|error| DriverError::io("remove the link", link, error))?;
            }
            if let Some(projects) = &self.projects {
                projects.lift(&layer)?;
            }
            move_away(&layer, trash)?;
        }
        Ok(())
    }

    fn counted_usage(&self, id: &LayerId) -> Result<Option<LayerUsage>, DriverError> {
        let Some(projects) = &self.projects else {
            return Ok(None);
        };
        let layer = self.require_home_of(id)?.join(id);
        let usage = projects
            .usage(&layer)
            .map_err(|error| DriverError::io("ask the quota of", layer, error))?;
        Ok(usage.map(|usage| LayerUsage {
            bytes: usage.bytes,
            inodes: usage.inodes,
        }))
    }

    fn content(&self, id: &LayerId) -> Result<LayerContent, DriverError> {
        Ok(LayerContent::at(
            self.require_home_of(id)?.join(id).join("diff"),
        ))
    }

    fn mount_path(&self, id: &LayerId) -> PathBuf {
        self.home.join(self.target(id))
    }

    fn mount_at(
        &self,
        id: &LayerId,
        target: &Path,
        options: &MountOptions,
    ) -> Result<(), DriverError> {
        if !self.options.skip_mount_home {
            self.private_home.ensure()?;
        }
        let mut mount = self.overlay_mount(id, options)?;
        if target != self.mount_path(id) {
            target.clone_into(&mut mount.target);
        }
        let attempt = || match (&self.options.mount_program, &options.ids) {
            (Some(program), ids) => program::mount(program, &mount, ids.as_ref()),
            (None, Some(ids)) => self.mount_mapped(id, &mount, ids, options.access),
            (None, None) => mount.mount(self.interface),
        };
        let first = match attempt() {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.repair_links(id)?;
                make_dir_all(target, 0o700)?;
                attempt()
            }
            other => other,
        };
        first.map_err(|error| DriverError::io("mount overlay at", target, error))
    }

    fn unmount(&self, id: &LayerId) -> Result<(), DriverError> {
        let merged = self.mount_path(id);
        if self.options.mount_program.is_some()
            && let Ok(root) = open_directory(CWD, &merged)
        {
            // What the program still has must be seen by who mounts the layer next.
            let _ = rustix::fs::syncfs(root);
        }
        match rustix::mount::unmount(&merged, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => return Ok(()),
            Err(error) => return Err(DriverError::io("unmount", merged, error)),
        }
        // A fresh directory: in another mount namespace the old one may still carry the mount, and could not be removed.
        let fresh = merged.with_extension("1");
        if make_dir(&fresh, 0o700).or_else(ignore_existing).is_ok()
            && fs::rename(&fresh, &merged).is_err()
        {
            let _ = fs::remove_dir(&fresh);
        }
        Ok(())
    }

    fn list(&self) -> Result<Vec<LayerId>, DriverError> {
        let mut layers = Vec::new();
        for home in self.own_homes() {
            layers.extend(layers_in(home)?);
        }
        Ok(layers)
    }

    fn remove_strays(&self) -> Result<(), DriverError> {
        for home in self.own_homes() {
            link::remove_dangling(home)?;
        }
        Ok(())
    }

    fn examine(&self, id: &LayerId) -> Vec<String> {
        let Some(home) = self.home_of(id) else {
            return vec!["its directory is missing".into()];
        };
        let own = home.join(id);
        let mut problems = Vec::new();
        if !own.join("diff").is_dir() {
            problems.push("its diff directory is missing".into());
        }
        match fs::read_to_string(own.join("link")) {
            Err(_) => problems.push("its link file is missing".into()),
            Ok(name) if !home.join(LINKS).join(&name).is_dir() => {
                problems.push(format!("its link l/{name} leads nowhere"))
            }
            Ok(_) => {}
        }
        match link::read_lower(&own) {
            Err(error) => problems.push(error.to_string()),
            Ok(lowers) => problems.extend(
                lowers
                    .iter()
                    .filter(|lower| !self.homes().any(|home| home.join(lower).is_dir()))
                    .map(|lower| format!("the layer below, {lower}, is missing")),
            ),
        }
        problems
    }

    fn shut_down(&self) -> Result<(), DriverError> {
        self.private_home.release()
    }
}

impl Overlay {
    fn home_for(&self, layer_use: LayerUse) -> &Path {
        match layer_use {
            LayerUse::Image => &self.image_home,
            LayerUse::Container => &self.home,
        }
    }
}

fn add_option(mount: &mut OverlayMount, option: &str) {
    let VfsFlags {
        read_only,
        no_dev,
        no_suid,
        no_exec,
        no_atime,
    } = &mut mount.flags;
    match option {
        "rw" | "dev" | "suid" | "exec" | "relatime" | "atime" | "" => {}
        "ro" => *read_only = true,
        "nodev" => *no_dev = true,
        "nosuid" => *no_suid = true,
        "noexec" => *no_exec = true,
        "noatime" => *no_atime = true,
        other => {
            let (key, value) = match other.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (other, None),
            };
            mount.options.retain(|(known, _)| known != key);
            mount.options.push((key.to_owned(), value));
        }
    }
}

fn make_dir(path: &Path, mode: u32) -> Result<(), DriverError> {
    DirBuilder::new()
        .mode(mode)
        .create(path)
        .map_err(|error| DriverError::io("make directory", path, error))
}

fn make_dir_all(path: &Path, mode: u32) -> Result<(), DriverError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dir_all(parent, 0o700)?;
    }
    make_dir(path, mode).or_else(ignore_existing)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| DriverError::io("set the mode of", path, error))
}

fn ignore_existing(error: DriverError) -> Result<(), DriverError> {
    match error {
        DriverError::Io { source, .. } if source.kind() == ErrorKind::AlreadyExists => Ok(()),
        other => Err(other),
    }
}

#[cfg(test)]
mod tests;
