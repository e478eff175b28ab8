//! Which `iptables` programs there are, and which one to use.

use std::collections::HashSet;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::IptablesError;
use super::tool::Iptables;

/// A chain of one rule in every table that we change: when it is gone, somebody reloaded the firewall.
pub(crate) const CANARY: &str = "CRIOXIDE-CANARY";
/// Where administrators' programs are, also when the search path does not say so.
const DIRECTORIES: [&str; 2] = ["/usr/sbin", "/sbin"];

/// One of the variants that may be installed side by side. Their rules are apart in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Flavor {
    /// `iptables`, when it is the variant that speaks to nftables.
    Nft,
    /// The one with tables of its own.
    Legacy,
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nft => "iptables (nf_tables)",
            Self::Legacy => "iptables (legacy)",
        })
    }
}

/// The programs, and what was found out about them.
#[derive(Debug, Default)]
pub(crate) struct Programs {
    /// The only place to look, or else the search path.
    directory: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// For IPv4 and IPv6.
    chosen: [Option<Flavor>; 2],
    /// Tables without news, by family.
    watched: HashSet<(bool, &'static str)>,
}

impl Programs {
    pub(crate) fn in_directory(directory: PathBuf) -> Self {
        Self {
            directory: Some(directory),
            state: Mutex::default(),
        }
    }

    /// The variant to use: that of `iptables` itself, which is the administrator's choice, or the legacy one where that
    /// does not work.
    pub(crate) fn chosen(&self, ipv4: bool, deadline: Instant) -> Result<Flavor, IptablesError> {
        if let Some(flavor) = self.state().chosen[usize::from(!ipv4)] {
            return Ok(flavor);
        }
        let plain = self.flavor_of_plain(ipv4, deadline);
        let works = |flavor| {
            Iptables::new(self, ipv4, flavor, "nat", deadline)
                .run(&["-n", "-L", "POSTROUTING"])
                .map(|()| flavor)
        };
        let found = plain
            .and_then(works)
            .or_else(|error| works(Flavor::Legacy).map_err(|_| error))?;
        self.state().chosen[usize::from(!ipv4)] = Some(found);
        Ok(found)
    }

    fn flavor_of_plain(&self, ipv4: bool, deadline: Instant) -> Result<Flavor, IptablesError> {
        let name = base(ipv4);
        let output = super::tool::run(
            Command::new(self.find(name)?).arg("--version"),
            &[],
            deadline,
        )?;
        // Before there were two, there was the legacy one.
        let version = String::from_utf8_lossy(&output.stdout);
        Ok(if version.contains("nf_tables") {
            Flavor::Nft
        } else {
            Flavor::Legacy
        })
    }

    /// The program of a variant: `part` is empty, `-save` or `-restore`.
    pub(super) fn program(
        &self,
        ipv4: bool,
        flavor: Flavor,
        part: &str,
    ) -> Result<PathBuf, IptablesError> {
        let suffix = match flavor {
            Flavor::Nft => "-nft",
            Flavor::Legacy => "-legacy",
        };
        let name = base(ipv4);
        self.find(&format!("{name}{suffix}{part}"))
            .or_else(|_| self.find(&format!("{name}{part}")))
    }

    fn find(&self, name: &str) -> Result<PathBuf, IptablesError> {
        let missing = || IptablesError::Missing(name.to_owned());
        if let Some(directory) = &self.directory {
            return Some(directory.join(name))
                .filter(|path| path.exists())
                .ok_or_else(missing);
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain(DIRECTORIES.map(PathBuf::from))
            .map(|directory| directory.join(name))
            .find(|path| path.exists())
            .ok_or_else(missing)
    }

    /// Remembers that a table holds rules of ours, if the kernel does not tell when they go.
    pub(super) fn watch(&self, ipv4: bool, flavor: Flavor, table: &'static str) {
        if flavor == Flavor::Legacy {
            self.state().watched.insert((ipv4, table));
        }
    }

    /// Whether there are rules of ours of whose end the kernel does not tell.
    pub(crate) fn is_watching(&self) -> bool {
        !self.state().watched.is_empty()
    }

    /// Whether one of these tables has lost its canary.
    pub(crate) fn lost_canary(&self, deadline: Instant) -> Result<bool, IptablesError> {
        let watched: Vec<_> = self.state().watched.iter().copied().collect();
        for (ipv4, table) in watched {
            let saved = Iptables::new(self, ipv4, Flavor::Legacy, table, deadline).save()?;
            if !saved.has_canary() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn base(ipv4: bool) -> &'static str {
    if ipv4 { "iptables" } else { "ip6tables" }
}
