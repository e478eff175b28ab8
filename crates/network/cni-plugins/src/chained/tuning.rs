//! Properties of the pod's interface, and its network's kernel settings.

mod backup;
mod settings;

use crioxide_cni::{Call, Plugin, PluginError, error_code};
use crioxide_netlink::{Link, LinkRequests, MacAddress, NetlinkError, Netns, RouteSocket};
use rustix::io::Errno;
use serde_json::Value;

use crate::chained::required_result;
use crate::configuration::{open_netns, versions};
use crate::sysctl;
use backup::Backup;
use settings::Settings;

const NAME: &str = "tuning";

/// Changes what an earlier plugin made.
#[derive(Debug)]
pub(crate) struct Tuning;

impl Plugin for Tuning {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let settings = Settings::read(call)?;
        let mut result = required_result(NAME, call)?;
        let netns = open_netns(NAME, call)?;
        write_sysctls(&netns, &settings)?;
        if settings.changes_link() {
            let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
            let link = interface(&mut pod, call.ifname)?;
            Backup::of(&link, &settings)
                .write(&settings, call)
                .map_err(|error| PluginError::caused(NAME, error_code::IO_FAILURE, &error))?;
            if let Some(mac) = settings.mac {
                set_mac(&mut pod, &link, mac).map_err(netlink)?;
            }
            change(&settings, &link).send(&mut pod).map_err(netlink)?;
            let described = result
                .interfaces
                .iter_mut()
                .find(|described| !described.sandbox.is_empty() && described.name == call.ifname);
            if let Some(described) = described {
                if let Some(mac) = settings.mac {
                    described.mac = mac.to_string();
                }
                described.mtu = settings.mtu.or(described.mtu);
            }
        }
        Ok(result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        // Nothing was changed with a configuration that is refused.
        let Ok(settings) = Settings::read(call) else {
            return Ok(());
        };
        let backup = Backup::take(&settings, call)
            .map_err(|error| PluginError::caused(NAME, error_code::IO_FAILURE, &error))?;
        // The interface may be a device of the host that goes back to it.
        if let (Some(backup), Some(Ok(netns))) = (backup, call.netns.map(Netns::open)) {
            let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
            if let Some(link) = pod.link_by_name(call.ifname).map_err(netlink)? {
                backup
                    .requests(link.index)
                    .send(&mut pod)
                    .map_err(netlink)?;
            }
        }
        Ok(())
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = Settings::read(call)?;
        required_result(NAME, call)?;
        let netns = open_netns(NAME, call)?;
        let differs = |message: String| PluginError::reported(NAME, error_code::FAILED, message);
        let wrong = netns
            .run(|| {
                settings
                    .sysctls
                    .iter()
                    .find(|(key, value)| sysctl::read(key).as_ref() != Some(value))
            })
            .map_err(|error| PluginError::caused(NAME, error_code::FAILED, &error))?;
        if let Some((key, value)) = wrong {
            return Err(differs(format!("`net/{key}` is not {value}")));
        }
        let mut pod = RouteSocket::open_in(&netns).map_err(netlink)?;
        let link = interface(&mut pod, call.ifname)?;
        let comparisons = [
            ("mac", settings.mac.is_none_or(|mac| link.mac == Some(mac))),
            ("mtu", settings.mtu.is_none_or(|mtu| link.mtu == mtu)),
            (
                "promisc",
                settings.promiscuous.is_none_or(|on| link.promiscuous == on),
            ),
            (
                "allmulti",
                settings
                    .all_multicast
                    .is_none_or(|on| link.all_multicast == on),
            ),
            (
                "txQLen",
                settings
                    .tx_queue_len
                    .is_none_or(|length| link.tx_queue_len == length),
            ),
        ];
        match comparisons.iter().find(|(_, is_equal)| !is_equal) {
            Some((key, _)) => Err(differs(format!(
                "`{key}` of interface `{}` differs",
                call.ifname
            ))),
            None => Ok(()),
        }
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        Settings::read(call).map(drop)
    }

    fn gc(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

fn write_sysctls(netns: &Netns, settings: &Settings) -> Result<(), PluginError> {
    netns
        .run(|| {
            settings
                .sysctls
                .iter()
                .try_for_each(|(key, value)| sysctl::set(key, value))
        })
        .map_err(|error| PluginError::caused(NAME, error_code::FAILED, &error))?
        .map_err(|error| PluginError::caused(NAME, error_code::FAILED, &error))
}

/// A link that is taken down loses its routes by gateways, so that is done only for drivers that need it.
fn set_mac(pod: &mut RouteSocket, link: &Link, mac: MacAddress) -> Result<(), NetlinkError> {
    let mut requests = LinkRequests::default();
    requests.set_mac(link.index, mac);
    match requests.send(pod) {
        Err(error) if error.errno() == Some(Errno::BUSY) => {
            let mut requests = LinkRequests::default();
            requests.set_down(link.index);
            requests.set_mac(link.index, mac);
            requests.set_up(link.index);
            requests.send(pod)
        }
        done => done,
    }
}

fn change(settings: &Settings, link: &Link) -> LinkRequests {
    let mut requests = LinkRequests::default();
    set(
        &mut requests,
        link.index,
        settings.promiscuous,
        settings.all_multicast,
    );
    if let Some(mtu) = settings.mtu {
        requests.set_mtu(link.index, mtu);
    }
    if let Some(length) = settings.tx_queue_len {
        requests.set_tx_queue_len(link.index, length);
    }
    requests
}

fn set(
    requests: &mut LinkRequests,
    index: u32,
    promiscuous: Option<bool>,
    all_multicast: Option<bool>,
) {
    match promiscuous {
        Some(true) => {
            requests.set_promiscuous(index);
        }
        Some(false) => {
            requests.unset_promiscuous(index);
        }
        None => {}
    }
    if let Some(on) = all_multicast {
        requests.set_all_multicast(index, on);
    }
}

fn interface(pod: &mut RouteSocket, name: &str) -> Result<Link, PluginError> {
    pod.link_by_name(name).map_err(netlink)?.ok_or_else(|| {
        let message = format!("the pod has no interface `{name}`");
        PluginError::reported(NAME, error_code::FAILED, message)
    })
}

#[expect(clippy::needless_pass_by_value, reason = "given to map_err")]
fn netlink(error: NetlinkError) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, &error)
}
