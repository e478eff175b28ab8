//! On which processors further processes of a container start.

use oci_spec::runtime::{ExecCPUAffinity, LinuxResources};

/// Shares of one whole processor.
const WHOLE: u64 = 1024;

/// The first of a container's processors, for one that has whole processors of its own: its pod is guaranteed and its
/// shares are a multiple of those of one processor. Nothing for all others.
pub(crate) fn first_cpu(limits: &LinuxResources, cgroup_parent: &str) -> Option<ExecCPUAffinity> {
    if ["burstable", "besteffort"]
        .iter()
        .any(|class| cgroup_parent.contains(class))
    {
        return None;
    }
    let cpu = limits.cpu().as_ref()?;
    let whole = cpu.shares().is_some_and(|shares| shares % WHOLE == 0);
    let first = first_of(cpu.cpus().as_deref()?).filter(|_| whole)?;
    let mut affinity = ExecCPUAffinity::default();
    affinity.set_initial(Some(first.to_string()));
    // Whether the first one outlives the move into the container's cgroup depends on the kernel.
    affinity.set_cpu_affinity_final(Some(first.to_string()));
    Some(affinity)
}

/// The least number of a list such as `4-7,1`.
fn first_of(list: &str) -> Option<u32> {
    let starts = list.split(',').map(|range| {
        let start = range.split_once('-').map_or(range, |(start, _)| start);
        start.trim().parse().ok()
    });
    starts.collect::<Option<Vec<u32>>>()?.into_iter().min()
}

#[cfg(test)]
mod tests {
    use oci_spec::runtime::LinuxCpu;

    use super::*;

    fn limits(cpus: &str, shares: Option<u64>) -> LinuxResources {
        let mut cpu = LinuxCpu::default();
        cpu.set_cpus(Some(cpus.to_owned()).filter(|cpus| !cpus.is_empty()));
        cpu.set_shares(shares);
        let mut limits = LinuxResources::default();
        limits.set_cpu(Some(cpu));
        limits
    }

    #[test]
    fn the_first_of_whole_processors() {
        const GUARANTEED: &str = "/kubepods/pod1";
        for (cpus, shares, parent, expected) in [
            ("2-5", Some(2048), GUARANTEED, Some("2")),
            ("9,4-5,7", Some(1024), GUARANTEED, Some("4")),
            ("2-5", Some(1000), GUARANTEED, None),
            ("2-5", None, GUARANTEED, None),
            ("", Some(2048), GUARANTEED, None),
            ("x", Some(2048), GUARANTEED, None),
            ("2-5", Some(2048), "/kubepods/burstable/pod1", None),
            ("2-5", Some(2048), "kubepods-besteffort-pod1.slice", None),
        ] {
            let affinity = first_cpu(&limits(cpus, shares), parent);
            let said = affinity.as_ref().and_then(|a| a.initial().as_deref());
            assert_eq!(said, expected, "{cpus} {shares:?} {parent}");
        }
        assert_eq!(first_cpu(&LinuxResources::default(), GUARANTEED), None);
    }
}
