//! Ethernet addresses.

use std::fmt;
use std::str::FromStr;

/// A 48-bit Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacAddress([u8; 6]);

/// The text is not six hexadecimal bytes joined by colons.
#[derive(Debug, thiserror::Error)]
#[error("`{text}` is not an Ethernet address")]
pub struct ParseMacError {
    /// The text that was refused.
    pub text: String,
}

impl MacAddress {
    /// A random unicast address from the locally administered range.
    ///
    /// Links are created with an explicit address because udev's persistent naming policy rewrites
    /// kernel-chosen ones a moment after creation, and a recorded result would no longer match.
    ///
    /// # Errors
    /// When the kernel's random source fails.
    pub fn generate() -> Result<Self, std::io::Error> {
        let mut bytes = [0; 6];
        getrandom::fill(&mut bytes).map_err(|error| std::io::Error::other(error.to_string()))?;
        bytes[0] = (bytes[0] & 0xfc) | 0x02;
        Ok(Self(bytes))
    }

    /// The address in transmission order.
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// The address held by `bytes`, when there are exactly six.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for MacAddress {
    type Err = ParseMacError;

    fn from_str(text: &str) -> Result<Self, ParseMacError> {
        let refused = || ParseMacError {
            text: text.to_owned(),
        };
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(refused)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| refused())?;
        }
        if parts.next().is_some() {
            return Err(refused());
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses() {
        let mac = MacAddress::generate().unwrap();
        assert_eq!(mac.to_string().parse::<MacAddress>().unwrap(), mac);
        assert_eq!(mac.bytes()[0] & 0x03, 0x02, "unicast, locally administered");
        for text in [
            "",
            "00:11:22:33:44",
            "00:11:22:33:44:55:66",
            "0:11:22:33:44:555",
            "zz:11:22:33:44:55",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
    }
}
