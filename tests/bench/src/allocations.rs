//! Counts the bytes that are allocated, while somebody wants to know.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

static COUNTING: AtomicBool = AtomicBool::new(false);
static HELD: AtomicI64 = AtomicI64::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count(bytes: usize, sign: i64) {
    if COUNTING.load(Ordering::Relaxed) {
        HELD.fetch_add(sign * bytes as i64, Ordering::Relaxed);
    }
}

#[allow(unsafe_code, reason = "an allocator cannot be written otherwise")]
// SAFETY: it is the system's allocator, which is given what was asked for.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 1);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(layout.size(), -1);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Begins to count.
pub fn begin() {
    HELD.store(0, Ordering::Relaxed);
    COUNTING.store(true, Ordering::Relaxed);
}

/// Ends it, and gives how many bytes more are allocated than when it began.
pub fn held() -> i64 {
    COUNTING.store(false, Ordering::Relaxed);
    HELD.load(Ordering::Relaxed)
}
