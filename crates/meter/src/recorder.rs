//! Writes down what the threads of this process do, as it happens.
//!
//! A [`Watch`] at the sampler that keeps, for each thread, the stretch of time in which it was last seen doing one
//! thing, and writes it when it ends. Nothing is kept back for long: whatever ends the process, even a signal that
//! nothing can catch, the recording lacks its last hundredth of a second or two. The binding registers threads and
//! tells where in the program they are.
//!
//! The file is the sampler thread's, which has [a descriptor table of its own](crate::Sampler::apart) and all signals
//! blocked: so what the program closes and what limits it meets are nothing to the recording, and the other way round.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use crate::class::Class;
use crate::clock;
use crate::native::Snapshot;
use crate::record::{FORM, Record, microseconds};
use crate::sampler::Sampler;
use crate::slot::Slot;
use crate::thread::without_file_size_signal;
use crate::watch::{Glance, Pace, Watch};
use crate::{lock, tally::Tally};

/// Stretches that go on are written this often.
const FLUSH: Duration = Duration::from_millis(100);
/// Clocks are read this often, and less where so many threads more make it dearer.
const CLOCKS: Duration = Duration::from_millis(100);
const CLOCKED: u32 = 20;
/// So long the sampler learns.
const LEARNING: Duration = Duration::from_secs(1);
/// Threads that Python did not start are looked for this often.
const NATIVE: Duration = Duration::from_secs(1);
/// Native threads that have used less than this are not worth a word.
const LEAST_NATIVE: Duration = Duration::from_millis(10);
/// After so long without anything that runs it looks less often.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whose recording it is: see [`Record::Process`].
#[derive(Debug, Clone)]
pub struct Subject {
    /// `sys.version_info` as text.
    pub python: String,
    /// What the process was started with.
    pub argv: Vec<String>,
}

/// A recording under way.
///
/// In a process forked from the one that made it, it writes nothing.
#[derive(Debug)]
pub struct Recorder {
    sampler: Arc<Sampler>,
    out: Mutex<Out>,
    book: Mutex<Book>,
    /// The thread that tells where the others are: it is measuring, too.
    teller: AtomicI32,
    /// Nothing but the rest of what was seen is to be written.
    ending: AtomicBool,
    closed: AtomicBool,
    began: Duration,
    /// It goes on looking as often as while it learns.
    thorough: bool,
    cpu_before: Duration,
    native_before: Snapshot,
    process: u32,
}

/// What has yet to be written, and where.
#[derive(Debug)]
struct Out {
    lines: Vec<u8>,
    path: PathBuf,
}

thread_local! {
    /// The sampler thread's open file: a number that other threads must not close.
    static FILE: RefCell<Option<(PathBuf, File)>> = const { RefCell::new(None) };
}

/// All threads under way.
#[derive(Debug, Default)]
struct Book {
    threads: HashMap<u64, Page>,
    /// The kernel's numbers of all that there have been.
    tids: Vec<i32>,
    count: u32,
    flushed: Duration,
    clocked: Duration,
    /// When native threads were last looked for.
    counted: Duration,
    /// When anything was last seen to run.
    active: Duration,
    ticks: u64,
    meter: Duration,
    switches: Option<u64>,
}

/// One thread.
#[derive(Debug)]
struct Page {
    thread: u32,
    tid: i32,
    thread_state: usize,
    looked: Duration,
    stretch: Option<Stretch>,
    cpu_before: Duration,
    delay_before: Option<Duration>,
    /// It began before the recording did, and does not say when it ends.
    is_guest: bool,
    /// Whether it has done anything since somebody asked where it is.
    moved: bool,
}

/// What a thread was last seen doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    class: Class,
    holder: Option<u32>,
    from: Duration,
    to: Duration,
    samples: u32,
}

