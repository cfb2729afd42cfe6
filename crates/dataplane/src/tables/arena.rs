//! Space in the schedules map: blocks of powers of two, split and joined again as neighbours of equal
//! size (a buddy allocator).

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use pointsman_model::Error;

/// Words in the schedules map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// First word, a multiple of `len`.
    pub offset: u32,
    /// Words, a power of two.
    pub len: u32,
}

/// What is free of the map. A block given back is reused only after every packet that may still be
/// reading it is long gone.
#[derive(Debug)]
pub(crate) struct Arena {
    size: u32,
    /// Offsets of free blocks, by length.
    free: BTreeMap<u32, BTreeSet<u32>>,
    resting: Vec<(Instant, Block)>,
}

impl Arena {
    const REST: Duration = Duration::from_millis(500);

    /// All free: `size` words, a power of two.
    pub(crate) fn new(size: u32) -> Self {
        Self {
            size,
            free: BTreeMap::from([(size, BTreeSet::from([0]))]),
            resting: Vec::new(),
        }
    }

    /// Marks a block that is in use (adoption).
    pub(crate) fn adopt(&mut self, block: Block) {
        let mut len = block.len;
        while len <= self.size {
            let offset = block.offset & !(len - 1);
            if self.remove(offset, len) {
                self.split(Block { offset, len }, block);
                return;
            }
            len *= 2;
        }
    }

    /// Finds room for `words`. Waits, half a second at most, if what is free is still resting.
    ///
    /// # Errors
    /// [`Error::NoRoom`].
    pub(crate) fn take(&mut self, words: usize) -> Result<Block, Error> {
        let len = (words.max(1) as u32).next_power_of_two();
        loop {
            self.wake();
            let larger = self.free.range(len..).next();
            if let Some((&found, offsets)) = larger {
                let offset = *offsets.first().expect("empty sets are removed");
                self.remove(offset, found);
                let block = Block { offset, len };
                self.split(Block { offset, len: found }, block);
                return Ok(block);
            }
            let Some((since, _)) = self.resting.first() else {
                return Err(Error::NoRoom(format!(
                    "the scheduling tables of all services fill {} words",
                    self.size
                )));
            };
            thread::sleep(Self::REST.saturating_sub(since.elapsed()));
        }
    }

    /// Gives a block back.
    pub(crate) fn give(&mut self, block: Block) {
        self.resting.push((Instant::now(), block));
    }

    /// Frees what is left of `whole` beside `used`.
    fn split(&mut self, mut whole: Block, used: Block) {
        while whole.len > used.len {
            whole.len /= 2;
            let upper = whole.offset + whole.len;
            if used.offset < upper {
                self.insert(upper, whole.len);
            } else {
                self.insert(whole.offset, whole.len);
                whole.offset = upper;
            }
        }
    }

    fn wake(&mut self) {
        let rested = self
            .resting
            .partition_point(|(since, _)| since.elapsed() >= Self::REST);
        let rested: Vec<Block> = self.resting.drain(..rested).map(|(_, b)| b).collect();
        for Block {
            mut offset,
            mut len,
        } in rested
        {
            while len < self.size && self.remove(offset ^ len, len) {
                offset &= !len;
                len *= 2;
            }
            self.insert(offset, len);
        }
    }

    fn insert(&mut self, offset: u32, len: u32) {
        self.free.entry(len).or_default().insert(offset);
    }

    fn remove(&mut self, offset: u32, len: u32) -> bool {
        let Some(offsets) = self.free.get_mut(&len) else {
            return false;
        };
        let removed = offsets.remove(&offset);
        if offsets.is_empty() {
            self.free.remove(&len);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn block(offset: u32, len: u32) -> Block {
        Block { offset, len }
    }

    #[test]
    fn what_lies_between_adopted_blocks_is_free() {
        let mut arena = Arena::new(16);
        arena.adopt(block(8, 4));
        arena.adopt(block(0, 2));
        assert_eq!(arena.take(3).unwrap(), block(4, 4));
        assert_eq!(arena.take(2).unwrap(), block(2, 2));
        assert_eq!(arena.take(4).unwrap(), block(12, 4));
        assert!(arena.take(1).is_err());
    }

    #[test]
    fn a_block_given_back_rests_and_then_joins_its_neighbour() {
        let mut arena = Arena::new(4);
        let blocks = [
            arena.take(2).unwrap(),
            arena.take(1).unwrap(),
            arena.take(1).unwrap(),
        ];
        assert!(arena.take(1).is_err(), "nothing rests");
        let begin = Instant::now();
        for block in blocks {
            arena.give(block);
        }
        assert_eq!(arena.take(4).unwrap(), block(0, 4));
        assert!(begin.elapsed() >= Arena::REST);
    }
}
