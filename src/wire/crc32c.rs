//! CRC32c (Castagnoli), SCTP's checksum (RFC 9260 §6.8, appendix A).

/// The polynomial, bits reversed.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[k][b]`: what byte `b` contributes with `k` more bytes behind it.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            remainder = remainder >> 1 ^ if remainder & 1 != 0 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        tables[0][byte] = remainder;
        byte += 1;
    }
    let mut further = 1;
    while further < 8 {
        byte = 0;
        while byte < 256 {
            let remainder = tables[further - 1][byte];
            tables[further][byte] = remainder >> 8 ^ tables[0][(remainder & 0xff) as usize];
            byte += 1;
        }
        further += 1;
    }
    tables
}

/// Continues a CRC register (`!0` at the start, complemented at the end) over `bytes`.
#[inline]
fn extend(mut register: u32, bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        let value = u64::from_le_bytes(*word) ^ u64::from(register);
        register = 0;
        for (index, byte) in value.to_le_bytes().into_iter().enumerate() {
            register ^= TABLES[7 - index][byte as usize];
        }
    }
    for byte in rest {
        register = register >> 8 ^ TABLES[0][((register ^ u32::from(*byte)) & 0xff) as usize];
    }
    register
}

/// CRC32c of an SCTP packet, its checksum field (bytes 8 to 11) taken as 0. It stands in the field
/// least significant byte first. The packet has 12 bytes at least.
pub(super) fn sctp(packet: &[u8]) -> u32 {
    let register = extend(extend(!0, &packet[..8]), &[0; 4]);
    !extend(register, &packet[12..])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test vector of RFC 3720 appendix B.4, and the check value of the CRC catalogue.
    #[test]
    fn known_values() {
        assert_eq!(!extend(!0, b"123456789"), 0xe306_9283);
        assert_eq!(!extend(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(!extend(!0, &[0xff; 32]), 0x62a8_ab43);
    }
}
