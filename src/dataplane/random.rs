//! Keys nobody can guess, for hashes over what strangers choose.

use std::io;

/// A key from the kernel's random numbers (`getrandom(2)`), another one at each call.
///
/// # Errors
/// The kernel has none to give: a filter of system calls forbids it.
pub fn random_key() -> io::Result<(u64, u64)> {
    let (mut first, mut second) = ([0; 8], [0; 8]);
    fill(&mut first)?;
    fill(&mut second)?;
    Ok((u64::from_ne_bytes(first), u64::from_ne_bytes(second)))
}

/// Up to 256 bytes come at once or not at all.
fn fill(bytes: &mut [u8; 8]) -> io::Result<()> {
    use rustix::rand::{GetRandomFlags, getrandom};

    let mut draw = || getrandom(&mut bytes[..], GetRandomFlags::empty());
    match rustix::io::retry_on_intr(&mut draw)? {
        8 => Ok(()),
        _ => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_differ_in_both_halves() {
        let keys: Vec<_> = (0..8).map(|_| random_key().unwrap()).collect();
        for (at, key) in keys.iter().enumerate() {
            assert_ne!(key.0, key.1);
            for other in &keys[..at] {
                assert!(key.0 != other.0 && key.1 != other.1);
            }
        }
    }
}
