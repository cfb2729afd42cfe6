//! SCTP, RFC 9260 §3: only what a balancer reads, and its checksum.

/// Bytes of the common header.
pub const LEN: usize = 12;
/// Offset of the checksum.
pub const CHECKSUM: usize = 8;
/// Offset of the first chunk's type.
pub const CHUNK: usize = 12;
/// Bytes of a chunk's header.
pub const CHUNK_LEN: usize = 4;

use crate::mask::opaque;

/// Castagnoli's polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// What the CRC32c of a message of `len` bytes changes by when its first four bytes (two ports, as
/// raw memory words) change from `old` to `new`: to be XORed into the field, in host order of the
/// little-endian value the wire holds.
///
/// A CRC is linear: the change is the CRC of the difference followed by zeros, with neither preset
/// nor final inversion, so that no byte of the payload is needed.
#[inline(always)]
pub fn checksum_change(old: u32, new: u32, len: u32) -> u32 {
    let mut crc = u32::from_le(old ^ new);
    for _ in 0..32 {
        crc = step(crc);
    }
    // Each zero byte is a multiplication by x^8: by x^(8·2^k) for each bit k of their number.
    let zeros = len.wrapping_sub(4);
    let mut power = 0x0080_0000; // x^8 reflected
    for bit in 0..16 {
        let moved = multiply(crc, power);
        crc = crc ^ times(zeros >> bit, crc ^ moved);
        power = multiply(power, power);
    }
    crc
}

#[inline(always)]
fn step(crc: u32) -> u32 {
    (crc >> 1) ^ times(crc, POLYNOMIAL)
}

/// `value` if the lowest bit of `bit` is set, else 0: by a multiplication that stays one. As a branch or
/// a mask, the verifier would follow it both ways at each of a thousand steps.
#[inline(always)]
fn times(bit: u32, value: u32) -> u32 {
    (opaque((bit & 1) as usize) as u32).wrapping_mul(value)
}

/// Product of two reflected polynomials modulo the polynomial.
#[inline(always)]
fn multiply(mut a: u32, b: u32) -> u32 {
    let mut product = 0;
    let mut b = b;
    for _ in 0..32 {
        product ^= times(a >> 31, b);
        a <<= 1;
        b = step(b);
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crc32c(bytes: &[u8]) -> u32 {
        let mut crc = u32::MAX;
        for byte in bytes {
            crc ^= u32::from(*byte);
            for _ in 0..8 {
                crc = step(crc);
            }
        }
        !crc
    }

    #[test]
    fn the_check_value_of_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn a_changed_port_changes_the_checksum_as_a_recount_does() {
        for len in [12usize, 16, 33, 700, 1480, 65_515] {
            let mut message: Vec<u8> = (0..len).map(|i| (i * 31 + 7) as u8).collect();
            message[8..12].fill(0);
            let before = crc32c(&message);
            let old = u32::from_ne_bytes(message[..4].try_into().unwrap());
            message[..4].copy_from_slice(&[0x13, 0x88, 0x00, 0x50]);
            let new = u32::from_ne_bytes(message[..4].try_into().unwrap());
            let after = before ^ checksum_change(old, new, len as u32);
            assert_eq!(after, crc32c(&message), "{len} bytes");
        }
    }
}
