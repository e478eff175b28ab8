//! Masquerading of what pods send beyond their own subnet.

mod iptables;
mod nftables;
mod of_reference;

use crioxide_cni::{Call, IpConfig, Maker, NetworkResult, PluginError};

use crate::configuration::{invalid, network_name};
use crate::rules::{Backend, PacketRules, RulesError};
pub(crate) use nftables::{SOURCE_NAT_PRIORITY, TABLE, is_set_of};

/// The masquerading of one attachment, or of a network's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Masquerade<'a> {
    pub(crate) rules: &'a PacketRules,
    pub(crate) backend: Backend,
    pub(crate) network: &'a str,
    pub(crate) call: &'a Call<'a>,
}

impl<'a> Masquerade<'a> {
    /// As `plugin` is called, by the backend its configuration asks for.
    pub(crate) fn new(
        plugin: &str,
        rules: &'a PacketRules,
        backend: Option<&str>,
        call: &'a Call<'a>,
    ) -> Result<Self, PluginError> {
        let backend = rules
            .backend(backend)
            .map_err(|reason| invalid(plugin, format!("`ipMasqBackend`: {reason}")))?;
        Ok(Self {
            rules,
            backend,
            network: network_name(plugin, call)?,
            call,
        })
    }

    /// Lets a pod's addresses be masqueraded.
    pub(crate) fn add(&self, ips: &[IpConfig]) -> Result<(), RulesError> {
        match self.backend {
            Backend::Nftables => Ok(nftables::add(
                &self.rules.sockets,
                self.network,
                self.call,
                ips,
            )?),
            Backend::Iptables => iptables::add(self, ips),
        }
    }

    /// Makes what is missing again.
    pub(crate) fn restore(&self, ips: &[IpConfig]) -> Result<(), RulesError> {
        match self.backend {
            Backend::Nftables => Ok(nftables::restore(
                &self.rules.sockets,
                self.network,
                self.call,
                ips,
            )?),
            Backend::Iptables if iptables::is_in_place(self, ips)? => Ok(()),
            Backend::Iptables => iptables::add(self, ips),
        }
    }

    /// Ends it. The result names the addresses; without one they are searched for. What another implementation made goes
    /// as well.
    pub(crate) fn remove(&self, previous: Option<&NetworkResult>) -> Result<(), RulesError> {
        let foreign = self.call.maker == Maker::Unknown;
        let by_nftables = if self.backend == Backend::Nftables {
            nftables::remove(&self.rules.sockets, self.network, self.call, previous)
        } else if foreign {
            // Where they do not work there is nothing to remove.
            let _ = nftables::remove(&self.rules.sockets, self.network, self.call, previous);
            Ok(())
        } else {
            Ok(())
        };
        if foreign {
            of_reference::remove(self);
        }
        let by_iptables = iptables::remove(self, previous);
        by_nftables.map_err(RulesError::from).and(by_iptables)
    }

    /// Ends it for all of the network's attachments that GC is not told of.
    pub(crate) fn collect(&self) -> Result<(), RulesError> {
        match self.backend {
            Backend::Nftables => Ok(nftables::collect(
                &self.rules.sockets,
                self.network,
                self.call,
            )?),
            Backend::Iptables => iptables::collect(self),
        }
    }

    /// Whether all the addresses are masqueraded.
    pub(crate) fn is_in_place(&self, ips: &[IpConfig]) -> Result<bool, RulesError> {
        match self.backend {
            Backend::Nftables => Ok(nftables::is_in_place(
                &self.rules.sockets,
                self.network,
                ips,
            )?),
            Backend::Iptables => iptables::is_in_place(self, ips),
        }
    }
}
