//! Things that wait in the order of their priority: higher first, and within one priority as they came.
//! Without it the queue of threads and the backlog of worker processes would each sort in their own way.

use std::collections::VecDeque;

/// A queue by priority. Where all have the same one, everything takes constant time.
pub struct Ranked<T>(VecDeque<(i32, T)>);

impl<T> Default for Ranked<T> {
    fn default() -> Self {
        Ranked(VecDeque::new())
    }
}

impl<T> Ranked<T> {
    /// Puts it behind all of its priority.
    pub fn push(&mut self, priority: i32, thing: T) {
        if self.0.back().is_none_or(|(last, _)| *last >= priority) {
            return self.0.push_back((priority, thing));
        }
        let index = self.0.partition_point(|(other, _)| *other >= priority);
        self.0.insert(index, (priority, thing));
    }

    /// Puts it before all of its priority: it had been taken, and came back.
    pub fn restore(&mut self, priority: i32, thing: T) {
        if self.0.front().is_none_or(|(first, _)| *first <= priority) {
            return self.0.push_front((priority, thing));
        }
        let index = self.0.partition_point(|(other, _)| *other > priority);
        self.0.insert(index, (priority, thing));
    }

    /// Takes the first.
    pub fn pop(&mut self) -> Option<T> {
        self.0.pop_front().map(|(_, thing)| thing)
    }

    /// Takes out the first that is meant.
    pub fn remove(&mut self, is_meant: impl Fn(&T) -> bool) -> Option<T> {
        let index = self.0.iter().position(|(_, thing)| is_meant(thing))?;
        self.0.remove(index).map(|(_, thing)| thing)
    }

    /// Takes out all, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.0).into_iter().map(|(_, thing)| thing)
    }

    /// Takes out all that are meant, in order.
    pub fn extract(&mut self, is_meant: impl Fn(&T) -> bool) -> Vec<T> {
        let (meant, others): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.0).into_iter().partition(|(_, thing)| is_meant(thing));
        self.0 = others;
        meant.into_iter().map(|(_, thing)| thing).collect()
    }

    /// All, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, thing)| thing)
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
