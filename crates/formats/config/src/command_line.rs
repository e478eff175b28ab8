//! Options that exist on the command line only.

use std::path::PathBuf;

use crate::value::choice::LogFormat;

option_table! {
    /// Flags without a key in the configuration file.
    pub struct CommandLineOptions for CommandLineOptions, at [] in "" {
        /// Configuration file. Empty reads none.
        config: Option<PathBuf> = Text("/etc/crio/crio.conf") => .short('c');
        /// Directory of drop-in files, read recursively in lexical order. Empty reads none.
        config_dir: Option<PathBuf> = Text("/etc/crio/crio.conf.d") => .short('d');
        /// Append the log to this file instead of standard error.
        log: Option<PathBuf> = Text("");
        /// Shape of the log: text or json.
        log_format: LogFormat = Text("text");
        /// Serve profiles on 127.0.0.1.
        profile: bool = Bool(false);
        /// Port of the profile server.
        profile_port: u16 = Integer(6060);
        /// Write a CPU profile to this file.
        profile_cpu: Option<PathBuf> = Text("");
        /// Write a memory profile to this file.
        profile_mem: Option<PathBuf> = Text("");
        /// Serve profiles on the CRI socket.
        enable_profile_unix_socket: bool = Bool(false) => .env(&["ENABLE_PROFILE_UNIX_SOCKET"]);
        /// Handlers, as name:path:root[:type[:privileged_without_host_devices[:config_path[:container_min_memory]]]].
        runtimes: Vec<String> = List(&[]);
        /// Path of registries.conf.
        registries_conf: Option<PathBuf> = Text("") => .hidden();
        /// Directory of registries.conf drop-ins.
        registries_conf_dir: Option<PathBuf> = Text("") => .hidden();
        /// Address that old clients expect; without effect.
        address: String = Text("") => .hidden().no_env();
    }
}
