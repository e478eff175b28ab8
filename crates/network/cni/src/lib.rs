//! Pod networks by the Container Network Interface: network lists, the [`Plugin`] trait, exec of
//! foreign plugins, and a record of every attachment so that each ADD gets its DEL.
//!
//! [`Cni`] is what a runtime uses. It attaches pods to one network, the default one, as CRI-O
//! does. Plugins are foreign programs found in the configured directories, or built in and given
//! as a [`PluginSource`]; this crate holds none itself. All calls are synchronous and bounded by
//! deadlines.

#![forbid(unsafe_code)]

mod attachment;
mod cache;
mod capability;
mod config;
mod directory;
mod error;
mod fallback;
mod gate;
mod network;
mod plugin;
mod pod;
mod program;
mod result;
mod version;

pub use attachment::Attachment;
pub use cache::{CacheError, CachedAttachment, ResultCache};
pub use capability::{Bandwidth, DnsConfig, IpRange, ParseBandwidthError, PortMapping, Protocol};
pub use config::{NetworkList, ParseConfigError, PluginConfig};
pub use error::{CniError, NotReady};
pub use fallback::FallbackBridge;
pub use network::{AddResult, Cni, CniSettings, GcReport, HostPorts, Timeouts};
pub use plugin::search::{FindPluginError, Found, Origin, Plugins, Preference};
pub use plugin::{Call, Fate, History, Maker, Plugin, PluginError, PluginSource, Verb, error_code};
pub use pod::PodNetwork;
pub use program::{Finished, run_program};
pub use result::{Dns, Interface, IpConfig, NetworkResult, ParseResultError, Route};
pub use version::{ParseVersionError, SpecVersion};
