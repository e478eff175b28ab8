//! What is made once: a bridge, lower layers, the compiled filter.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use crioxide_netlink::{LinkRequests, MacAddress, RouteSocket};
use crioxide_sys::seccomp::Instruction;
use crioxide_test_support::image::busybox_program;
use ipnet::{IpNet, Ipv4Net};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_change, unmount,
};
use rustix::thread::UnshareFlags;
use tempfile::TempDir;

use super::cgroup::Hierarchies;

/// Instructions in a container's usual filter.
const FILTER_LENGTH: u32 = 400;

/// The prepared host.
#[derive(Debug)]
pub(crate) struct Host {
    folder: TempDir,
    pub(super) routes: RouteSocket,
    pub(super) bridge: u32,
    bridge_name: String,
    pub(super) namespaces: [File; 3],
    pub(super) hierarchies: Hierarchies,
    pub(super) filter: Vec<Instruction>,
    next: u32,
    subnet: u8,
}

impl Host {
    pub(super) fn prepare() -> Result<Self> {
        // Where the daemon's node is too: file systems differ.
        let parent =
            std::env::var_os("CRIOXIDE_TEST_ROOT").map_or_else(std::env::temp_dir, PathBuf::from);
        let folder = tempfile::Builder::new()
            .prefix("floor")
            .tempdir_in(parent)
            .context("create a directory")?;
        // Of its own, so that nothing of it stays when this process ends.
        crioxide_sys::namespaces::unshare(UnshareFlags::NEWNS)
            .context("unshare the mount namespace")?;
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).context("make mounts private")?;
        for lower in ["lower1", "lower2"] {
            create(&folder.path().join(lower))?;
        }
        root_file_system(&folder.path().join("lower1"))?;
        let mut routes = RouteSocket::open().context("open a netlink socket")?;
        let process = std::process::id();
        let bridge_name = format!("crxf{process}");
        let mut requests = LinkRequests::default();
        requests.create_bridge(&bridge_name, MacAddress::generate()?, None, false);
        requests.send(&mut routes)?;
        let bridge = routes
            .link_by_name(&bridge_name)?
            .context("the bridge just made")?
            .index;
        let subnet = u8::try_from(process % 64).context("less than 64")?;
        let mut host = Self {
            bridge,
            bridge_name,
            namespaces: own_namespaces()?,
            hierarchies: Hierarchies::find(&format!("crioxidefloor{process}"))?,
            filter: filter(),
            next: 1,
            subnet,
            routes,
            folder,
        };
        let mut requests = LinkRequests::default();
        requests.add_address(bridge, IpNet::V4(host.address()?));
        requests.send(&mut host.routes)?;
        Ok(host)
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A number that no pod had yet.
    pub(super) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// The next free address of the bridge's subnet; the first is the bridge's own.
    pub(super) fn address(&mut self) -> Result<Ipv4Net> {
        let within = self.next % 65_000 + 1;
        let [_, _, high, low] = within.to_be_bytes();
        Ipv4Net::new(Ipv4Addr::new(10, 128 + self.subnet, high, low), 16).context("an address")
    }

    /// The bridge's own address.
    pub(super) fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 128 + self.subnet, 0, 2)
    }

    pub(super) fn take_away(mut self) -> Result<()> {
        let mut requests = LinkRequests::default();
        requests.delete_link(&self.bridge_name);
        requests.send(&mut self.routes)?;
        self.hierarchies.remove_top()
    }
}

fn own_namespaces() -> Result<[File; 3]> {
    let open = |kind: &str| {
        let path = format!("/proc/self/ns/{kind}");
        File::open(&path).with_context(|| format!("open `{path}`"))
    };
    Ok([open("net")?, open("ipc")?, open("uts")?])
}

fn root_file_system(root: &Path) -> Result<()> {
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        create(&root.join(folder))?;
    }
    let busybox = busybox_program().map_err(anyhow::Error::msg)?;
    std::fs::copy(&busybox, root.join("bin/busybox")).context("copy busybox")?;
    for file in ["hosts", "hostname", "resolv.conf"] {
        std::fs::write(root.join("etc").join(file), "").context("write a file to mount over")?;
    }
    Ok(())
}

/// As long as the usual filter and as costly for a call at its end: compares one number after the other, allows all.
fn filter() -> Vec<Instruction> {
    const LOAD: u16 = 0x20;
    const EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    let mut program = vec![Instruction {
        code: LOAD,
        jump_true: 0,
        jump_false: 0,
        operand: 0,
    }];
    for number in 0..FILTER_LENGTH {
        // Numbers that no call has, so that each comparison is made and none holds.
        program.push(Instruction {
            code: EQUAL,
            jump_true: 0,
            jump_false: 0,
            operand: 0x1000 + number,
        });
    }
    program.push(Instruction {
        code: RETURN,
        jump_true: 0,
        jump_false: 0,
        operand: ALLOW,
    });
    program
}

pub(super) fn create(path: &Path) -> Result<()> {
    std::fs::create_dir(path).with_context(|| format!("create `{}`", path.display()))
}

/// Mounts a small tmpfs.
pub(super) fn shared_memory(path: &Path) -> Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("shm", path, "tmpfs", flags, Some(c"mode=1777,size=65536k")).context("mount /dev/shm")
}

/// Unmounts and says what.
pub(super) fn take_off(path: &PathBuf) -> Result<()> {
    unmount(path, UnmountFlags::DETACH).with_context(|| format!("unmount `{}`", path.display()))
}
