//! What the interface was like before, in the reference plugin's file.

use std::fs;
use std::io;
use std::path::PathBuf;

use crioxide_cni::Call;
use crioxide_files::{AtomicOptions, Sync, atomic_write, read_limited};
use crioxide_netlink::{Link, LinkRequests};
use serde::{Deserialize, Serialize};

use super::settings::Settings;

const LIMIT: u64 = 64 * 1024;

/// Values before the change; those that were not changed are left out.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Backup {
    #[serde(default, skip_serializing_if = "String::is_empty")]
    mac: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    promisc: Option<bool>,
    #[serde(default, skip_serializing_if = "is_zero")]
    mtu: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allmulti: Option<bool>,
    #[serde(default, rename = "txQLen", skip_serializing_if = "Option::is_none")]
    tx_queue_len: Option<u32>,
}

impl Backup {
    pub(super) fn of(link: &Link, settings: &Settings) -> Self {
        Self {
            mac: settings
                .mac
                .and(link.mac)
                .map(|mac| mac.to_string())
                .unwrap_or_default(),
            promisc: settings.promiscuous.map(|_| link.promiscuous),
            mtu: settings.mtu.map_or(0, |_| link.mtu),
            allmulti: settings.all_multicast.map(|_| link.all_multicast),
            tx_queue_len: settings.tx_queue_len.map(|_| link.tx_queue_len),
        }
    }

    pub(super) fn write(&self, settings: &Settings, call: &Call<'_>) -> io::Result<()> {
        fs::create_dir_all(&settings.data_dir)?;
        let bytes = serde_json::to_vec(self)?;
        let options = AtomicOptions {
            mode: 0o600,
            sync: Sync::None,
        };
        atomic_write(&path(settings, call)?, &bytes, options).map_err(io::Error::other)
    }

    /// Reads and removes the file; none when there is none.
    pub(super) fn take(settings: &Settings, call: &Call<'_>) -> io::Result<Option<Self>> {
        let path = path(settings, call)?;
        let bytes = match read_limited(&path, LIMIT) {
            Err(error) if error.is_not_found() => return Ok(None),
            bytes => bytes.map_err(io::Error::other)?,
        };
        fs::remove_file(&path)?;
        // A damaged one only means that nothing is put back.
        Ok(serde_json::from_slice(&bytes).ok())
    }

    pub(super) fn requests(&self, index: u32) -> LinkRequests {
        let mut requests = LinkRequests::default();
        if let Ok(mac) = self.mac.parse() {
            requests.set_down(index);
            requests.set_mac(index, mac);
            requests.set_up(index);
        }
        super::set(&mut requests, index, self.promisc, self.allmulti);
        if self.mtu > 0 {
            requests.set_mtu(index, self.mtu);
        }
        if let Some(length) = self.tx_queue_len {
            requests.set_tx_queue_len(index, length);
        }
        requests
    }
}

fn path(settings: &Settings, call: &Call<'_>) -> io::Result<PathBuf> {
    let name = format!("{}_{}.json", call.container_id, call.ifname);
    if name.contains('/') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(settings.data_dir.join(name))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(value: &u32) -> bool {
    *value == 0
}
