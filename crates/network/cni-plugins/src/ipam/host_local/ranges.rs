//! The ranges addresses come from, as configured.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use crioxide_cni::{Call, PluginError, Route};
use ipnet::IpNet;
use serde::Deserialize;

use super::NAME;
use crate::configuration::{invalid, read};

const DATA_DIR: &str = "/var/lib/cni/networks";

/// Checked settings of a call.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) data_dir: PathBuf,
    pub(super) range_sets: Vec<RangeSet>,
    pub(super) routes: Vec<Route>,
    pub(super) resolv_conf: Option<PathBuf>,
    pub(super) requested: Vec<IpAddr>,
}

/// Ranges that one address is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RangeSet(pub(super) Vec<Range>);

/// Addresses from `start` to `end` of a subnet, without its gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) subnet: IpNet,
    pub(super) start: IpAddr,
    pub(super) end: IpAddr,
    pub(super) gateway: IpAddr,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Configuration {
    ipam: Ipam,
    #[serde(default)]
    runtime_config: RuntimeConfig,
    #[serde(default)]
    args: Option<Args>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ipam {
    #[serde(default)]
    ranges: Vec<Vec<RawRange>>,
    subnet: Option<IpNet>,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    resolv_conf: String,
    #[serde(default)]
    data_dir: String,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct RawRange {
    subnet: IpNet,
    range_start: Option<IpAddr>,
    range_end: Option<IpAddr>,
    gateway: Option<IpAddr>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RuntimeConfig {
    #[serde(default)]
    ip_ranges: Vec<Vec<RawRange>>,
    #[serde(default)]
    ips: Vec<String>,
}

#[derive(Default, Deserialize)]
struct Args {
    #[serde(default)]
    cni: Option<CniArgs>,
}

#[derive(Default, Deserialize)]
struct CniArgs {
    #[serde(default)]
    ips: Vec<String>,
}

/// Reads and checks the settings of a call.
pub(super) fn settings(call: &Call<'_>) -> Result<Settings, PluginError> {
    let configuration: Configuration = read(NAME, call)?;
    let ipam = configuration.ipam;
    let single = ipam.subnet.map(|subnet| {
        vec![RawRange {
            subnet,
            range_start: ipam.range_start,
            range_end: ipam.range_end,
            gateway: ipam.gateway,
        }]
    });
    let raw = single
        .into_iter()
        .chain(ipam.ranges)
        .chain(configuration.runtime_config.ip_ranges);
    let mut range_sets: Vec<RangeSet> = Vec::new();
    for (number, ranges) in raw.enumerate() {
        let set = RangeSet::new(&ranges)
            .map_err(|reason| invalid(NAME, format!("range set {number}: {reason}")))?;
        if range_sets.iter().any(|other| other.overlaps(&set)) {
            return Err(invalid(
                NAME,
                format!("range set {number} overlaps an earlier one"),
            ));
        }
        range_sets.push(set);
    }
    if range_sets.is_empty() {
        return Err(invalid(
            NAME,
            "no address ranges: `ipam.ranges` or `ipam.subnet` is needed",
        ));
    }
    let from_args = call
        .args
        .iter()
        .filter(|(key, value)| key == "IP" && !value.is_empty())
        .map(|(_, value)| value.clone());
    let cni_args = configuration
        .args
        .and_then(|args| args.cni)
        .unwrap_or_default();
    let requested: Result<Vec<_>, _> = from_args
        .chain(cni_args.ips)
        .chain(configuration.runtime_config.ips)
        .map(|text| parse_requested(&text))
        .collect();
    Ok(Settings {
        data_dir: PathBuf::from(if ipam.data_dir.is_empty() {
            DATA_DIR
        } else {
            &ipam.data_dir
        }),
        range_sets,
        routes: ipam.routes,
        resolv_conf: Some(PathBuf::from(ipam.resolv_conf))
            .filter(|path| !path.as_os_str().is_empty()),
        requested: requested?,
    })
}

impl RangeSet {
    fn new(raw: &[RawRange]) -> Result<Self, String> {
        let ranges: Vec<_> = raw.iter().map(Range::new).collect::<Result<_, _>>()?;
        let Some(first) = ranges.first() else {
            return Err("it is empty".to_owned());
        };
        if ranges
            .iter()
            .any(|range| range.start.is_ipv4() != first.start.is_ipv4())
        {
            return Err("it mixes IPv4 and IPv6".to_owned());
        }
        for (position, range) in ranges.iter().enumerate() {
            if ranges[..position].iter().any(|other| other.overlaps(range)) {
                return Err(format!(
                    "range {} to {} overlaps another",
                    range.start, range.end
                ));
            }
        }
        Ok(Self(ranges))
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|range| range.contains(address))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.0
            .iter()
            .any(|range| other.0.iter().any(|candidate| candidate.overlaps(range)))
    }
}

impl Range {
    fn new(raw: &RawRange) -> Result<Self, String> {
        let subnet = raw.subnet;
        if subnet.trunc() != subnet {
            return Err(format!(
                "subnet {subnet} has host bits set, the network is {}",
                subnet.trunc()
            ));
        }
        if subnet.prefix_len() + 2 > subnet.max_prefix_len() {
            return Err(format!("subnet {subnet} is too small to allocate from"));
        }
        let network = number(subnet.network());
        let last = number(subnet.broadcast()) - u128::from(subnet.addr().is_ipv4());
        let default = |given: Option<IpAddr>, fallback: u128| {
            given.unwrap_or_else(|| address(fallback, subnet.addr()))
        };
        let range = Self {
            subnet,
            start: default(raw.range_start, network + 1),
            end: default(raw.range_end, last),
            gateway: default(raw.gateway, network + 1),
        };
        for (key, value) in [("rangeStart", range.start), ("rangeEnd", range.end)] {
            if !subnet.contains(&value) {
                return Err(format!("`{key}` {value} is not in subnet {subnet}"));
            }
        }
        if number(range.start) > number(range.end) {
            return Err(format!(
                "`rangeStart` {} is behind `rangeEnd` {}",
                range.start, range.end
            ));
        }
        Ok(range)
    }

    pub(super) fn contains(&self, candidate: IpAddr) -> bool {
        self.subnet.contains(&candidate)
            && (number(self.start)..=number(self.end)).contains(&number(candidate))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.start.is_ipv4() == other.start.is_ipv4()
            && number(self.start) <= number(other.end)
            && number(other.start) <= number(self.end)
    }
}

/// An address as a number, to count with.
pub(super) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address of `number` in the family of `like`.
pub(super) fn address(number: u128, like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(
            u32::try_from(number).unwrap_or(u32::MAX),
        )),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from_bits(number)),
    }
}

/// Requested addresses may carry a prefix length, which the range decides anyway.
fn parse_requested(text: &str) -> Result<IpAddr, PluginError> {
    let parsed = text
        .parse::<IpNet>()
        .map(|network| network.addr())
        .or_else(|_| text.parse::<IpAddr>());
    parsed.map_err(|_| {
        invalid(
            NAME,
            format!(
                "requested address `{}` is not an address",
                text.escape_default()
            ),
        )
    })
}
