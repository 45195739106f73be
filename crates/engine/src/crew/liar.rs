//! A worker that says and does whatever it likes: its tasks may fail, nothing else.
//!
//! It writes frames of any kind about anything, names payloads that are not there, and scribbles over the memory of its
//! line. Whatever it does, this process neither panics nor waits for it, and each message comes to one end.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::*};
use std::sync::mpsc::channel;
use std::time::Duration;

use forkright_shm::arena::Block;
use forkright_shm::memory::Memory;
use forkright_shm::ring::Head;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::frame::down;
use crate::payload::COST_BYTES;

/// Bytes of a line that there are to scribble over: all that either ring uses of itself in such a test, and more.
const REACH: u64 = 600 << 10;
/// What its payload memory holds.
const OUTBOX: u64 = 8192;

/// The worker's ends.
struct Liar {
    line: line::Line,
    memory: Memory,
    outbox: Memory,
    body: Vec<u8>,
}

impl Liar {
    fn join([line, outbox, _]: seat::Handed) -> Liar {
        let (memory, outbox) = (Memory::from_fd(line).unwrap(), Memory::from_fd(outbox).unwrap());
        outbox.grow(OUTBOX).unwrap();
        Liar { line: line::join(&memory).unwrap(), memory, outbox, body: Vec::new() }
    }

    fn do_(&mut self, deed: &Deed) {
        match deed {
            Deed::Say(head, body) => drop(self.line.producer.push(*head, &[body])),
            Deed::Take => drop(self.line.consumer.pop(&mut self.body)),
            Deed::Scribble(offset, bytes) => self.memory.write_at(bytes, *offset).unwrap(),
            Deed::Grow(len) => drop(self.outbox.grow(*len)),
        }
    }
}

#[derive(Clone, Debug)]
enum Deed {
    Say(Head, Vec<u8>),
    Take,
    Scribble(u64, Vec<u8>),
    Grow(u64),
}

#[derive(Clone, Debug)]
enum Step {
    Deed(Deed),
    Submit,
    Hear,
    Balance,
    Stop,
    Resize(u32),
}

/// Mostly what there is, now and then anything.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![
        8 => 0_u64..24,
        1 => any::<u64>(),
        1 => select(vec![u64::MAX, u64::MAX - 1, 1 << 63, 1 << 32, OUTBOX, 4096]),
    ]
}

fn kind() -> impl Strategy<Value = u32> {
    let answer = select(vec![up::VALUE, up::ERROR, up::MIXED, up::REFUSED]);
    let other = select(vec![up::READY, up::UNFIT, up::RELEASE, up::NOTE, up::BEGUN, down::STOP]);
    prop_oneof![6 => answer, 3 => other, 1 => any::<u32>()]
}

/// An answer's body as it should be, but for what it says.
fn answer() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![4 => 0_u32..4, 1 => Just(1 << 31 | 1), 1 => any::<u32>()];
    let blocks = vec((number(), number()).prop_map(|(offset, len)| Block { offset, len }.to_bytes()), 0..4);
    let cost =
        prop_oneof![Just(vec![0; COST_BYTES]), vec(any::<u8>(), COST_BYTES), Just(vec![255; COST_BYTES])];
    (cost, word, blocks, vec(any::<u8>(), 0..20)).prop_map(|(cost, word, blocks, rest)| {
        [cost, word.to_le_bytes().to_vec(), blocks.concat(), rest].concat()
    })
}

fn deed() -> impl Strategy<Value = Deed> {
    let body = prop_oneof![4 => answer(), 1 => vec(any::<u8>(), 0..200), 1 => vec(number(), 0..9).prop_map(|numbers| {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    })];
    let say = (kind(), number(), number(), body)
        .prop_map(|(kind, id, extra, body)| Deed::Say(Head { kind, id, extra }, body));
    // Where rings keep their words: the bell, the two headers, and the first frames of each.
    let offset = prop_oneof![
        0_u64..64,
        (0_u64..120).prop_map(|word| 4096 + 8 * word),
        (0_u64..120).prop_map(|word| 4096 * 66 + 8 * word),
        0..REACH - 64,
    ];
    let bytes =
        prop_oneof![number().prop_map(|number| number.to_le_bytes().to_vec()), vec(any::<u8>(), 1..64),];
    prop_oneof![
        6 => say,
        4 => Just(Deed::Take),
        1 => (offset, bytes).prop_map(|(offset, bytes)| Deed::Scribble(offset, bytes)),
        1 => number().prop_map(Deed::Grow),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => deed().prop_map(Step::Deed),
        4 => Just(Step::Submit),
        4 => Just(Step::Hear),
        2 => Just(Step::Balance),
        1 => Just(Step::Stop),
        1 => (0_u32..3).prop_map(Step::Resize),
    ]
}

