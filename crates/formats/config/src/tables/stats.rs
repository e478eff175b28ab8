//! `[crio.stats]`

use super::Config;

option_table! {
    /// `[crio.stats]`: statistics of pods and containers.
    pub struct StatsConfig for Config, at [stats] in "crio.stats" {
        /// Old name of collection_period, without effect.
        stats_collection_period: i64 = Integer(0) => .deprecated("collection_period");
        /// Seconds between two collections. 0 collects when asked.
        collection_period: i64 = Integer(0) => .env(&["COLLECTION_PERIOD"]);
        /// Groups of pod metrics: all, or any of cpu, disk, diskIO, hugetlb, memory, network, oom,
        /// process, spec, pressure.
        included_pod_metrics: Vec<String> = List(&[])
            => .env(&["CONTAINER_INCLUDED_POD_METRICS", "CONTAINER_INCLUDED_POD_METRCIS"]);
    }
}
