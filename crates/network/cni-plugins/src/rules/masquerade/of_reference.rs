//! Masquerading that the reference plugins made in nftables.

use crioxide_netlink::nft::{Family, Transaction};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha512};

use super::Masquerade;

const TABLE: &str = "cni_plugins_masquerade";
const CHAIN: &str = "masq_checks";
/// Digits that the plugins keep of a hash.
const DIGITS: usize = 16;

/// Removes an attachment's rules. Where nftables do not work there are none.
pub(super) fn remove(masquerade: &Masquerade<'_>) {
    let call = masquerade.call;
    let own = owner(masquerade.network, call.ifname, call.container_id);
    let removed = masquerade.rules.sockets.get().and_then(|mut socket| {
        let rules = socket.rules(Family::Inet, TABLE, CHAIN)?.into_iter();
        let mut transaction = Transaction::new();
        for rule in rules {
            let comment = rule.comment.as_deref().unwrap_or_default();
            if comment.starts_with(&own) {
                transaction.delete_rule(Family::Inet, TABLE, CHAIN, rule.handle);
            }
        }
        transaction.commit(&mut socket)
    });
    if let Err(error) = removed {
        tracing::debug!(%error, "masquerading rules of other plugins not looked at");
    }
}

/// What the comments of an attachment's rules begin with.
fn owner(network: &str, ifname: &str, container_id: &str) -> String {
    let attachment = hash(&format!("{ifname}:{container_id}"));
    format!("{}-{attachment}", hash(network))
}

fn hash(text: &str) -> String {
    let mut digits = HEXLOWER.encode(&Sha512::digest(text));
    digits.truncate(DIGITS);
    digits
}