/// Counts the ends of one message.
#[derive(Default)]
struct Ends(AtomicU32);

impl Recipient for Ends {
    fn send(&self) -> bool {
        true
    }

    fn recall(&self) {}

    fn abandon(self: Arc<Self>) {
        panic!("nothing is abandoned here");
    }

    fn deliver(self: Arc<Self>, delivery: Delivery) {
        self.0.fetch_add(1, Relaxed);
        let Delivery::Outcome { cost, parcel, .. } = delivery else { return };
        assert!(cost.tasks <= 1 && cost.failed <= cost.tasks);
        let _ = (parcel.bytes(), parcel.words());
        let buffers = parcel.buffers.iter().filter_map(|buffer| match buffer {
            ArrivedBuffer::Stored(held) => Some(held),
            ArrivedBuffer::Here(share, _) => {
                assert!(share.is_none(), "there is none");
                None
            }
            ArrivedBuffer::Callers(..) => panic!("a worker's descriptors are not opened"),
        });
        for held in parcel.stored.iter().chain(buffers) {
            let Ok(mapping) = held.map() else { continue };
            assert_eq!(mapping.len() as u64, held.len());
        }
    }
}

fn yard(crew: &Crew, liars: usize) -> (MutexGuard<'_, Yard>, Vec<Liar>) {
    let mut yard = crew.lock();
    let liars = (0..liars).map(|_| join(&mut yard)).collect();
    (yard, liars)
}

/// One more, that has said nothing yet.
fn join(yard: &mut Yard) -> Liar {
    let limits = Limits { processes: 2, threads: 1, sharing: 2, renewal: Renewal::default() };
    let (seat, handed) = Seat::create(yard.seats.len() as u64, &limits, false).unwrap();
    yard.seats.push(seat);
    Liar::join(handed)
}

fn crew() -> Arc<Crew> {
    Crew::create(Limits { processes: 2, threads: 1, sharing: 2, renewal: Renewal::default() }, Warden::new())
        .unwrap()
}

fn submit(yard: &mut Yard, id: u64) -> Arc<Ends> {
    let ends = Arc::<Ends>::default();
    yard.outstanding += 1;
    let parcel = Parcel {
        id,
        owner: 1,
        job: 0,
        kind: down::TASK | if id.is_multiple_of(2) { down::TIMED } else { 0 },
        function: None,
        flags: None,
        payload: Payload::inline(vec![0; 1 << (id % 12)]),
        leases: Vec::new(),
        tasks: 1,
        terms: Terms { limit: id.is_multiple_of(2).then_some(Duration::from_secs(60)), ..Terms::default() },
        recipient: Arc::clone(&ends) as Arc<dyn Recipient>,
    };
    yard.backlog.push(0, parcel);
    yard.pump();
    ends
}

fn deliver(post: &mut Post) {
    for (recipient, delivery) in post.drain(..) {
        recipient.deliver(delivery);
    }
}