impl Recorder {
    /// Begins a recording in the file at `path`, which is made, with the looks of `sampler`: one that is
    /// [apart](Sampler::apart) and has no other watch. A `thorough` one goes on learning, which takes up to 5 % of a
    /// core.
    pub fn begin(
        sampler: Arc<Sampler>,
        path: &Path,
        subject: &Subject,
        thorough: bool,
    ) -> io::Result<Arc<Recorder>> {
        let began = clock::monotonic();
        let mut lines = Vec::new();
        let gil = sampler.gil().err().map_or_else(String::new, |unknown| unknown.to_string());
        let header = Record::Process {
            form: FORM,
            pid: process::id(),
            parent: rustix::process::getppid().map_or(0, |parent| parent.as_raw_nonzero().get() as u32),
            at: microseconds(began),
            python: subject.python.clone(),
            argv: subject.argv.clone(),
            gil,
        };
        header.write(&mut lines);
        // By the calling thread, so that there is a recording of whatever ends before the sampler begins.
        without_file_size_signal(|| open(path)?.write_all(&lines))?;
        let out = Out { lines: Vec::new(), path: path.to_owned() };
        let switches = sampler.gil().ok().and_then(crate::Gil::switches);
        let recorder = Arc::new(Recorder {
            out: Mutex::new(out),
            book: Mutex::new(Book { active: began, counted: began, switches, ..Book::default() }),
            teller: AtomicI32::new(0),
            ending: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            began,
            thorough,
            cpu_before: clock::process_cpu(),
            native_before: Snapshot::take(),
            process: process::id(),
            sampler,
        });
        let watch: Weak<dyn Watch> = Arc::downgrade(&(Arc::clone(&recorder) as Arc<dyn Watch>));
        recorder.sampler.watch(watch)?;
        Ok(recorder)
    }

    /// Registers the calling thread, which runs Python with this thread state, until the entry is dropped.
    pub fn enter(self: &Arc<Self>, thread_state: usize) -> Entry {
        self.enter_as(clock::current_tid(), thread_state, false)
    }

    /// Registers another thread of this process, which is in Python already, until it ends or the entry is dropped.
    /// Without its thread state (`None`) it can't be told whether it computes with the GIL.
    pub fn enter_guest(self: &Arc<Self>, tid: i32, thread_state: Option<usize>) -> Entry {
        self.enter_as(tid, thread_state.unwrap_or(0), true)
    }

    fn enter_as(self: &Arc<Self>, tid: i32, thread_state: usize, is_guest: bool) -> Entry {
        let slot = self.sampler.enter_for(tid, thread_state);
        let now = clock::monotonic();
        let mut book = lock(&self.book);
        let thread = book.count;
        book.count += 1;
        let page = Page {
            thread,
            tid,
            thread_state,
            looked: now,
            stretch: None,
            cpu_before: clock::thread_cpu_of(tid).unwrap_or_default(),
            delay_before: clock::run_delay_of(tid),
            is_guest,
            moved: true,
        };
        book.tids.push(page.tid);
        let record = Record::Thread { thread, tid: page.tid, at: microseconds(now) };
        book.threads.insert(slot.id(), page);
        drop(book);
        self.say(&record);
        slot.begin(&Arc::new(Tally::default()));
        Entry { recorder: Arc::clone(self), thread, slot }
    }

    /// Adds a line.
    pub fn say(&self, record: &Record) {
        if self.is_ours() {
            record.write(&mut lock(&self.out).lines);
        }
    }

    /// The threads that have done anything since this was last asked.
    pub fn take_moved(&self) -> Vec<u32> {
        let mut book = lock(&self.book);
        let pages = book.threads.values_mut();
        pages.filter_map(|page| std::mem::take(&mut page.moved).then_some(page.thread)).collect()
    }

    /// The calling thread tells where the others are: what it costs is the meter's cost.
    pub fn be_teller(&self) {
        self.teller.store(clock::current_tid(), Ordering::Relaxed);
    }

    /// Writes what threads that Python did not start have used, if that is more than a little. For the sampler's thread:
    /// this opens files.
    fn say_native(&self) {
        let known: Vec<i32> = lock(&self.book).tids.clone();
        let used = Snapshot::take().since(&self.native_before);
        let Some(hidden) = used.hidden(&known, LEAST_NATIVE) else { return };
        let libraries = hidden.libraries.join(", ");
        let unnamed = if libraries.is_empty() { "no known library".to_owned() } else { libraries };
        let mut by_name: BTreeMap<String, (u32, Duration)> = BTreeMap::new();
        for thread in hidden.threads {
            let sum = by_name.entry(thread.name.unwrap_or_else(|| unnamed.clone())).or_default();
            sum.0 += 1;
            sum.1 += thread.cpu;
        }
        for (name, (threads, cpu)) in by_name {
            self.say(&Record::Native { name, threads, cpu: microseconds(cpu) });
        }
    }

