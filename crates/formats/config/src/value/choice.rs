//! Options that take one of a few words.

use crate::option::Kind;
use crate::value::{InvalidValue, OptionValue, Value, text};

macro_rules! choice {
    (
        $(#[doc = $doc:literal])+
        pub enum $name:ident refused $refusal:literal {
            $( $(#[doc = $variant_doc:literal])* $variant:ident = $word:literal $(| $synonym:literal)* , )+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name {
            $( $(#[doc = $variant_doc])* $variant, )+
        }

        impl $name {
            /// The words a user may write, preferred spelling only.
            pub const WORDS: &'static [&'static str] = &[$($word),+];

            /// The word in the configuration file.
            pub fn as_str(self) -> &'static str {
                match self { $( Self::$variant => $word, )+ }
            }

            /// Finds the choice for a word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word {
                    $( $word $(| $synonym)* => Some(Self::$variant), )+
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str(self.as_str())
            }
        }

        impl OptionValue for $name {
            const KIND: Kind = Kind::Text;

            fn from_value(value: &Value) -> Result<Self, InvalidValue> {
                let word = text(value)?;
                Self::from_word(word).ok_or_else(|| InvalidValue::new(format!($refusal, word)))
            }

            fn to_value(&self) -> Value {
                Value::Text(self.as_str().to_owned())
            }
        }
    };
}

choice! {
    /// Who creates and configures control groups.
    pub enum CgroupManager refused "unrecognized cgroup manager type {:?} specified, expected \"systemd\" or \"cgroupfs\"" {
        Systemd = "systemd",
        Cgroupfs = "cgroupfs",
    }
}

choice! {
    /// The least important level that is still logged, most important first.
    pub enum LogLevel refused "not a valid logrus Level: {:?}" {
        Panic = "panic",
        Fatal = "fatal",
        Error = "error",
        Warn = "warn" | "warning",
        Info = "info",
        Debug = "debug",
        Trace = "trace",
    }
}

choice! {
    /// Shape of the daemon's log lines.
    pub enum LogFormat refused "unknown log-format {:?}" {
        Text = "text",
        Json = "json",
    }
}

choice! {
    /// What a handler's `runtime_path` points to.
    pub enum HandlerType refused "invalid `runtime_type` {:?}, expected \"oci\", \"pod\" or \"vm\"" {
        /// An OCI runtime with one monitor per container.
        Oci = "oci" | "",
        /// An OCI runtime with one monitor per pod.
        Pod = "pod",
        /// A containerd shim v2, such as kata's.
        Vm = "vm",
    }
}

choice! {
    /// What becomes of the volumes that an image declares.
    pub enum ImageVolumes refused "unrecognized image volume type specified: {:?}" {
        /// An empty directory inside the root filesystem.
        Mkdir = "mkdir",
        /// A host directory below the container's own, bind-mounted.
        Bind = "bind",
        Ignore = "ignore",
    }
}

choice! {
    /// Whether an ambiguous short image name is refused.
    pub enum ShortNameMode refused "invalid short name mode {:?}, expected \"enforcing\" or \"disabled\"" {
        Enforcing = "enforcing" | "",
        Disabled = "disabled",
    }
}

choice! {
    /// How much checkpoint and restore the daemon offers.
    pub enum CheckpointLevel refused "invalid container_level_enabled {:?}, expected \"checkpoint_restore\", \"checkpoint_only\" or \"none\"" {
        CheckpointRestore = "checkpoint_restore",
        CheckpointOnly = "checkpoint_only",
        None = "none",
    }
}

choice! {
    /// The oldest TLS version that the servers accept.
    pub enum TlsVersion refused "unsupported TLS version {:?}, expected \"VersionTLS12\" or \"VersionTLS13\"" {
        Tls12 = "VersionTLS12",
        Tls13 = "VersionTLS13",
    }
}