fn live_with_it(steps: &[Step]) {
    let crew = crew();
    let (mut yard, mut liars) = yard(&crew, 2);
    let (mut all, mut post) = (Vec::new(), Post::new());
    for (index, step) in steps.iter().enumerate() {
        match step {
            // The second one is honest, but silent.
            Step::Deed(deed) => liars[0].do_(deed),
            Step::Submit => {
                let id = all.len() as u64;
                all.push(submit(&mut yard, id));
            }
            Step::Hear => drop(yard.hear(&mut post)),
            Step::Balance => {
                yard.balance();
                yard.pump();
            }
            Step::Stop => yard.stop_all(),
            Step::Resize(processes) => {
                drop(yard);
                crew.resize(*processes, index as u32 % 5, 0);
                yard = crew.lock();
            }
        }
        let _ = yard.seats.iter().map(|seat| seat.late(Instant::now()).len() + seat.queued()).sum::<usize>();
        deliver(&mut post);
    }
    let _ = yard.hear(&mut post);
    deliver(&mut post);
    // It dies, as does the other; what neither had begun is still there.
    let mut left: Vec<Parcel> = yard.backlog.drain().collect();
    for seat in std::mem::take(&mut yard.seats) {
        let (waiting, running) = seat.bury();
        left.extend(waiting.into_iter().chain(running));
    }
    assert_eq!(left.len(), if yard.broken.is_some() { left.len() } else { yard.outstanding });
    for parcel in left {
        let gone = Obituary { pid: 0, death: Death::Unknown, cause: None, last_words: String::new() };
        parcel.recipient.deliver(Delivery::Died(Arc::new(gone)));
    }
    for (id, ends) in all.iter().enumerate() {
        assert_eq!(ends.0.load(Relaxed), 1, "message {id}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_worker_says_each_message_has_one_end(steps in vec(step(), 1..60)) {
        live_with_it(&steps);
    }
}

/// Runs `body` under a watchdog.
fn watched(body: impl FnOnce() + Send + 'static) {
    let (done, waiting) = channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    let outcome = waiting.recv_timeout(Duration::from_secs(60));
    assert!(outcome.is_ok() || thread.is_finished(), "it hangs");
    thread.join().unwrap();
}

#[test]
fn a_worker_that_never_stops_talking_is_interrupted() {
    watched(|| {
        let (crew, over) = (crew(), Arc::new(AtomicBool::new(false)));
        let (mut yard, mut liars) = yard(&crew, 1);
        let mut liar = liars.remove(0);
        let talker = std::thread::spawn({
            let over = Arc::clone(&over);
            move || {
                while !over.load(Relaxed) {
                    let _ = liar.line.producer.push(Head { kind: up::RELEASE, id: 0, extra: 0 }, &[]);
                }
            }
        });
        // Until it was interrupted once: before, it may just have been slow.
        while !yard.unheard {
            assert!(yard.hear(&mut Post::new()).is_empty());
        }
        over.store(true, Relaxed);
        talker.join().unwrap();
    });
}

#[test]
fn a_worker_that_spoils_its_queue_must_go() {
    let crew = crew();
    let (mut yard, liars) = yard(&crew, 1);
    // The position up to which it has read, in the ring that comes first.
    liars[0].memory.write_at(&u64::MAX.to_le_bytes(), 4096 + 128).unwrap();
    // Nobody looks there while there is room.
    for number in 0..10_000 {
        yard.seats[0].set_threads(1 + number % 2, 1);
    }
    let mut post = Post::new();
    assert_eq!(yard.hear(&mut post), [0]);
    assert!(yard.seats[0].has_news(), "whoever looks shall hear of it");
}

#[test]
fn a_worker_that_was_ready_can_not_say_that_there_can_be_none() {
    let crew = crew();
    let (mut yard, mut liars) = yard(&crew, 1);
    let mut post = Post::new();
    liars[0].do_(&Deed::Say(Head { kind: up::READY, ..Head::default() }, Vec::new()));
    liars[0].do_(&Deed::Say(Head { kind: up::UNFIT, ..Head::default() }, vec![0; 4]));
    assert_eq!(yard.hear(&mut post), [0]);
    assert!(yard.broken.is_none());
}

#[test]
fn what_waits_behind_others_goes_to_all_workers_that_become_ready_at_once() {
    let crew = crew();
    let (mut yard, mut early) = yard(&crew, 2);
    let ready = Deed::Say(Head { kind: up::READY, ..Head::default() }, Vec::new());
    early.iter_mut().for_each(|worker| worker.do_(&ready));
    assert!(yard.hear(&mut Post::new()).is_empty());
    let _ends: Vec<_> = (0..4).map(|id| submit(&mut yard, id)).collect();
    for (seat, worker) in yard.seats.iter().zip(&mut early) {
        assert_eq!(seat.queued(), 2);
        while seat.queued() > 1 {
            worker.do_(&Deed::Take);
        }
    }

    let mut late = [join(&mut yard), join(&mut yard)];
    late.iter_mut().for_each(|worker| worker.do_(&ready));
    assert!(yard.hear(&mut Post::new()).is_empty());
    yard.balance();
    assert_eq!(yard.seats.iter().map(Seat::surplus).sum::<usize>(), 0);
    assert_eq!(yard.seats.iter().map(Seat::idle).sum::<usize>(), 0);
}

#[test]
fn more_threads_are_asked_for_before_what_waits() {
    let crew = crew();
    let (mut yard, mut workers) = yard(&crew, 1);
    workers[0].do_(&Deed::Say(Head { kind: up::READY, ..Head::default() }, Vec::new()));
    assert!(yard.hear(&mut Post::new()).is_empty());
    let _ends: Vec<_> = (0..2).map(|id| submit(&mut yard, id)).collect();
    let mut next = || {
        let Liar { line, body, .. } = &mut workers[0];
        line.consumer.pop(body).unwrap().map(|head| (head.kind & down::KIND, head.id))
    };
    assert_eq!((next(), next()), (Some((down::THREADS, 1)), Some((down::TASK, 0))));
    drop(yard);
    crew.resize(1, 4, 4);
    let (threads, task) = (next(), next());
    assert_eq!((threads, task), (Some((down::THREADS, 4)), Some((down::TASK, 1))));
}
