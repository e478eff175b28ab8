//! UDP flows that the kernel still sends the old way.

use crioxide_cni::{PluginError, Protocol};
use crioxide_netlink::conntrack::forget_udp_flows;
use crioxide_netlink::nft::Family;
use rustix::io::Errno;

use super::failed;
use super::mapping::Port;
use crate::rules::packets::family;

/// Forgets the flows to the UDP ports. A client that keeps sending from one port keeps its flow
/// alive, and would go on talking to nobody, or to the pod that is gone.
pub(super) fn forget(ports: &[Port]) -> Result<(), PluginError> {
    for of in [Family::Ip, Family::Ip6] {
        let numbers: Vec<u16> = ports
            .iter()
            .filter(|port| port.protocol == Protocol::Udp && family(port.pod) == of)
            .map(|port| port.host_port)
            .collect();
        if numbers.is_empty() {
            continue;
        }
        match forget_udp_flows(of, &numbers) {
            // A kernel without connection tracking by netlink: the flows expire by themselves.
            Err(error) if matches!(error.errno(), Some(Errno::OPNOTSUPP | Errno::INVAL)) => {
                tracing::debug!(%error, "UDP flows not forgotten");
            }
            done => done.map_err(|error| failed(&error))?,
        }
    }
    Ok(())
}
