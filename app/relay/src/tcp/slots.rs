//! Places for what a loop waits for, each with a number that fits into an epoll event and is not given twice.

/// A place, and which one in that place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Id {
    place: u32,
    serial: u32,
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Something of the loop's own.
    Own(u32),
    /// One of two sockets of what is in a place.
    Side(Id, usize),
}

impl Token {
    /// Serial number 0 is the loop's own.
    pub(super) fn word(self) -> u64 {
        match self {
            Self::Own(number) => u64::from(number),
            Self::Side(id, side) => u64::from(id.serial) << 32 | u64::from(id.place) << 1 | side as u64,
        }
    }

    pub(super) fn parse(word: u64) -> Self {
        match (word >> 32) as u32 {
            0 => Self::Own(word as u32),
            serial => Self::Side(Id { place: (word as u32) >> 1, serial }, (word & 1) as usize),
        }
    }
}

/// The places.
#[derive(Debug)]
pub(super) struct Slots<T> {
    places: Vec<(u32, Option<T>)>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }

    /// How many are taken.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    pub(super) fn put(&mut self, what: T) -> Id {
        let place = self.free.pop().unwrap_or_else(|| {
            self.places.push((1, None));
            // Fewer than descriptors.
            (self.places.len() - 1) as u32
        });
        let (serial, slot) = &mut self.places[place as usize];
        *slot = Some(what);
        Id { place, serial: *serial }
    }

    pub(super) fn get(&mut self, id: Id) -> Option<&mut T> {
        let (serial, slot) = self.places.get_mut(id.place as usize)?;
        slot.as_mut().filter(|_| *serial == id.serial)
    }

    pub(super) fn look(&self, id: Id) -> Option<&T> {
        let (serial, slot) = self.places.get(id.place as usize)?;
        slot.as_ref().filter(|_| *serial == id.serial)
    }

    /// Puts something else in its place, which keeps its number.
    pub(super) fn replace(&mut self, id: Id, by: impl FnOnce(T) -> T) {
        let Some((serial, slot)) = self.places.get_mut(id.place as usize) else { return };
        if *serial == id.serial {
            *slot = slot.take().map(by);
        }
    }

    pub(super) fn take(&mut self, id: Id) -> Option<T> {
        let (serial, slot) = self.places.get_mut(id.place as usize).filter(|(serial, _)| *serial == id.serial)?;
        let what = slot.take()?;
        *serial = serial.checked_add(1).unwrap_or(1);
        self.free.push(id.place);
        Some(what)
    }

    /// Those for which `picks` is true.
    pub(super) fn pick(&self, picks: impl Fn(&T) -> bool) -> Vec<Id> {
        let all = (0..).zip(&self.places);
        let picked = all.filter(|(_, (_, slot))| slot.as_ref().is_some_and(&picks));
        picked.map(|(place, (serial, _))| Id { place, serial: *serial }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_left_is_not_taken_for_who_came_to_the_same_place() {
        let mut slots = Slots::new();
        let (a, b) = (slots.put("a"), slots.put("b"));
        assert_eq!(slots.take(a), Some("a"));
        let c = slots.put("c");
        assert_eq!(slots.get(a), None);
        assert_eq!(slots.take(a), None);
        assert_eq!(slots.get(c), Some(&mut "c"));
        assert_eq!(slots.pick(|name| *name != "c"), [b]);
    }

    #[test]
    fn tokens_survive_the_kernel() {
        let id = Id { place: u32::MAX >> 1, serial: u32::MAX };
        for token in [Token::Own(0), Token::Own(u32::MAX), Token::Side(id, 0), Token::Side(id, 1)] {
            assert_eq!(Token::parse(token.word()), token);
        }
    }
}