    /// Ends the sampler's thread until [`Recorder::resume`], with all written that is known: for a fork.
    pub fn pause(&self) {
        if self.is_ours() {
            self.sampler.pause();
        }
    }

    /// Goes on after a [`Recorder::pause`].
    pub fn resume(&self) -> io::Result<()> {
        if self.is_ours() { self.sampler.resume() } else { Ok(()) }
    }

    /// Ends the recording.
    pub fn end(&self) {
        if !self.is_ours() {
            return;
        }
        self.ending.store(true, Ordering::Release);
        self.sampler.pause();
        self.closed.store(true, Ordering::Release);
    }

    fn is_ours(&self) -> bool {
        !self.closed.load(Ordering::Acquire) && self.process == process::id()
    }

    fn leave(&self, entry: &Entry) {
        if !self.is_ours() {
            return;
        }
        let now = clock::monotonic();
        let mut out = lock(&self.out);
        let mut book = lock(&self.book);
        if let Some(mut page) = book.threads.remove(&entry.slot.id()) {
            page.write_clock(now, &mut out.lines);
            page.write_end(now, &mut out.lines);
        }
    }
}

impl Watch for Recorder {
    fn tick(&self, glance: &Glance<'_>) -> Pace {
        if !self.is_ours() {
            return Pace::Done;
        }
        let now = glance.now;
        let counts = now >= lock(&self.book).counted + NATIVE;
        if counts {
            self.say_native();
        }
        // In this order everywhere: the file, then the book.
        let mut out = lock(&self.out);
        let mut book = lock(&self.book);
        book.ticks += 1;
        if counts {
            book.counted = now;
        }
        let holder = glance.holder.and_then(|state| {
            book.threads.values().find(|page| page.thread_state == state).map(|page| page.thread)
        });
        for look in glance.looks {
            let Some(page) = book.threads.get_mut(&look.slot) else { continue };
            let holder = holder.filter(|thread| look.class == Class::GilWait && *thread != page.thread);
            page.see(look.class, holder, now, &mut out.lines);
            if !matches!(look.class, Class::Io | Class::Sleep | Class::LockWait) {
                book.active = now;
            }
        }
        if now >= book.clocked + CLOCKS * (1 + book.threads.len() as u32 / CLOCKED) {
            book.clocked = now;
            book.write_clocks(self, now, &mut out.lines);
        }
        let full = now >= book.flushed + FLUSH;
        if full {
            book.flushed = now;
            book.write_stretches(&mut out.lines);
        }
        let pace = match () {
            () if self.thorough || now < self.began + LEARNING => Pace::Learning,
            () if now >= book.active + PATIENCE => Pace::Idle,
            () => Pace::Steady,
        };
        drop(book);
        // A full disk costs the rest of the recording, never the program.
        if full && out.flush().is_err() {
            self.closed.store(true, Ordering::Release);
            return Pace::Done;
        }
        pace
    }

    fn rest(&self) -> bool {
        if !self.is_ours() {
            return false;
        }
        let ends = self.ending.load(Ordering::Acquire);
        if ends {
            self.say_native();
        }
        let now = clock::monotonic();
        let mut out = lock(&self.out);
        let mut book = lock(&self.book);
        book.write_stretches(&mut out.lines);
        book.write_clocks(self, now, &mut out.lines);
        drop(book);
        if ends {
            Record::End { at: microseconds(now) }.write(&mut out.lines);
        }
        if out.flush().is_err() {
            self.closed.store(true, Ordering::Release);
            return false;
        }
        !ends
    }
}

impl Book {
    fn write_stretches(&mut self, lines: &mut Vec<u8>) {
        for page in self.threads.values_mut() {
            page.write_stretch(lines);
        }
    }

