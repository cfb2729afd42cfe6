//! Maps as plain memory: what an mmapable array holds, at no system call per entry.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// The values of an array map, mapped into this process, or plain memory of the same shape.
#[derive(Debug)]
pub struct Mapped<T> {
    first: *mut T,
    len: u32,
    bytes: usize,
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    Mmap,
    Heap(std::alloc::Layout),
}

// SAFETY: the memory is shared with the kernel anyway; all access is through atomics or volatile.
unsafe impl<T> Send for Mapped<T> {}

impl<T> Mapped<T> {
    /// Maps `len` values of an array made with `BPF_F_MMAPABLE`.
    ///
    /// # Errors
    /// What `mmap` says.
    pub(crate) fn of_map(map: impl AsFd, len: u32) -> io::Result<Self> {
        assert!(
            size_of::<T>().is_multiple_of(8),
            "array values are padded to 8 bytes"
        );
        let bytes = size_of::<T>() * len as usize;
        // SAFETY: a new mapping; the kernel checks the length against the map.
        let at = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.as_fd().as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self {
            first: at.cast(),
            len,
            bytes,
            owner: Owner::Mmap,
        })
    }

    /// Zeroed memory of the same shape, without a kernel: for tests in user space.
    pub fn in_memory(len: u32) -> Self {
        let layout = std::alloc::Layout::array::<T>(len as usize).expect("a sane size");
        // SAFETY: the layout is not empty (no table has zero entries).
        let at = unsafe { std::alloc::alloc_zeroed(layout) };
        assert!(!at.is_null(), "out of memory");
        Self {
            first: at.cast(),
            len,
            bytes: layout.size(),
            owner: Owner::Heap(layout),
        }
    }

    /// Number of values.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// True without values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at an index.
    pub fn at(&self, index: u32) -> Option<*mut T> {
        // SAFETY: below len.
        (index < self.len).then(|| unsafe { self.first.add(index as usize) })
    }

    /// Copies a value out.
    pub fn read(&self, index: u32) -> Option<T>
    where
        T: Copy,
    {
        // SAFETY: at() checked the bounds; any bits are a valid record.
        self.at(index).map(|at| unsafe { at.read_volatile() })
    }

    /// Copies a value in.
    pub fn write(&self, index: u32, value: T) {
        if let Some(at) = self.at(index) {
            // SAFETY: at() checked the bounds.
            unsafe { at.write_volatile(value) };
        }
    }
}

impl<T> Drop for Mapped<T> {
    fn drop(&mut self) {
        // SAFETY: this value owns the mapping or the allocation.
        unsafe {
            match self.owner {
                Owner::Mmap => {
                    libc::munmap(self.first.cast(), self.bytes);
                }
                Owner::Heap(layout) => std::alloc::dealloc(self.first.cast(), layout),
            }
        }
    }
}
