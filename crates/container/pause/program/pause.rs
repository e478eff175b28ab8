//! The infra process: holds a pod's PID namespace, reaps what is orphaned into it, and ends on SIGTERM or SIGINT.
//!
//! A program of its own without any library, because it runs once per pod for as long as the pod lives: two pages of
//! memory. It is compiled by the build script and embedded. System call numbers and conventions: syscall(2).
#![no_std]
#![no_main]

use core::arch::asm;

const SIGINT: u64 = 2;
const SIGTERM: u64 = 15;
const SIGCHLD: u64 = 17;
const SIG_BLOCK: u64 = 0;
const WNOHANG: u64 = 1;

#[cfg(target_arch = "x86_64")]
mod number {
    pub const RT_SIGPROCMASK: u64 = 14;
    pub const WAIT4: u64 = 61;
    pub const RT_SIGTIMEDWAIT: u64 = 128;
    pub const EXIT_GROUP: u64 = 231;
}

#[cfg(target_arch = "aarch64")]
mod number {
    pub const EXIT_GROUP: u64 = 94;
    pub const RT_SIGPROCMASK: u64 = 135;
    pub const RT_SIGTIMEDWAIT: u64 = 137;
    pub const WAIT4: u64 = 260;
}

#[cfg(target_arch = "x86_64")]
fn call(number: u64, a: u64, b: u64, c: u64, d: u64) -> i64 {
    let result: i64;
    // SAFETY: the callers pass only integers and addresses of live statics or locals of the right size.
    unsafe {
        asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}

#[cfg(target_arch = "aarch64")]
fn call(number: u64, a: u64, b: u64, c: u64, d: u64) -> i64 {
    let result: i64;
    // SAFETY: the callers pass only integers and addresses of live statics or locals of the right size.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result, in("x1") b, in("x2") c, in("x3") d,
            options(nostack));
    }
    result
}

#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    let signals: u64 = 1 << (SIGINT - 1) | 1 << (SIGTERM - 1) | 1 << (SIGCHLD - 1);
    let set = &raw const signals as u64;
    let size = size_of::<u64>() as u64;
    call(number::RT_SIGPROCMASK, SIG_BLOCK, set, 0, size);
    loop {
        let signal = call(number::RT_SIGTIMEDWAIT, set, 0, 0, size);
        if signal == SIGINT as i64 || signal == SIGTERM as i64 {
            call(number::EXIT_GROUP, 0, 0, 0, 0);
        }
        while call(number::WAIT4, u64::MAX, 0, WNOHANG, 0) > 0 {}
    }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {
        call(number::EXIT_GROUP, 1, 0, 0, 0);
    }
}
