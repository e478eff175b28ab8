//! Host ports that the reference plugin mapped in nftables.

use crioxide_netlink::nft::{Family, NftSocket, Transaction};

const TABLE: &str = "cni_hostport";
const CHAINS: [&str; 3] = ["hostports", "hostip_hostports", "masquerading"];

/// Removes a pod's rules, which are marked with its id. Where they cannot be read there are none.
pub(super) fn release(socket: &mut NftSocket, container_id: &str) {
    for family in [Family::Ip, Family::Ip6] {
        if let Err(error) = release_of(socket, family, container_id) {
            tracing::debug!(%error, "host ports of other plugins not looked at");
        }
    }
}

fn release_of(
    socket: &mut NftSocket,
    family: Family,
    container_id: &str,
) -> Result<(), crioxide_netlink::NetlinkError> {
    let mut transaction = Transaction::new();
    for chain in CHAINS {
        for rule in socket.rules(family, TABLE, chain)? {
            if rule.comment.as_deref() == Some(container_id) {
                transaction.delete_rule(family, TABLE, chain, rule.handle);
            }
        }
    }
    transaction.commit(socket)
}
