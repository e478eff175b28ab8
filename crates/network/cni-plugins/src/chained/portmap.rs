//! Ports of the host that lead to pods.
//!
//! Only packets to the host's own addresses are looked at, so that a mapping cannot grab traffic that is passing through.

mod flows;
mod iptables;
mod mapping;
mod nftables;
pub(crate) mod of_cri_o;

use std::sync::Arc;

use crioxide_cni::{Call, Maker, NetworkResult, Plugin, PluginError, error_code};
use crioxide_netlink::nft::NftSocket;
use crioxide_netlink::{NetlinkError, RouteSocket};
use rustix::io::Errno;
use serde_json::Value;

use crate::configuration::{invalid, network_name, previous_result, versions};
use crate::rules::{Backend, PacketRules, owner};
use crate::sysctl;
use mapping::{Configuration, Plan};
use nftables::Claim;

const NAME: &str = "portmap";
pub(crate) use iptables::release_of_cri_o as release_chains_of_cri_o;
pub(crate) use nftables::TABLE;

/// Maps host ports.
#[derive(Debug)]
pub(crate) struct Portmap {
    pub(crate) rules: Arc<PacketRules>,
}

/// The ports of one attachment.
struct Ports<'a> {
    rules: &'a PacketRules,
    backend: Backend,
    network: &'a str,
    call: &'a Call<'a>,
}

impl Plugin for Portmap {
    fn add(&self, call: &Call<'_>) -> Result<Value, PluginError> {
        let configuration = Configuration::read(call)?;
        let previous = previous_result(NAME, call)?.ok_or_else(|| {
            invalid(
                NAME,
                "there is no previous result: it must come behind a plugin that gives addresses",
            )
        })?;
        let plan = Plan::new(&configuration, &previous)?;
        if !plan.is_empty() {
            let ports = self.ports(&configuration, call)?;
            let mapped = ports.claim(&plan, Claim::New);
            // By iptables one family may be there without the other.
            if mapped.is_err() && ports.backend == Backend::Iptables {
                ports.undo(&plan);
            }
            mapped?;
            let ready = open_localhost(&plan).and_then(|()| flows::forget(&plan.ports));
            ready.inspect_err(|_| ports.undo(&plan))?;
        }
        Ok(previous.to_value(call.version))
    }

    fn del(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let Ok(configuration) = Configuration::read(call) else {
            // Nothing is mapped with a configuration that is refused, but perhaps by others.
            return self.ports_of(Backend::Nftables, call)?.release(None);
        };
        let previous = previous_result(NAME, call).ok().flatten();
        let plan = previous
            .as_ref()
            .and_then(|previous| Plan::new(&configuration, previous).ok());
        let told_of_none =
            plan.as_ref().is_some_and(Plan::is_empty) && call.config.contains_key("runtimeConfig");
        if !told_of_none {
            let backend = configuration.backend(&self.rules);
            let backend = backend.unwrap_or(Backend::Nftables);
            self.ports_of(backend, call)?.release(plan.as_ref())?;
        }
        plan.map_or(Ok(()), |plan| flows::forget(&plan.ports))
    }

    fn check(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let configuration = Configuration::read(call)?;
        let previous = previous_result(NAME, call)?.unwrap_or_else(NetworkResult::default);
        let plan = Plan::new(&configuration, &previous)?;
        if plan.is_empty() {
            return Ok(());
        }
        let ports = self.ports(&configuration, call)?;
        let missing = match ports.backend {
            Backend::Nftables => nftables::first_missing(ports.rules, &plan, &ports.owner()),
            Backend::Iptables => iptables::first_missing(ports.rules, &plan, ports.network, call),
        };
        match missing? {
            None => Ok(()),
            Some(missing) => Err(PluginError::reported(
                NAME,
                error_code::FAILED,
                format!("{} is not mapped to the pod", missing.label()),
            )),
        }
    }

    fn status(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let configuration = Configuration::read(call)?;
        let unavailable = |error: &dyn std::error::Error| {
            PluginError::caused(NAME, error_code::NOT_AVAILABLE, error)
        };
        match configuration.backend(&self.rules)? {
            Backend::Nftables => self
                .rules
                .sockets
                .get()
                .map(drop)
                .map_err(|error| unavailable(&error)),
            Backend::Iptables => self
                .rules
                .programs
                .chosen(true, call.deadline)
                .map(drop)
                .map_err(|error| unavailable(&error)),
        }
    }

