//! Platforms and the choice of an image from a list or index.

use std::fmt;

/// What programs must be made for to run here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Platform {
    /// Operating system in Go's words, `linux`.
    pub os: String,
    /// Architecture in Go's words: `amd64`, `arm64`, `arm`, ...
    pub architecture: String,
    /// Variant of the architecture, such as `v7`; empty for the plain one.
    pub variant: String,
}

impl Platform {
    /// The platform this program was built for.
    #[must_use]
    pub fn host() -> Self {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", ""),
            "x86" => ("386", ""),
            "aarch64" => ("arm64", "v8"),
            "arm" => ("arm", "v7"),
            "powerpc64" => ("ppc64le", ""),
            other => (other, ""),
        };
        Self {
            os: "linux".to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.to_owned(),
        }
    }

    /// The position of the best of `offers`, the first one among equals. `None` if none can run.
    ///
    /// On ARM a lower variant runs too: the highest one that is not above this platform's wins, and an offer without
    /// variant comes last. Elsewhere an exact variant wins over none.
    pub(crate) fn choose<'a>(
        &self,
        offers: impl Iterator<Item = Option<&'a Platform>>,
    ) -> Option<usize> {
        let mut best: Option<(usize, usize)> = None;
        let wanted = self.compatible_variants();
        for (position, offer) in offers.enumerate() {
            let Some(offer) = offer else { continue };
            if offer.os != self.os || offer.architecture != self.architecture {
                continue;
            }
            let Some(rank) = wanted.iter().position(|variant| *variant == offer.variant) else {
                continue;
            };
            if best.is_none_or(|(_, best_rank)| rank < best_rank) {
                best = Some((position, rank));
            }
        }
        best.map(|(position, _)| position)
    }

    /// Variants that run here, best first.
    fn compatible_variants(&self) -> Vec<&str> {
        let ladder: &[&str] = match self.architecture.as_str() {
            "arm" => &["v8", "v7", "v6", "v5"],
            "arm64" => &["v8"],
            "amd64" => &["v4", "v3", "v2", "v1"],
            _ => &[],
        };
        let mut variants = vec![self.variant.as_str()];
        if let Some(own) = ladder.iter().position(|variant| *variant == self.variant) {
            variants.extend(&ladder[own + 1..]);
        }
        if self.architecture == "arm64" && self.variant.is_empty() {
            variants.push("v8");
        }
        if self.architecture == "amd64" && self.variant.is_empty() {
            variants.push("v1");
        }
        if !self.variant.is_empty() {
            variants.push("");
        }
        variants
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if !self.variant.is_empty() {
            write!(f, "/{}", self.variant)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform {
            os: next(),
            architecture: next(),
            variant: next(),
        }
    }

    fn choose(host: &str, offers: &[&str]) -> Option<String> {
        let parsed: Vec<_> = offers.iter().map(|offer| platform(offer)).collect();
        let found = platform(host).choose(parsed.iter().map(Some))?;
        Some(offers[found].to_owned())
    }

    #[test]
    fn the_nearest_variant_wins() {
        let arm = [
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm64/v8",
            "linux/amd64",
        ];
        for (host, offers, expected) in [
            ("linux/amd64", &arm[..], Some("linux/amd64")),
            ("linux/arm/v7", &arm[..], Some("linux/arm/v7")),
            ("linux/arm/v7", &arm[..2], Some("linux/arm/v6")),
            ("linux/arm/v6", &arm[2..], None),
            ("linux/arm64/v8", &arm[..], Some("linux/arm64/v8")),
            ("linux/arm64/v8", &["linux/arm64"], Some("linux/arm64")),
            ("linux/arm64", &arm[..], Some("linux/arm64/v8")),
            ("linux/amd64", &["linux/amd64/v3", "windows/amd64"], None),
            (
                "linux/amd64/v3",
                &["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"],
                Some("linux/amd64/v2"),
            ),
            ("linux/riscv64", &arm[..], None),
        ] {
            assert_eq!(
                choose(host, offers).as_deref(),
                expected,
                "{host} of {offers:?}"
            );
        }
    }
}
