//! The root file system of most tests: this machine's static busybox.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use super::Layer;
use crate::requirements;

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\n\
    web:x:33:33:web:/var/www:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\ndaemon:x:1:\nweb:x:33:\nextra:x:50000:web\nnogroup:x:65534:\n";

/// The static busybox of this machine (Debian: busybox-static).
///
/// # Errors
/// With the reason to skip.
pub fn busybox_program() -> Result<PathBuf, String> {
    let program = requirements::program("busybox")?;
    let bytes =
        std::fs::read(&program).map_err(|error| format!("read {}: {error}", program.display()))?;
    if has_interpreter(&bytes) {
        return Err("needs a static busybox (Debian: busybox-static)".to_owned());
    }
    Ok(program)
}

/// busybox with a link for each of its commands, users, groups and the directories that programs expect.
///
/// # Errors
/// When busybox is not installed or does not list its commands.
pub fn busybox_layer() -> Result<Layer> {
    let program = busybox_program().map_err(anyhow::Error::msg)?;
    let bytes = std::fs::read(&program).with_context(|| format!("read `{}`", program.display()))?;
    let listed = Command::new(&program)
        .arg("--list")
        .output()
        .with_context(|| format!("run `{} --list`", program.display()))?;
    let mut layer = Layer::new();
    for directory in [
        "bin", "dev", "etc", "home", "proc", "root", "run", "sys", "usr", "var", "var/www",
    ] {
        layer = layer.directory(directory, 0o755);
    }
    layer = layer
        .directory("tmp", 0o1777)
        .file("bin/busybox", &bytes, 0o755)
        .file("etc/passwd", PASSWD.as_bytes(), 0o644)
        .file("etc/group", GROUP.as_bytes(), 0o644);
    for applet in String::from_utf8_lossy(&listed.stdout).lines() {
        if applet != "busybox" {
            layer = layer.symbolic_link(&format!("bin/{applet}"), "busybox");
        }
    }
    Ok(layer)
}

/// Whether a 64-bit little-endian ELF program wants a dynamic loader.
fn has_interpreter(elf: &[u8]) -> bool {
    const INTERPRETER: usize = 3;
    let number = |at: usize, size: usize| -> usize {
        let bytes = elf.get(at..at + size).unwrap_or_default();
        bytes
            .iter()
            .rev()
            .fold(0, |sum, byte| sum << 8 | usize::from(*byte))
    };
    let (headers, size, count) = (number(0x20, 8), number(0x36, 2), number(0x38, 2));
    (0..count).any(|index| number(headers + index * size, 4) == INTERPRETER)
}

#[cfg(test)]
mod tests {
    use super::has_interpreter;

    #[test]
    fn a_dynamic_program_is_told_from_a_static_one() {
        let shell = std::fs::read("/bin/sh").expect("a shell");
        assert!(has_interpreter(&shell));
        assert!(!has_interpreter(b"\x7fELF"));
    }
}