    fn write_clocks(&mut self, recorder: &Recorder, now: Duration, lines: &mut Vec<u8>) {
        self.threads.retain(|_, page| {
            let lives = page.write_clock(now, lines) || !page.is_guest;
            if !lives {
                page.write_end(now, lines);
            }
            lives
        });
        let teller = clock::thread_cpu_of(recorder.teller.load(Ordering::Relaxed)).unwrap_or_default();
        // Either thread may have ended: what it cost before is still the most that was seen.
        self.meter = self.meter.max(recorder.sampler.cost().cpu + teller);
        let switches = recorder.sampler.gil().ok().and_then(crate::Gil::switches);
        Record::Cost {
            at: microseconds(now),
            cpu: microseconds(clock::process_cpu().saturating_sub(recorder.cpu_before)),
            meter: microseconds(self.meter),
            ticks: self.ticks,
            switches: switches.zip(self.switches).map(|(now, before)| now.wrapping_sub(before)),
        }
        .write(lines);
    }
}

impl Page {
    /// It was seen doing this, and is taken to have done it since it was last looked at.
    fn see(&mut self, class: Class, holder: Option<u32>, now: Duration, lines: &mut Vec<u8>) {
        let from = std::mem::replace(&mut self.looked, now);
        match &mut self.stretch {
            Some(stretch) if (stretch.class, stretch.holder) == (class, holder) => {
                stretch.to = now;
                stretch.samples += 1;
                // A wait stays where it is.
                self.moved |= !matches!(class, Class::Io | Class::Sleep | Class::LockWait);
            }
            _ => {
                self.write_stretch(lines);
                self.stretch = Some(Stretch { class, holder, from, to: now, samples: 1 });
                self.moved = true;
            }
        }
    }

    /// Writes what has come of the stretch so far; what follows of it goes on from there.
    fn write_stretch(&mut self, lines: &mut Vec<u8>) {
        let Some(stretch) = self.stretch.as_mut().filter(|stretch| stretch.samples > 0) else { return };
        Record::Run {
            thread: self.thread,
            class: stretch.class,
            from: microseconds(stretch.from),
            to: microseconds(stretch.to),
            samples: stretch.samples,
            holder: stretch.holder,
        }
        .write(lines);
        *stretch = Stretch { from: stretch.to, samples: 0, ..*stretch };
    }

    /// Whether the thread has clocks. If not it has ended; unless it is a guest, it wrote its last word itself.
    fn write_clock(&self, now: Duration, lines: &mut Vec<u8>) -> bool {
        let Some(cpu) = clock::thread_cpu_of(self.tid) else { return false };
        let delay = clock::run_delay_of(self.tid).zip(self.delay_before);
        Record::Clock {
            thread: self.thread,
            at: microseconds(now),
            cpu: microseconds(cpu.saturating_sub(self.cpu_before)),
            delay: delay.map(|(now, before)| microseconds(now.saturating_sub(before))),
        }
        .write(lines);
        true
    }

    fn write_end(&mut self, now: Duration, lines: &mut Vec<u8>) {
        self.write_stretch(lines);
        Record::Gone { thread: self.thread, at: microseconds(now) }.write(lines);
    }
}

impl Out {
    /// Writes it, on the sampler's thread. Fails where the disk is full, say.
    fn flush(&mut self) -> io::Result<()> {
        let lines = std::mem::take(&mut self.lines);
        FILE.with_borrow_mut(|known| {
            let mut file = match known.take() {
                Some((path, file)) if path == self.path => file,
                _ => open(&self.path)?,
            };
            file.write_all(&lines)?;
            *known = Some((self.path.clone(), file));
            Ok(())
        })
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

/// A thread's part in a recording.
#[derive(Debug)]
pub struct Entry {
    recorder: Arc<Recorder>,
    thread: u32,
    slot: Slot,
}

impl Entry {
    /// Whether it is a part of this recording.
    pub fn is_of(&self, recorder: &Arc<Recorder>) -> bool {
        Arc::ptr_eq(&self.recorder, recorder)
    }

    /// Its number in the recording.
    pub fn thread(&self) -> u32 {
        self.thread
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.slot.end();
        self.recorder.leave(self);
    }
}
