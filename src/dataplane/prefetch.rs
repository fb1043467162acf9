//! Memory asked for before it is needed.
#![allow(unsafe_code)]

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// Lets the processor fetch a value while other work goes on; nothing waits for it. Where the
/// processor has no such instruction, or we do not know it, nothing happens.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    let first: *const T = value;
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        fetch_line(first.cast::<i8>().wrapping_add(offset));
    }
    // A value that does not start with a line may end in one more.
    if align_of::<T>() < LINE_BYTES {
        fetch_line(first.wrapping_add(1).cast::<i8>().wrapping_sub(1));
    }
}

#[inline(always)]
fn fetch_line(at: *const i8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint: it gives no value, changes none and never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
