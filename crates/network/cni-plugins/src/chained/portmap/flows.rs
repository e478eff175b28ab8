//! UDP flows that the kernel still sends the old way.

use crioxide_cni::PluginError;
use crioxide_netlink::conntrack::forget_udp_flows;
use crioxide_netlink::nft::Family;
use rustix::io::Errno;

use super::failed;
use super::mapping::Entry;

/// Forgets the flows to the entries' UDP ports. A client that keeps sending from one port keeps its
/// flow alive, and would go on talking to nobody, or to the pod that is gone.
pub(super) fn forget(entries: &[Entry]) -> Result<(), PluginError> {
    for family in [Family::Ip, Family::Ip6] {
        let of_family = entries.iter().filter(|entry| entry.family == family);
        let ports: Vec<u16> = of_family.filter_map(|entry| entry.udp_port).collect();
        if ports.is_empty() {
            continue;
        }
        match forget_udp_flows(family, &ports) {
            // A kernel without connection tracking by netlink: the flows expire by themselves.
            Err(error) if matches!(error.errno(), Some(Errno::OPNOTSUPP | Errno::INVAL)) => {
                tracing::debug!(%error, "UDP flows not forgotten");
            }
            done => done.map_err(|error| failed(&error))?,
        }
    }
    Ok(())
}
