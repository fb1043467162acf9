use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// IP version of a packet, a key or an address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Family {
    /// Internet Protocol version 4 (RFC 791).
    V4 = 4,
    /// Internet Protocol version 6 (RFC 8200).
    V6 = 6,
}

/// An IPv4 or IPv6 address as one 128-bit number in host order; IPv4 uses the low 32 bits.
///
/// The family is not part of it: a key or range carries the [`Family`] once for all its addresses.
/// An IPv4 address and the IPv6 address of equal number (`::a.b.c.d`) are therefore only told apart
/// by the family beside them, never by the number; IPv4-mapped IPv6 addresses stay IPv6.
///
/// Two 64-bit halves instead of a `u128` keep the alignment at 8 bytes, so that a
/// [`FlowKey`](super::FlowKey) is 40 bytes instead of 48.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Address {
    high: u64,
    low: u64,
}

impl Address {
    /// Smallest address of either family.
    pub const ZERO: Address = Address { high: 0, low: 0 };

    /// From the number in the low bits (IPv4) or all bits (IPv6).
    #[inline]
    pub const fn from_bits(bits: u128) -> Self {
        Address {
            high: (bits >> 64) as u64,
            low: bits as u64,
        }
    }

    /// The number this address is.
    #[inline]
    pub const fn to_bits(self) -> u128 {
        (self.high as u128) << 64 | self.low as u128
    }

    /// From the four bytes of an IPv4 header field.
    #[inline]
    pub const fn from_v4_bytes(bytes: [u8; 4]) -> Self {
        Address {
            high: 0,
            low: u32::from_be_bytes(bytes) as u64,
        }
    }

    /// From the sixteen bytes of an IPv6 header field.
    #[inline]
    pub const fn from_v6_bytes(bytes: [u8; 16]) -> Self {
        Self::from_bits(u128::from_be_bytes(bytes))
    }

    /// The low 32 bits, which are the whole address when the family is [`Family::V4`].
    #[inline]
    pub const fn to_v4_bits(self) -> u32 {
        self.low as u32
    }

    /// The two 64-bit halves, high first (for hashing).
    #[inline]
    pub const fn halves(self) -> [u64; 2] {
        [self.high, self.low]
    }

    /// The address as the standard library's type.
    #[inline]
    pub const fn to_ip(self, family: Family) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(self.low as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(self.to_bits())),
        }
    }

    /// Splits the standard library's type into family and address.
    #[inline]
    pub const fn from_ip(ip: IpAddr) -> (Family, Address) {
        match ip {
            IpAddr::V4(v4) => (Family::V4, Self::from_v4_bytes(v4.octets())),
            IpAddr::V6(v6) => (Family::V6, Self::from_v6_bytes(v6.octets())),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.to_bits())
    }
}

impl Family {
    /// Largest address of the family.
    #[inline]
    pub const fn last_address(self) -> Address {
        match self {
            Family::V4 => Address::from_bits(u32::MAX as u128),
            Family::V6 => Address::from_bits(u128::MAX),
        }
    }

    /// Address width in bits: 32 or 128.
    #[inline]
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The family of a standard-library address.
    #[inline]
    pub const fn of(ip: IpAddr) -> Family {
        match ip {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }
}

/// An Ethernet address (IEEE 802).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// `ff:ff:ff:ff:ff:ff`.
    pub const BROADCAST: MacAddress = MacAddress([0xff; 6]);

    /// Group bit: multicast or broadcast.
    #[inline]
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// All six bytes zero, which no station has.
    #[inline]
    pub fn is_zero(self) -> bool {
        self.0 == [0; 6]
    }
}

/// A text that is no [`MacAddress`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacAddressError;

impl fmt::Display for MacAddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no MAC address: six bytes in hexadecimal with colons between")
    }
}

impl std::error::Error for MacAddressError {}

impl std::str::FromStr for MacAddress {
    type Err = MacAddressError;

    /// Two hexadecimal digits a byte, with `:` or with `-` between, in either case.
    fn from_str(text: &str) -> Result<Self, MacAddressError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut bytes = [0; 6];
        let mut parts = text.split(separator);
        for byte in &mut bytes {
            let part = parts.next().ok_or(MacAddressError)?;
            let digits = part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit());
            let value = u8::from_str_radix(part, 16).ok().filter(|_| digits);
            *byte = value.ok_or(MacAddressError)?;
        }
        match parts.next() {
            None => Ok(MacAddress(bytes)),
            Some(_) => Err(MacAddressError),
        }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