    fn gc(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let ports = self.ports(&Configuration::read(call)?, call)?;
        match ports.backend {
            Backend::Nftables => nftables::collect(ports.rules, ports.network, call),
            Backend::Iptables => iptables::collect(ports.rules, ports.network, call),
        }
    }

    fn restore(&self, call: &Call<'_>) -> Result<(), PluginError> {
        let configuration = Configuration::read(call)?;
        let Some(previous) = previous_result(NAME, call)? else {
            return Ok(());
        };
        let plan = Plan::new(&configuration, &previous)?;
        if plan.is_empty() {
            return Ok(());
        }
        let ports = self.ports(&configuration, call)?;
        if ports.is_complete(&plan)? {
            return Ok(());
        }
        ports.claim(&plan, Claim::Again)?;
        open_localhost(&plan)?;
        flows::forget(&plan.ports)
    }

    fn versions(&self, _call: &Call<'_>) -> Result<Vec<String>, PluginError> {
        Ok(versions())
    }
}

impl Portmap {
    fn ports<'a>(
        &'a self,
        configuration: &Configuration,
        call: &'a Call<'a>,
    ) -> Result<Ports<'a>, PluginError> {
        self.ports_of(configuration.backend(&self.rules)?, call)
    }

    fn ports_of<'a>(
        &'a self,
        backend: Backend,
        call: &'a Call<'a>,
    ) -> Result<Ports<'a>, PluginError> {
        Ok(Ports {
            rules: &self.rules,
            backend,
            network: network_name(NAME, call)?,
            call,
        })
    }
}

impl Ports<'_> {
    /// How elements are marked.
    fn owner(&self) -> String {
        owner::comment(self.network, self.call)
    }

    fn claim(&self, plan: &Plan, claim: Claim) -> Result<(), PluginError> {
        match self.backend {
            Backend::Nftables => nftables::claim(self.rules, plan, &self.owner(), claim),
            Backend::Iptables => iptables::claim(self.rules, plan, self.network, self.call),
        }
    }

    /// Gives back what the attachment has, also what another implementation may have made.
    fn release(&self, plan: Option<&Plan>) -> Result<(), PluginError> {
        let by_nftables = || nftables::release(self.rules, plan, &self.owner(), self.call);
        let released = match self.backend {
            Backend::Nftables => by_nftables(),
            Backend::Iptables => {
                if self.call.maker == Maker::Unknown {
                    // Where they do not work there is nothing to give back.
                    let _ = by_nftables();
                }
                Ok(())
            }
        };
        released.and(iptables::release(
            self.rules,
            self.backend,
            self.network,
            self.call,
        ))
    }

    fn is_complete(&self, plan: &Plan) -> Result<bool, PluginError> {
        match self.backend {
            Backend::Nftables => nftables::is_complete(self.rules, plan, &self.owner()),
            Backend::Iptables => {
                let missing = iptables::first_missing(self.rules, plan, self.network, self.call)?;
                Ok(missing.is_none())
            }
        }
    }

    fn undo(&self, plan: &Plan) {
        if let Err(error) = self.release(Some(plan)) {
            tracing::warn!(%error, "host ports not given back");
        }
    }
}

/// Lets processes of the host reach the pod by 127.0.0.1: such packets leave through the link to
/// the pod, which the kernel refuses by default. Outside packets to 127.0.0.0/8 are dropped by a
/// rule of ours, as this would let them in.
fn open_localhost(plan: &Plan) -> Result<(), PluginError> {
    let Some(address) = plan.masqueraded_v4() else {
        return Ok(());
    };
    let mut socket = RouteSocket::open().map_err(|error| failed(&error))?;
    let route = match socket.route_to(address) {
        // The host itself does not reach the pod; others may.
        Err(error) if matches!(error.errno(), Some(Errno::NETUNREACH | Errno::HOSTUNREACH)) => {
            return Ok(());
        }
        route => route.map_err(|error| failed(&error))?,
    };
    let links = socket.links().map_err(|error| failed(&error))?;
    let Some(link) = links
        .iter()
        .find(|link| Some(link.index) == route.link && link.name != "lo")
    else {
        return Ok(());
    };
    sysctl::set(&format!("ipv4/conf/{}/route_localnet", link.name), "1")
        .map_err(|error| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> PluginError {
    PluginError::caused(NAME, error_code::FAILED, error)
}

/// Whether no host port is mapped at all.
pub(crate) fn is_unused(socket: &mut NftSocket) -> Result<bool, NetlinkError> {
    nftables::is_empty(socket)
}
