//! The eBPF objects, carried inside the binary.

/// Bytes at the alignment the ELF parser wants.
#[repr(C, align(8))]
struct Aligned<T: ?Sized>(T);

static DIRECTOR_BYTES: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/director")));
static REALSERVER_BYTES: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/realserver")));

static TOA_BYTES: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/toa")));

/// The director's programs and maps.
pub(crate) fn director() -> &'static [u8] {
    &DIRECTOR_BYTES.0
}

/// The real server's program.
pub(crate) fn realserver() -> &'static [u8] {
    &REALSERVER_BYTES.0
}

/// The real server's programs for FULLNAT.
pub(crate) fn toa() -> &'static [u8] {
    &TOA_BYTES.0
}
