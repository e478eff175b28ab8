//! Device programs of cgroup version 2: loading, attaching, listing, detaching by bpf(2).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::syscall::checked;

/// One BPF instruction, laid out as the kernel reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination register in the lower half, source register in the upper half. (Little-endian machines.)
    pub registers: u8,
    /// Memory or jump offset.
    pub offset: i16,
    /// Constant operand.
    pub immediate: i32,
}

#[cfg(target_endian = "big")]
compile_error!("the register nibbles of BPF instructions are swapped on big-endian machines");

const PROG_LOAD: libc::c_int = 5;
const PROG_ATTACH: libc::c_int = 8;
const PROG_DETACH: libc::c_int = 9;
const PROG_GET_FD_BY_ID: libc::c_int = 13;
const PROG_QUERY: libc::c_int = 16;
const PROGRAM_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;
/// The kernel refuses more than this on one cgroup.
const MOST_PROGRAMS: usize = 64;

/// The part of `union bpf_attr` that loading a program uses.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The part of `union bpf_attr` that attaching and detaching use.
#[repr(C)]
#[derive(Default)]
struct AttachAttributes {
    target: u32,
    program: u32,
    attach_type: u32,
    flags: u32,
    replaced: u32,
}

/// The part of `union bpf_attr` that listing uses.
#[repr(C)]
#[derive(Default)]
struct QueryAttributes {
    target: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    ids: u64,
    count: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that opening by id uses.
#[repr(C)]
#[derive(Default)]
struct ByIdAttributes {
    id: u32,
    next_id: u32,
    flags: u32,
}

/// Loads a program that decides about device accesses (result 1 allows, 0 denies).
///
/// # Errors
/// What bpf(2) reports: `EINVAL` or `EACCES` when the verifier refuses it, `EPERM` without privilege.
pub fn load_device_program(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let mut attributes = LoadAttributes {
        program_type: PROGRAM_TYPE_CGROUP_DEVICE,
        instruction_count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name: *b"crioxide_device\0",
    };
    let descriptor = call(PROG_LOAD, &mut attributes)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as i32) })
}

/// Puts a loaded program in force for the cgroup directory open as `cgroup`, besides those already there.
///
/// # Errors
/// What bpf(2) reports.
pub fn attach_device_program(cgroup: impl AsFd, program: impl AsFd) -> io::Result<()> {
    let mut attributes = AttachAttributes {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_fd().as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        flags: ALLOW_MULTI,
        replaced: 0,
    };
    call(PROG_ATTACH, &mut attributes).map(drop)
}

/// Ids of the device programs attached to this cgroup itself, not those of its parents.
///
/// # Errors
/// What bpf(2) reports.
pub fn device_programs(cgroup: impl AsFd) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MOST_PROGRAMS];
    let mut attributes = QueryAttributes {
        target: cgroup.as_fd().as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        ids: ids.as_mut_ptr() as u64,
        count: MOST_PROGRAMS as u32,
        ..QueryAttributes::default()
    };
    call(PROG_QUERY, &mut attributes)?;
    ids.truncate(attributes.count as usize);
    Ok(ids)
}

/// Takes the program with this id off the cgroup.
///
/// # Errors
/// What bpf(2) reports.
pub fn detach_device_program(cgroup: impl AsFd, id: u32) -> io::Result<()> {
    let mut by_id = ByIdAttributes {
        id,
        ..ByIdAttributes::default()
    };
    let descriptor = call(PROG_GET_FD_BY_ID, &mut by_id)?;
    // SAFETY: the kernel returned a new descriptor that nobody else owns.
    let program = unsafe { OwnedFd::from_raw_fd(descriptor as i32) };
    let mut attributes = AttachAttributes {
        target: cgroup.as_fd().as_raw_fd() as u32,
        program: program.as_raw_fd() as u32,
        attach_type: ATTACH_CGROUP_DEVICE,
        ..AttachAttributes::default()
    };
    call(PROG_DETACH, &mut attributes).map(drop)
}

fn call<T>(command: libc::c_int, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is a complete prefix of `union bpf_attr` for the command and the size says how long it is; the
    // pointers in it refer to live buffers of the counts given beside them (callers above). rustix has no bpf(2).
    checked(unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size_of::<T>()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_allows_is_accepted_and_a_broken_one_is_not() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let exit = Instruction {
            code: 0x95,
            registers: 0,
            offset: 0,
            immediate: 0,
        };
        let allow = Instruction {
            code: 0xb7,
            registers: 0,
            offset: 0,
            immediate: 1,
        };
        load_device_program(&[allow, exit]).unwrap();
        // The result register is never set.
        assert!(load_device_program(&[exit]).is_err());
    }
}
