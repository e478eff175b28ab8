//! Host ports that CRI-O mapped itself, whatever the network's plugins did, to a pod that was handed over to us.

use crioxide_netlink::NetlinkError;
use crioxide_netlink::nft::NftSocket;
use data_encoding::BASE32;
use sha2::{Digest, Sha256};

use super::nftables::release_where;

const TABLE: &str = "crio-hostports";
/// CRI-O keeps this many digits.
const LENGTH: usize = 16;

/// Removes a pod's elements from CRI-O's maps and sets.
pub(crate) fn release(socket: &mut NftSocket, pod: &str) -> Result<(), NetlinkError> {
    let own = comment(pod);
    release_where(socket, TABLE, |comment| comment == own)
}

/// What CRI-O marks a pod's elements with: the beginning of its id's SHA-256 sum, in RFC 4648's base32.
fn comment(pod: &str) -> String {
    let mut text = BASE32.encode(&Sha256::digest(pod));
    text.truncate(LENGTH);
    text
}

#[cfg(test)]
mod tests {
    use super::comment;

    #[test]
    fn elements_are_marked_as_cri_o_marks_them() {
        let pod = "0123456789abcdef".repeat(4);
        assert_eq!(comment(&pod), "VCXG43XJFGV6UOX4");
    }
}
