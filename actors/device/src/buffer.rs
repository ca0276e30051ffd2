//! The bounded local buffer between a sensor and the network. Pure.

use std::collections::VecDeque;

/// One reading.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The device's own number, rising by one from 1.
    pub number: u64,
    /// The content of the contentInstance.
    pub content: serde_json::Value,
}

/// What a full buffer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overflow {
    /// The oldest reading that was not sent yet gives way.
    #[default]
    DropOldest,
    /// The new reading is refused, and the caller is told.
    RefuseNew,
}

/// What became of an offered reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// It waits for its turn.
    Buffered,
    /// It waits for its turn, and the oldest one was dropped.
    DroppedOldest,
    /// It was refused: the buffer is full.
    Refused,
}

/// Readings that wait. What is being sent was taken out and is never dropped.
#[derive(Debug)]
pub struct Buffer {
    waiting: VecDeque<Reading>,
    readings_max: usize,
    overflow: Overflow,
}

impl Buffer {
    /// Holds at most `readings_max`.
    pub fn new(readings_max: usize, overflow: Overflow) -> Self {
        Self { waiting: VecDeque::new(), readings_max: readings_max.max(1), overflow }
    }

    /// Adds one.
    pub fn offer(&mut self, reading: Reading) -> Offered {
        if self.waiting.len() < self.readings_max {
            self.waiting.push_back(reading);
            return Offered::Buffered;
        }
        match self.overflow {
            Overflow::RefuseNew => Offered::Refused,
            Overflow::DropOldest => {
                self.waiting.pop_front();
                self.waiting.push_back(reading);
                Offered::DroppedOldest
            }
        }
    }

    /// Takes the oldest out.
    pub fn take(&mut self) -> Option<Reading> {
        self.waiting.pop_front()
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// True if none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn r(number: u64) -> Reading {
        Reading { number, content: serde_json::Value::Null }
    }

    #[test]
    fn a_full_buffer_does_what_it_was_told() {
        let mut b = Buffer::new(2, Overflow::DropOldest);
        assert_eq!([1, 2, 3].map(|n| b.offer(r(n))), [Offered::Buffered, Offered::Buffered, Offered::DroppedOldest]);
        assert_eq!(b.take().unwrap().number, 2);
        let mut b = Buffer::new(1, Overflow::RefuseNew);
        assert_eq!([1, 2].map(|n| b.offer(r(n))), [Offered::Buffered, Offered::Refused]);
        assert_eq!((b.len(), b.take().unwrap().number, b.is_empty()), (1, 1, true));
    }
}
