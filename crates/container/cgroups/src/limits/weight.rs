//! Conversion between version 1 cpu shares (2 to 262144) and version 2 weight (1 to 10000).

/// Weight for `shares`; 0, which means unset, stays 0.
///
/// The curve is the one runc and crun agreed on: it maps the smallest, the default (1024) and the largest value onto the
/// smallest, the default (100) and the largest weight, where a straight line would turn 1024 into 39.
pub fn cpu_shares_to_weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        _ => {
            let log = (shares as f64).log2();
            let exponent = log * (log + 125.0) / 612.0 - 7.0 / 34.0;
            // The guard keeps exact powers from being rounded up by the last bit of the logarithm.
            (10_f64.powf(exponent) - 1e-9).ceil() as u64
        }
    }
}

/// The smallest shares that give `weight`; 0 stays 0.
pub fn cpu_weight_to_shares(weight: u64) -> u64 {
    if weight == 0 {
        return 0;
    }
    let (mut low, mut high) = (2, 262_144);
    while low < high {
        let middle = (low + high) / 2;
        if cpu_shares_to_weight(middle) >= weight {
            high = middle
        } else {
            low = middle + 1
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_points() {
        for (shares, weight) in [
            (0, 0),
            (2, 1),
            (1024, 100),
            (262_144, 10_000),
            (1 << 40, 10_000),
            (1, 1),
        ] {
            assert_eq!(cpu_shares_to_weight(shares), weight, "{shares}");
        }
    }

    #[test]
    fn weight_never_falls_and_is_reached_again() {
        let mut last = 0;
        for shares in 2..20_000 {
            let weight = cpu_shares_to_weight(shares);
            assert!(weight >= last);
            last = weight;
            assert!(cpu_weight_to_shares(weight) <= shares);
            assert_eq!(cpu_shares_to_weight(cpu_weight_to_shares(weight)), weight);
        }
    }
}
