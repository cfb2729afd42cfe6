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

/// How many instructions the kernel's verifier looked at for each program that is loaded.
pub(crate) fn verified_instructions(ebpf: &aya::Ebpf) -> Vec<(String, u32)> {
    let mut counts: Vec<_> = ebpf
        .programs()
        .filter_map(|(name, program)| {
            let count = program.info().ok()?.verified_instruction_count()?;
            Some((name.to_owned(), count))
        })
        .collect();
    counts.sort();
    counts
}
