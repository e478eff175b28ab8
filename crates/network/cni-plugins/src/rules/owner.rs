//! Whom a set element belongs to, as its comment says.

use std::collections::HashSet;

use crioxide_cni::Call;
use serde_json::Value;

/// The comment of elements made for the call's attachment.
pub(crate) fn comment(network: &str, call: &Call<'_>) -> String {
    of(network, call.container_id, call.ifname)
}

/// Comments of the network's attachments that GC must leave alone.
pub(crate) fn valid_comments(network: &str, call: &Call<'_>) -> HashSet<String> {
    valid_attachments(call)
        .map(|(id, ifname)| of(network, id, ifname))
        .collect()
}

/// Container id and interface of each attachment GC must leave alone.
pub(crate) fn valid_attachments<'a>(
    call: &'a Call<'_>,
) -> impl Iterator<Item = (&'a str, &'a str)> {
    let listed = call
        .config
        .get("cni.dev/valid-attachments")
        .and_then(Value::as_array);
    listed.into_iter().flatten().filter_map(|entry| {
        Some((
            entry.get("containerID")?.as_str()?,
            entry.get("ifname")?.as_str()?,
        ))
    })
}

/// Whether a comment names an attachment of `network`.
pub(crate) fn is_of_network(comment: &str, network: &str) -> bool {
    comment
        .strip_prefix(network)
        .is_some_and(|rest| rest.starts_with('/'))
}

fn of(network: &str, container_id: &str, ifname: &str) -> String {
    format!("{network}/{container_id}/{ifname}")
}
