//! The mounts of pods and containers.

pub mod fixed;
pub mod systemd;
pub mod volumes;

use oci_spec::runtime::{Mount, MountBuilder};

/// One mount of a spec.
pub(crate) fn mount(destination: &str, typ: &str, source: &str, options: &[&str]) -> Mount {
    MountBuilder::default()
        .destination(destination)
        .typ(typ)
        .source(source)
        .options(
            options
                .iter()
                .map(|option| (*option).to_owned())
                .collect::<Vec<_>>(),
        )
        .build()
        .expect("a mount without id mappings is always valid")
}
