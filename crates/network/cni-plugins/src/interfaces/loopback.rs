//! The loopback interface.

use crioxide_cni::{Call, Interface, IpConfig, NetworkResult, Plugin, PluginError, error_code};
use crioxide_netlink::{LinkRequests, NetlinkError, RouteSocket};
use serde_json::Value;

use crate::configuration::{open_netns, previous_result, versions};

const NAME: &str = "loopback";
const DEVICE: &str = "lo";

/// Brings `lo` up.
#[derive(Debug)]
pub(crate) struct Loopback;

impl Plugin for Loopback {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let netns = open_netns(NAME, call)?;
        if let Some(previous) = previous_result(NAME, call)? {
            RouteSocket::open_in(&netns)
                .and_then(|mut socket| bring_up(&mut socket))
                .map_err(|error| failed(&error))?;
            return Ok(previous.to_value(call.version));
        }
        let addresses = RouteSocket::open_in(&netns)
            .and_then(|mut socket| {
                let index = bring_up(&mut socket)?;
                socket.addresses(index)
            })
            .map_err(|error| failed(&error))?;
        let result = NetworkResult {
            interfaces: vec![Interface {
                name: DEVICE.to_owned(),
                mac: "00:00:00:00:00:00".to_owned(),
                sandbox: netns.path().to_string_lossy().into_owned(),
                ..Interface::default()
            }],
            ips: addresses
                .into_iter()
                .map(|address| IpConfig {
                    address,
                    gateway: None,
                    interface: Some(0),
                })
                .collect(),
            ..NetworkResult::default()
        };
        Ok(result.to_value(call.version))
    }

    fn del(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        // It goes with its namespace; taking it down earlier would only hurt processes still there.
        Ok(())
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let netns = open_netns(NAME, call)?;
        let link = RouteSocket::open_in(&netns)
            .and_then(|mut socket| socket.link_by_name(DEVICE))
            .map_err(|error| failed(&error))?;
        match link {
            Some(link) if link.up => Ok(()),
            _ => Err(PluginError::reported(
                NAME,
                error_code::FAILED,
                "interface `lo` is down",
            )),
        }
    }

    fn status(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn gc(&self, _call: &Call<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

/// Brings `lo` up and returns its index.
fn bring_up(socket: &mut RouteSocket) -> Result<u32, NetlinkError> {
    let link = socket.link_by_name(DEVICE)?;
    // Each namespace is born with it, and it cannot be deleted.
    let (index, up) = link.map_or((1, false), |link| (link.index, link.up));
    if !up {
        let mut requests = LinkRequests::default();
        requests.set_up(index);
        requests.send(socket)?;
    }
    Ok(index)
}

fn failed(error: &NetlinkError) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, error)
}
