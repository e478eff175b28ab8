//! Tables, chains and sets as the caller describes them.

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    Ip,
    /// IPv6.
    Ip6,
    /// IPv4 and IPv6.
    Inet,
    /// What passes a bridge.
    Bridge,
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept or drop.
    Filter,
    /// Translate addresses; sees the first packet of each connection.
    Nat,
}

/// Where in a packet's way a base chain runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// On arrival, before routing.
    Prerouting,
    /// After a local process sent it.
    Output,
    /// Before it leaves, after routing.
    Postrouting,
}

/// A chain hooked into packet processing.
#[derive(Debug, Clone, Copy)]
pub struct BaseChain<'a> {
    /// Name within the table.
    pub name: &'a str,
    /// What it may do.
    pub kind: ChainKind,
    /// Where it runs.
    pub hook: Hook,
    /// Order among the chains of the hook; lower runs earlier.
    pub priority: i32,
}

/// Type of one part of a set's key or data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// IPv4 address, 4 bytes.
    Ipv4Address,
    /// IPv6 address, 16 bytes.
    Ipv6Address,
    /// Transport protocol number, 1 byte padded to 4.
    InetProtocol,
    /// Port in network order, 2 bytes padded to 4.
    InetService,
}

/// A named set, or a map when `data` is not empty.
#[derive(Debug, Clone, Copy)]
pub struct SetSpec<'a> {
    /// Name within the table.
    pub name: &'a str,
    /// Parts of the key, in order.
    pub key: &'a [DataType],
    /// Parts of the value of a map, in order.
    pub data: &'a [DataType],
}

impl Family {
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Bridge => 7,
            Self::Ip6 => 10,
        }
    }
}

impl ChainKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

impl Hook {
    pub(crate) fn number(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }
}

impl DataType {
    /// The number `nft` knows the type by; the kernel only stores it.
    fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::Ipv6Address => 8,
            Self::InetProtocol => 12,
            Self::InetService => 13,
        }
    }

    /// Bytes it takes in a key, each part padded to a 32-bit register.
    fn width(self) -> u32 {
        if self == Self::Ipv6Address { 16 } else { 4 }
    }

    /// Type number and width of a concatenation.
    pub(crate) fn concatenated(parts: &[Self]) -> (u32, u32) {
        let number = parts
            .iter()
            .fold(0, |number, part| (number << 6) | part.number());
        (number, parts.iter().map(|part| part.width()).sum())
    }
}
