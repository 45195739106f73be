//! A crew against a worker played by a thread: what is submitted is run once and answered, also when workers die.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use forkright_engine::crew::{Crew, Delivery, Limits, Parcel, Recipient, Spec};
use forkright_engine::frame::down;
use forkright_engine::payload::Payload;
use forkright_engine::warden::{Program, Warden};

struct Seen(Mutex<Vec<String>>);
impl Recipient for Seen {
    fn send(&self) -> bool {
        true
    }
    fn recall(&self) {}
    fn abandon(self: Arc<Self>) {}
    fn deliver(self: Arc<Self>, _delivery: Delivery) {
        self.0.lock().unwrap().push("d".into());
    }
}

#[test]
fn probe() {
    let crew =
        Crew::create(Limits { processes: 1, threads: 1, tasks_per_worker: None }, Warden::new()).unwrap();
    let seen = Arc::new(Seen(Mutex::default()));
    let r = crew.submit(Parcel {
        id: 1,
        kind: down::TASK,
        function: None,
        flags: None,
        payload: Payload::inline(vec![1, 2, 3]),
        leases: vec![],
        tasks: 1,
        recipient: seen.clone(),
    });
    eprintln!("{r:?} appetite {}", crew.appetite());
    let program = Program {
        command: vec!["/bin/sleep".into(), "5".into()],
        single: "".into(),
        circumstances: "".into(),
    };
    crew.hire(1, Spec { bytes: vec![].into(), program }).unwrap();
    eprintln!("appetite {}", crew.appetite());
    std::thread::sleep(Duration::from_millis(50));
    eprintln!("running {} outstanding {}", crew.is_running(1), crew.outstanding());
}
