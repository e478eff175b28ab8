//! What this machine has, and Debian packages for what it lacks.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use crate::run::run;

/// A program and the Debian package that holds it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tool {
    /// A name to look up in PATH, or an absolute path.
    pub(crate) program: &'static str,
    pub(crate) package: &'static str,
}

/// What a static build needs: a C compiler for musl (TLS and zstd hold C and assembler).
pub(crate) const MUSL: Tool = Tool {
    program: "musl-gcc",
    package: "musl-tools",
};

/// What building the tests needs: the independent CRI definition of the wire-format test compiles its own proto file.
pub(crate) const PROTOC: Tool = Tool {
    program: "protoc",
    package: "protobuf-compiler",
};

/// What the tests that compare and interoperate with other programs use.
pub(crate) const TEST_TOOLS: &[Tool] = &[
    Tool {
        program: "runc",
        package: "runc",
    },
    Tool {
        program: "crun",
        package: "crun",
    },
    Tool {
        program: "containerd-shim-runc-v2",
        package: "containerd",
    },
    Tool {
        program: "conmon",
        package: "conmon",
    },
    Tool {
        program: "/usr/lib/cni/bridge",
        package: "containernetworking-plugins",
    },
    Tool {
        program: "docker-registry",
        package: "docker-registry",
    },
    Tool {
        program: "busybox",
        package: "busybox-static",
    },
    Tool {
        program: "podman",
        package: "podman",
    },
    Tool {
        program: "skopeo",
        package: "skopeo",
    },
    Tool {
        program: "buildah",
        package: "buildah",
    },
    Tool {
        program: "nft",
        package: "nftables",
    },
    Tool {
        program: "ip",
        package: "iproute2",
    },
];

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// Whether a program is installed. `/usr/sbin` counts even where an ordinary user's PATH lacks it.
pub(crate) fn has(program: &str) -> bool {
    if program.starts_with('/') {
        return Path::new(program).exists();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}

/// Installs the packages of the missing ones of `tools`.
///
/// # Errors
/// When one is missing and apt-get cannot install it; the message is the command to type.
pub(crate) fn ensure(tools: &[Tool]) -> Result<()> {
    let packages = missing(tools);
    if packages.is_empty() {
        return Ok(());
    }
    let wanted = packages.join(" ");
    if !has("apt-get") {
        bail!("missing here: {wanted} (Debian's names); install them and try again");
    }
    if !is_root() {
        bail!("missing here: {wanted}; install them with `sudo apt-get install {wanted}`");
    }
    let install = || {
        run(Command::new("apt-get")
            .args(["install", "-y", "-qq", "--no-install-recommends"])
            .args(&packages)
            .env("DEBIAN_FRONTEND", "noninteractive"))
    };
    // The package lists may be absent or old: fetch them only if it does not work without.
    if install().is_err() {
        run(Command::new("apt-get").args(["update", "-qq"]))?;
        install()?;
    }
    Ok(())
}

/// The packages of those of `tools` that are not installed.
pub(crate) fn missing(tools: &[Tool]) -> Vec<&'static str> {
    tools
        .iter()
        .filter(|tool| !has(tool.program))
        .map(|tool| tool.package)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Tool, has, missing};

    #[test]
    fn finds_what_is_there_and_names_what_is_not() {
        assert!(has("sh"));
        assert!(!has("no-such-program-anywhere"));
        let tools = [
            Tool {
                program: "/bin/sh",
                package: "dash",
            },
            Tool {
                program: "/no/such/file",
                package: "absent",
            },
        ];
        assert_eq!(missing(&tools), ["absent"]);
    }
}
