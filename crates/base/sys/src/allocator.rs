//! The program's memory allocator.
//!
//! musl's own asks the kernel for pages, and gives them back, more than a hundred times in a pod's life, because it keeps
//! hardly any that are free; and its small allocations are slow. This one keeps one compact heap (dlmalloc's), so that a
//! process forked off touches few of its pages, and goes to the kernel for large pieces only.

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dlmalloc::Dlmalloc;

/// From here on an allocation is a mapping of its own, in bytes: it is zero without being touched, and gone when freed.
const LARGE: usize = 64 * 1024;

/// Alignment of every mapping: the smallest page size.
const PAGE: usize = 4096;

static HEAP: Mutex<Dlmalloc> = Mutex::new(Dlmalloc::new());

fn heap() -> MutexGuard<'static, Dlmalloc> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves all allocations of the process, as its `#[global_allocator]`.
///
/// A process with several threads must not fork children that allocate: another thread may hold the heap.
#[derive(Debug)]
pub struct Allocator;

/// Whether an allocation has a mapping of its own. By the layout alone, which is the same when it is freed.
fn is_large(layout: Layout) -> bool {
    layout.size() >= LARGE && layout.align() <= PAGE
}

/// A private anonymous mapping of `size` bytes, zeroed; null when there is none to be had.
fn map(size: usize) -> *mut u8 {
    let (access, kind) = (
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
    );
    // SAFETY: a new mapping at an address of the kernel's choice touches no other.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), size, access, kind, -1, 0) };
    if mapped == libc::MAP_FAILED {
        return ptr::null_mut();
    }
    mapped.cast()
}

// SAFETY: small layouts are served by dlmalloc, one thread at a time, and large ones by mappings of their own; which of the
// two follows from the layout, so both calls for a pointer go to the same. Neither unwinds nor allocates by itself.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return map(layout.size());
        }
        // SAFETY: any size and alignment will do.
        unsafe { heap().malloc(layout.size(), layout.align()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(layout) {
            return map(layout.size());
        }
        // SAFETY: as above.
        unsafe { heap().calloc(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        if is_large(layout) {
            // SAFETY: the caller gives back what `map` returned for this layout.
            unsafe { libc::munmap(memory.cast(), layout.size()) };
            return;
        }
        // SAFETY: the caller gives back what the heap returned for this layout.
        unsafe { heap().free(memory, layout.size(), layout.align()) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's new size is not 0 and does not overflow when rounded up to the alignment.
        let new = unsafe { Layout::from_size_align_unchecked(new_size, layout.align()) };
        match (is_large(layout), is_large(new)) {
            (true, true) => {
                // SAFETY: the mapping is the caller's, and given up for the one returned.
                let moved = unsafe {
                    libc::mremap(memory.cast(), layout.size(), new_size, libc::MREMAP_MAYMOVE)
                };
                if moved == libc::MAP_FAILED {
                    return ptr::null_mut();
                }
                moved.cast()
            }
            // SAFETY: the heap returned it for this layout.
            (false, false) => unsafe {
                heap().realloc(memory, layout.size(), layout.align(), new_size)
            },
            _ => {
                // SAFETY: two allocations of at least so many bytes, which do not overlap; the old one is given back only
                // when there is a new one.
                unsafe {
                    let moved = self.alloc(new);
                    if !moved.is_null() {
                        ptr::copy_nonoverlapping(memory, moved, layout.size().min(new_size));
                        self.dealloc(memory, layout);
                    }
                    moved
                }
            }
        }
    }
}

/// Gives free memory at the heap's end, and of segments with nothing in them, back to the kernel. Does nothing in a program
/// that has another allocator.
pub fn trim() {
    // SAFETY: only memory that nobody has is given back.
    unsafe { heap().trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_survives_growing_and_shrinking_over_the_border() {
        let sizes = [1, 100, LARGE - 1, LARGE, LARGE * 5 + 3, LARGE * 2, 4000, 17];
        for align in [1, 16, 64, PAGE, PAGE * 4] {
            let mut layout = Layout::from_size_align(8, align).unwrap();
            // SAFETY: each pointer is used within its size, and freed once with the layout it has last.
            unsafe {
                let mut memory = Allocator.alloc(layout);
                memory.write_bytes(0x5a, layout.size());
                for size in sizes {
                    let kept = layout.size().min(size);
                    memory = Allocator.realloc(memory, layout, size);
                    layout = Layout::from_size_align(size, align).unwrap();
                    assert!(!memory.is_null() && memory.addr().is_multiple_of(align));
                    let content = std::slice::from_raw_parts(memory, kept);
                    assert!(content.iter().all(|byte| *byte == 0x5a), "{align} {size}");
                    memory.write_bytes(0x5a, size);
                }
                Allocator.dealloc(memory, layout);
            }
        }
    }

    #[test]
    fn zeroed_memory_is_zero_after_use() {
        for size in [24, 30_000, LARGE, LARGE * 3] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            for _ in 0..3 {
                // SAFETY: as above.
                unsafe {
                    let memory = Allocator.alloc_zeroed(layout);
                    let content = std::slice::from_raw_parts_mut(memory, size);
                    assert!(content.iter().all(|byte| *byte == 0), "{size}");
                    content.fill(1);
                    Allocator.dealloc(memory, layout);
                }
            }
        }
    }

    #[test]
    fn threads_share_the_heap() {
        std::thread::scope(|scope| {
            for thread in 0..4_u8 {
                scope.spawn(move || {
                    for round in 1..2_000_usize {
                        let layout = Layout::from_size_align(round % 700 + 1, 8).unwrap();
                        // SAFETY: as above.
                        unsafe {
                            let memory = Allocator.alloc(layout);
                            memory.write_bytes(thread, layout.size());
                            let content = std::slice::from_raw_parts(memory, layout.size());
                            assert!(content.iter().all(|byte| *byte == thread));
                            Allocator.dealloc(memory, layout);
                        }
                    }
                });
            }
        });
        trim();
    }
}
