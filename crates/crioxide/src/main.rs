//! The one program: daemon, its helper processes, CNI plugins and command line.
//!
//! What it is to be is decided here from its arguments, before any thread exists, because some roles fork.
#![forbid(unsafe_code)]

mod cli;
mod demo;
mod launch;
mod role;
mod spawner;

use std::process::ExitCode;

use role::Role;

#[global_allocator]
static ALLOCATOR: crioxide_sys::allocator::Allocator = crioxide_sys::allocator::Allocator;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    match Role::of(&arguments) {
        Role::CommandLine => cli::run(arguments),
        Role::CniPlugin { plugin } => {
            ExitCode::from(crioxide_cni_plugins::run_as_executable(&plugin))
        }
        Role::Spawner { open_files } => spawner::run(&open_files),
        Role::Namespaces { arguments } => exit_code(crioxide_namespaces::run_helper(arguments)),
        Role::DemoImage { part } => demo::play(part),
        Role::OciRuntime { arguments } => {
            exit_code(crioxide_oci_runtime_builtin::cli::main(arguments))
        }
    }
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
