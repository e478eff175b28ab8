//! The runtime's command line as a program of its own, for trying it with podman, conmon or `ctr`.

fn main() {
    std::process::exit(crioxide_oci_runtime_builtin::cli::main(std::env::args_os()));
}
