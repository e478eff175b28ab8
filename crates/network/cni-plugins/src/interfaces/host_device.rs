//! Moving a link of the host into the pod, and back.

use std::fs;
use std::path::{Path, PathBuf};

use crioxide_cni::{Call, Plugin, PluginError, error_code};
use crioxide_netlink::{Link, LinkRequests, NetlinkError, Netns, RouteSocket};
use serde::Deserialize;
use serde_json::Value;

use crate::configuration::{invalid, open_netns, previous_result, read, versions};
use crate::{
    interfaces::pod_side::{self, Wishes},
    ipam, pod_check,
};

const NAME: &str = "host-device";

/// Lends a link of the host to a pod.
#[derive(Debug)]
pub(crate) struct HostDevice;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Keys {
    #[serde(default)]
    device: String,
    #[serde(default, alias = "hwAddr")]
    hwaddr: String,
    #[serde(default, alias = "kernelPath")]
    kernelpath: String,
    #[serde(default, rename = "pciBusID")]
    pci_bus_id: String,
    #[serde(default)]
    runtime_config: RuntimeConfig,
}

#[derive(Default, Deserialize)]
struct RuntimeConfig {
    #[serde(default, rename = "deviceID")]
    device_id: String,
}

impl Plugin for HostDevice {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let keys: Keys = read(NAME, call)?;
        let netns = open_netns(NAME, call)?;
        let mut host = RouteSocket::open().map_err(|error| failed(&error))?;
        let device = find(&keys, &mut host)?;
        let (mut result, reserved) = ipam::reserve(NAME, call)?;
        lend(&mut host, &device, &netns, call.ifname)?;
        let configured = pod_side::configure(NAME, &netns, call.ifname, &result, Wishes::default());
        let link = configured.inspect_err(|_| {
            if let Err(error) = take_back(&netns, call.ifname) {
                tracing::warn!(%error, device = device.name, "link not moved back to the host");
            }
        })?;
        reserved.keep();
        result.interfaces = vec![pod_side::describe(&link, &netns)];
        for ip in &mut result.ips {
            ip.interface = Some(0);
        }
        Ok(result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let released = ipam::del(ipam::plugin_type(call), call);
        // The device is the host's, whatever becomes of the namespace. One that is gone gave physical
        // devices back by itself.
        let returned = match call.netns.map(Netns::open) {
            Some(Ok(netns)) => take_back(&netns, call.ifname),
            _ => Ok(()),
        };
        returned.map_err(|error| failed(&error)).and(released)
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        ipam::check(ipam::plugin_type(call), call)?;
        let result = previous_result(NAME, call)?
            .ok_or_else(|| invalid(NAME, "there is no previous result"))?;
        let netns = open_netns(NAME, call)?;
        let mut pod = RouteSocket::open_in(&netns).map_err(|error| failed(&error))?;
        pod_check::check(NAME, call, &result, &mut pod)
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        read::<Keys>(NAME, call)?;
        ipam::status(call)
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), PluginError> {
        ipam::gc(call)
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

/// The device, by the first of the keys that is set.
fn find(keys: &Keys, host: &mut RouteSocket) -> Result<Link, PluginError> {
    let asked = &keys.runtime_config.device_id;
    if asked.contains('/') || asked.contains("..") {
        return Err(invalid(NAME, "`deviceID` must be the name of a device"));
    }
    // A device that the runtime chose goes before all keys but the name.
    let auxiliary = PathBuf::from("/sys/bus/auxiliary/devices").join(asked);
    let is_auxiliary = !asked.is_empty() && auxiliary.exists();
    let pci = if asked.is_empty() {
        &keys.pci_bus_id
    } else {
        asked
    };
    let links = host.links().map_err(|error| failed(&error))?;
    let (key, wanted) = if !keys.device.is_empty() {
        ("device", keys.device.clone())
    } else if !keys.hwaddr.is_empty() {
        let mac = keys
            .hwaddr
            .parse()
            .map_err(|error| invalid(NAME, format!("`hwaddr`: {error}")))?;
        let found = links.iter().find(|link| link.mac == Some(mac));
        let name = found.map(|link| link.name.clone()).unwrap_or_default();
        ("hwaddr", name)
    } else if !keys.kernelpath.is_empty() {
        ("kernelpath", device_below(Path::new(&keys.kernelpath))?)
    } else if is_auxiliary {
        ("deviceID", device_below(&auxiliary)?)
    } else if !pci.is_empty() {
        if pci.contains('/') || pci.contains("..") {
            return Err(invalid(NAME, "`pciBusID` must be the address of a device"));
        }
        let path = PathBuf::from("/sys/bus/pci/devices").join(pci);
        ("pciBusID", device_below(&path)?)
    } else {
        return Err(invalid(
            NAME,
            "one of `device`, `hwaddr`, `kernelpath` and `pciBusID` is needed",
        ));
    };
    let found = links.into_iter().find(|link| link.name == wanted);
    found.ok_or_else(|| invalid(NAME, format!("`{key}`: there is no such link on the host")))
}

/// The link of the device at a path of sysfs.
fn device_below(path: &Path) -> Result<String, PluginError> {
    let real = path
        .canonicalize()
        .ok()
        .filter(|real| real.starts_with("/sys/devices"))
        .ok_or_else(|| invalid(NAME, format!("`{}` is no device of sysfs", path.display())))?;
    let mut names = fs::read_dir(real.join("net"))
        .map_err(|error| failed(&error))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .next()
        .ok_or_else(|| invalid(NAME, format!("`{}` has no link", path.display())))
}

/// Moves the link in. Its name at home is kept as its alias, where the reference plugin looks too.
fn lend(
    host: &mut RouteSocket,
    device: &Link,
    netns: &Netns,
    ifname: &str,
) -> Result<(), PluginError> {
    let mut requests = LinkRequests::default();
    requests.set_down(device.index);
    requests.set_alias(device.index, &device.name);
    requests.move_to(device.index, netns, ifname);
    let lent = requests.send(host);
    if lent.is_err() && device.up {
        // The kernel goes on after a failed request: whatever was done, it stays the host's.
        let mut requests = LinkRequests::default();
        requests.set_up(device.index);
        if let Err(error) = requests.send(host) {
            tracing::warn!(%error, device = device.name, "link not brought up again");
        }
    }
    lent.map_err(|error| failed(&error))
}

/// Moves the pod's interface back to the host, with the name it had there.
fn take_back(netns: &Netns, ifname: &str) -> Result<(), NetlinkError> {
    let host = Netns::current()?;
    let mut pod = RouteSocket::open_in(netns)?;
    let Some(link) = pod.link_by_name(ifname)? else {
        return Ok(());
    };
    let name = if link.alias.is_empty() {
        ifname
    } else {
        &link.alias
    };
    let mut requests = LinkRequests::default();
    requests.set_down(link.index);
    requests.move_to(link.index, &host, name);
    requests.send(&mut pod)
}

fn failed(error: &dyn std::error::Error) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, error)
}
