//! `[crio]`

use std::path::PathBuf;

use super::Config;

option_table! {
    /// `[crio]`: the store and the files that survive the process.
    pub struct RootConfig for Config, at [root] in "crio" {
        /// Graph root of containers/storage: images, layers, container records and artifacts.
        /// Empty takes what storage.conf says.
        root: PathBuf = Text("/var/lib/containers/storage") => .short('r');
        /// The part of the store that a reboot may lose. Empty takes what storage.conf says.
        runroot: PathBuf = Text("/run/containers/storage");
        /// A separate graph root for image layers and image records; containers stay below root.
        imagestore: Option<PathBuf> = Text("");
        /// Storage driver: overlay, vfs, btrfs, zfs, devicemapper or aufs. Empty takes what storage.conf says, then detects one.
        storage_driver: String = Text("") => .short('s');
        /// Options of the storage driver, as driver.key=value. Those of every file add up;
        /// of the same entry given twice the last one counts.
        storage_option: Vec<String> = List(&[]) => .named("storage-opt");
        /// Where the logs of a pod go when the kubelet names no directory. Must be absolute.
        log_dir: PathBuf = Text("/var/log/crio/pods");
        /// Version marker on a tmpfs: when it is absent or of another version the machine was rebooted or
        /// upgraded, and containers are wiped.
        version_file: Option<PathBuf> = Text("/var/run/crio/version");
        /// Version marker on disk: when it is of an older minor version images are wiped too. Empty disables.
        version_file_persist: Option<PathBuf> = Text("");
        /// Wipe containers and images, if need be, when the daemon starts instead of by the wipe command.
        internal_wipe: bool = Bool(true);
        /// Check the store when the daemon starts after an unclean shutdown, and repair it.
        internal_repair: bool = Bool(true);
        /// Marker of a clean shutdown. Empty turns the whole mechanism off.
        clean_shutdown_file: Option<PathBuf> = Text("/var/lib/crio/clean.shutdown");
    }
}
