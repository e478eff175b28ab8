//! Addresses from ranges, recorded on this host.
//!
//! The files are the reference plugin's, and so is the lock, so that both can serve one network.

mod allocation;
mod ranges;
mod store;

use std::net::IpAddr;

use crioxide_cni::{Call, Dns, History, IpConfig, NetworkResult, Plugin, PluginError, error_code};
use serde_json::Value;

use crate::configuration::{invalid, network_name, previous_result, versions};
use crate::rules::owner::valid_attachments;
use allocation::{AllocateError, allocate};
use ranges::{Settings, settings};
use store::{Owner, Store, StoreError};

const NAME: &str = "host-local";

/// Hands out addresses round robin.
#[derive(Debug)]
pub(crate) struct HostLocal;

impl Plugin for HostLocal {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let settings = settings(call)?;
        let store = open(&settings, call)?;
        let owner = Owner {
            container_id: call.container_id,
            ifname: call.ifname,
        };
        if call.history == History::Unknown
            && !store
                .owned(&owner)
                .map_err(|error| failed(&error))?
                .is_empty()
        {
            let message = format!(
                "container `{}` has an address for `{}` already",
                call.container_id, call.ifname
            );
            return Err(invalid(NAME, message));
        }
        let mut given: Vec<IpConfig> = Vec::new();
        let mut requested = settings.requested.clone();
        for (number, ranges) in settings.range_sets.iter().enumerate() {
            let wanted = requested
                .iter()
                .position(|address| ranges.contains(*address))
                .map(|at| requested.remove(at));
            match allocate(&store, &owner, ranges, number, wanted) {
                Ok(config) => given.push(config),
                Err(error) => {
                    give_back(&store, &owner, &given);
                    return Err(allocation_failed(&error));
                }
            }
        }
        if !requested.is_empty() {
            give_back(&store, &owner, &given);
            let list: Vec<_> = requested.iter().map(IpAddr::to_string).collect();
            return Err(invalid(
                NAME,
                format!("no range holds the requested address {}", list.join(", ")),
            ));
        }
        let dns = settings
            .resolv_conf
            .as_deref()
            .map(read_resolv_conf)
            .transpose();
        let dns = dns
            .inspect_err(|_| give_back(&store, &owner, &given))?
            .unwrap_or_default();
        let result = NetworkResult {
            ips: given,
            routes: settings.routes,
            dns,
            ..NetworkResult::default()
        };
        Ok(result.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = settings(call)?;
        let store = open(&settings, call)?;
        let owner = Owner {
            container_id: call.container_id,
            ifname: call.ifname,
        };
        // The result names the addresses; only without one all files have to be read.
        let known: Vec<_> = previous_result(NAME, call)
            .ok()
            .flatten()
            .map(|result| result.ips.iter().map(|ip| ip.address.addr()).collect())
            .unwrap_or_default();
        let mut released = 0;
        for address in &known {
            released += usize::from(
                store
                    .release(*address, &owner)
                    .map_err(|error| failed(&error))?,
            );
        }
        if released < settings.range_sets.len() || call.history == History::Unknown {
            for address in store.owned(&owner).map_err(|error| failed(&error))? {
                store
                    .release(address, &owner)
                    .map_err(|error| failed(&error))?;
            }
        }
        Ok(())
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = settings(call)?;
        let store = open(&settings, call)?;
        let owner = Owner {
            container_id: call.container_id,
            ifname: call.ifname,
        };
        if store
            .owned(&owner)
            .map_err(|error| failed(&error))?
            .is_empty()
        {
            let message = format!(
                "no address of container `{}` is on record",
                call.container_id
            );
            return Err(PluginError::reported(NAME, error_code::FAILED, message));
        }
        Ok(())
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        settings(call).map(drop)
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let settings = settings(call)?;
        let store = open(&settings, call)?;
        let valid: Vec<_> = valid_attachments(call).collect();
        store
            .release_all_but(&valid)
            .map_err(|error| failed(&error))
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

/// Opens and locks the network's records.
fn open(settings: &Settings, call: &Call<'_>) -> Result<Store, PluginError> {
    let network = network_name(NAME, call)?;
    Store::open(&settings.data_dir.join(network), call.deadline).map_err(|error| failed(&error))
}

fn give_back(store: &Store, owner: &Owner<'_>, given: &[IpConfig]) {
    for config in given {
        if let Err(error) = store.release(config.address.addr(), owner) {
            tracing::warn!(%error, address = %config.address, "address not given back");
        }
    }
}

fn allocation_failed(error: &AllocateError) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, error)
}

fn failed(error: &StoreError) -> PluginError {
    PluginError::caused(NAME, error_code::IO_FAILURE, error)
}

fn read_resolv_conf(path: &std::path::Path) -> Result<Dns, PluginError> {
    const LIMIT: u64 = 64 * 1024;
    let text = crioxide_files::read_to_string_limited(path, LIMIT)
        .map_err(|error| PluginError::caused(NAME, error_code::IO_FAILURE, &error))?;
    let mut dns = Dns::default();
    for line in text
        .lines()
        .map(str::trim)
        .filter(|line| !line.starts_with(['#', ';']))
    {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.nameservers.extend(words.next().map(str::to_owned)),
            Some("domain") => dns.domain = words.next().unwrap_or_default().to_owned(),
            Some("search") => dns.search.extend(words.map(str::to_owned)),
            Some("options") => dns.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    Ok(dns)
}
