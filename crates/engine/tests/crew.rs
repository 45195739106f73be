//! A crew whose workers never come up: what is submitted is kept, given back, or failed with the reason.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use forkright_engine::crew::{Crew, Delivery, Limits, Parcel, Recipient, Renewal, Sleeper, Spec, Terms};
use forkright_engine::frame::down;
use forkright_engine::payload::Payload;
use forkright_engine::state::{State, Wait};
use forkright_engine::warden::{Program, Warden};

/// A recipient that writes down what happens to it, and wakes who waits for that.
#[derive(Default)]
struct Diary {
    entries: Mutex<Vec<String>>,
    word: Arc<State>,
}

impl Diary {
    fn write(&self, entry: &str) {
        self.entries.lock().expect("nobody panics with it").push(entry.into());
        self.word.nudge();
    }

    fn read(&self) -> Vec<String> {
        self.entries.lock().expect("nobody panics with it").clone()
    }
}

impl Recipient for Diary {
    fn send(&self) -> bool {
        true
    }

    fn recall(&self) {}

    fn abandon(self: Arc<Self>) {
        self.write("abandoned");
    }

    fn deliver(self: Arc<Self>, delivery: Delivery) {
        match delivery {
            Delivery::Outcome { .. } => self.write("outcome"),
            Delivery::Died(_) => self.write("died"),
            Delivery::Ended { .. } => self.write("ended"),
            Delivery::Broken(reason) => self.write(reason.words().unwrap_or("unfit")),
        }
    }
}

fn crew() -> Arc<Crew> {
    Crew::create(Limits { processes: 2, threads: 1, sharing: 2, renewal: Renewal::default() }, Warden::new())
        .expect("memory for a crew")
}

fn parcel(crew: &Crew, diary: &Arc<Diary>) -> Parcel {
    Parcel {
        id: crew.next_id(),
        owner: 1,
        job: 0,
        kind: down::TASK,
        function: None,
        flags: None,
        payload: Payload::inline(vec![1, 2, 3]),
        leases: Vec::new(),
        tasks: 1,
        terms: Terms::default(),
        recipient: Arc::clone(diary) as Arc<dyn Recipient>,
    }
}

fn spec(command: &str) -> Spec {
    let program =
        Program { command: vec![command.into()], single: "single".into(), circumstances: String::new() };
    Spec { bytes: Vec::new().into(), program, is_plain: true }
}

/// Waits for an event under a watchdog; panics if it does not come.
fn await_entry(crew: &Crew, diary: &Arc<Diary>) {
    let sleeper: Sleeper = Arc::clone(&diary.word) as Sleeper;
    let waited = crew.wait(&sleeper, &|| !diary.read().is_empty(), Duration::from_secs(60));
    assert_eq!(waited, Wait::Over);
}

#[test]
fn a_submitted_message_waits_for_a_worker_and_asks_for_one() {
    let (crew, diary) = (crew(), Arc::new(Diary::default()));
    let (wanted, backlog) = crew.submit(parcel(&crew, &diary));
    assert_eq!((wanted, backlog), (1, true));
    assert_eq!(crew.outstanding(), 1);
    assert!(diary.read().is_empty());
}

#[test]
fn a_message_no_worker_has_started_can_be_revoked_once() {
    let (crew, diary) = (crew(), Arc::new(Diary::default()));
    let parcel = parcel(&crew, &diary);
    let id = parcel.id;
    let _ = crew.submit(parcel);
    assert!(!crew.is_running(id));
    assert!(crew.revoke(id));
    assert!(!crew.revoke(id));
    assert_eq!(crew.outstanding(), 0);
}

#[test]
fn abandoned_messages_tell_their_recipients() {
    let (crew, diary) = (crew(), Arc::new(Diary::default()));
    let _ = crew.submit(parcel(&crew, &diary));
    crew.abandon_waiting(1);
    assert_eq!(diary.read(), ["abandoned"]);
    assert_eq!(crew.outstanding(), 0);
}

#[test]
fn abandoned_messages_are_their_owners_alone() {
    let (crew, mine, others) = (crew(), Arc::new(Diary::default()), Arc::new(Diary::default()));
    let _ = crew.submit(parcel(&crew, &mine));
    let _ = crew.submit(Parcel { owner: 2, ..parcel(&crew, &others) });
    crew.abandon_waiting(1);
    assert_eq!(mine.read(), ["abandoned"]);
    assert!(others.read().is_empty());
    assert_eq!(crew.outstanding(), 1);
}

/// A recipient that writes down whether the crew seems finished while it is told the last answer.
struct Observer {
    crew: Weak<Crew>,
    diary: Arc<Diary>,
}

impl Recipient for Observer {
    fn send(&self) -> bool {
        true
    }

    fn recall(&self) {}

    fn abandon(self: Arc<Self>) {}

    fn deliver(self: Arc<Self>, _: Delivery) {
        let finished = self.crew.upgrade().is_some_and(|crew| crew.is_finished());
        self.diary.write(if finished { "finished" } else { "not finished" });
    }
}

#[test]
fn a_crew_is_not_finished_before_the_last_recipient_knows() {
    let (crew, diary) = (crew(), Arc::new(Diary::default()));
    let observer = Arc::new(Observer { crew: Arc::downgrade(&crew), diary: Arc::clone(&diary) });
    let _ = crew.submit(Parcel { recipient: observer, ..parcel(&crew, &diary) });
    crew.close();
    crew.hire(1, spec("/nowhere/python")).unwrap();
    await_entry(&crew, &diary);
    assert_eq!(diary.read(), ["not finished"]);
    assert_eq!(crew.wait_vacated(Duration::from_secs(60)), Wait::Over);
    assert!(crew.is_finished());
}

#[test]
fn a_program_that_can_not_be_started_breaks_the_crew_with_the_reason() {
    let (crew, diary) = (crew(), Arc::new(Diary::default()));
    let _ = crew.submit(parcel(&crew, &diary));
    crew.hire(1, spec("/nowhere/python")).unwrap();
    await_entry(&crew, &diary);
    let entries = diary.read();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].contains("/nowhere/python"), "{entries:?}");
    // What comes later learns the same at once.
    let late = Arc::new(Diary::default());
    let _ = crew.submit(parcel(&crew, &late));
    assert_eq!(late.read(), entries);
}

#[test]
fn a_helper_that_dies_at_once_breaks_the_crew_instead_of_being_restarted_for_ever() {
    let (crew, diary) = (crew(), Arc::new(Diary::default()));
    let _ = crew.submit(parcel(&crew, &diary));
    crew.hire(1, spec("/bin/false")).unwrap();
    await_entry(&crew, &diary);
    let entries = diary.read();
    assert!(entries[0].contains("ended before they were ready"), "{entries:?}");
}

#[test]
fn a_closed_crew_without_workers_is_finished() {
    let crew = crew();
    crew.close();
    assert!(crew.is_finished());
    assert_eq!(crew.wait_vacated(Duration::from_secs(1)), Wait::Over);
}
