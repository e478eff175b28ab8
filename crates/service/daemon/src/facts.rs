//! Facts about the node that specs depend on.

use crioxide_cgroups::CgroupLayout;
use crioxide_engine::ports::PortError;
use crioxide_runtime_spec::{
    HostFacts, capabilities,
    mounts::volumes::RecursiveReadOnly,
    resources::{CgroupFacts, CgroupVersion, Controller},
};
use oci_spec::runtime::Capabilities;

/// Reads them from the kernel.
pub(crate) fn host() -> Result<HostFacts, PortError> {
    let layout = CgroupLayout::host()?;
    let controller = |present: bool| {
        if present {
            Controller::Available
        } else {
            Controller::Missing
        }
    };
    let version = if layout.is_unified() {
        CgroupVersion::V2
    } else {
        CgroupVersion::V1
    };
    // Where memory and swap are accounted together there is a file of its own for it.
    let swap = match layout {
        CgroupLayout::Unified(_) => true,
        CgroupLayout::Legacy { hierarchies, .. } => hierarchies
            .iter()
            .filter(|hierarchy| hierarchy.controllers.iter().any(|name| name == "memory"))
            .any(|hierarchy| {
                hierarchy
                    .mount_point
                    .join("memory.memsw.usage_in_bytes")
                    .exists()
            }),
    };
    Ok(HostFacts {
        cgroup: CgroupFacts {
            version,
            swap: controller(swap),
            hugetlb: controller(layout.has_controller("hugetlb")),
        },
        bounding: bounding_set(),
        recursive_read_only: RecursiveReadOnly::Supported,
    })
}

/// The capabilities this process may still hand on.
fn bounding_set() -> Capabilities {
    let names = crioxide_confinement::capabilities::bounding_set().names();
    names
        .iter()
        .filter_map(|name| capabilities::parse(name, "add").ok())
        .collect()
}

/// The node's own name.
pub(crate) fn hostname() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
