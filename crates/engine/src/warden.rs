//! Starts worker processes and notices their deaths, from one native thread for the whole process.
//!
//! Workers are forked by a *zygote*: a helper interpreter, started clean, single-threaded, with the worker
//! module imported. A request is one SEQPACKET message with the worker's file descriptors; the zygote
//! answers with the pid and a pidfd, and later with the exit status, which only a parent can collect. Where
//! the zygote must not fork (something it imported started threads) it says so, and the same program is
//! started once per worker instead. Deaths are seen by polling pidfds. This file knows no Python: it is
//! told what to execute, and the worker's spec is opaque bytes.
//!
//! ```text
//!        P · M · F token mask + fds                  fork
//! warden ─────────────────────────▶ zygote ──────────────────▶ worker
//!        ◀─────────────────────────
//!   H ready · S token pid + pidfd · X pid status · R reason (refuses to fork) · E token reason
//! ```
//!
//! `P` has it import what functions need that travel by value, `M` what processes of `multiprocessing`'s kind need.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, send, sendmsg, socketpair,
};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::estimate::Constant;
use crate::here;
use crate::kin;

/// How long after a worker's death its exit status may take to arrive from the zygote.
const STATUS_PATIENCE: Duration = Duration::from_millis(300);

/// How often the status of a worker that died is looked for meanwhile.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How a worker process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It exited by itself with this code.
    Exited(i32),
    /// A signal killed it.
    Killed(i32),
    /// It is gone; nobody could tell how.
    Unknown,
}

impl Death {
    /// From the number `waitpid` gave.
    fn from_wait_status(status: i32) -> Death {
        match (status & 0x7f, (status >> 8) & 0xff) {
            (0, code) => Death::Exited(code),
            (signal, _) => Death::Killed(signal),
        }
    }

    /// Whether a fault of its own killed it.
    pub fn is_crash(self) -> bool {
        let faults = [Signal::SEGV, Signal::BUS, Signal::FPE, Signal::ILL, Signal::ABORT];
        faults.iter().any(|fault| self == Death::Killed(fault.as_raw()))
    }

    /// As `subprocess.Popen.returncode` has it: the exit code, or minus the signal.
    pub fn exit_code(self) -> Option<i32> {
        match self {
            Death::Exited(code) => Some(code),
            Death::Killed(signal) => Some(-signal),
            Death::Unknown => None,
        }
    }
}

/// What a crew wants to hear of the workers it ordered. Called on the warden's thread: must not block.
pub trait Employer: Send + Sync {
    /// The worker has a process.
    fn started(&self, token: u64, pid: i32);
    /// The worker's process is gone, or could not be started (`pid` is 0 then). `reason` says why, where that is known.
    fn ended(&self, token: u64, pid: i32, death: Death, reason: Option<String>);
    /// The time it asked to be called at has come; returns when to call it again.
    fn due(&self) -> Option<Instant> {
        None
    }
}

/// What to execute for a zygote; the words that make it serve one worker and exit are appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// The executable and its arguments.
    pub command: Vec<String>,
    /// Appended when the program shall become one worker itself instead of forking them.
    pub single: String,
    /// Whatever makes a running zygote unfit when it changes: user ids, limits, namespaces.
    pub circumstances: String,
}

/// One worker to start.
pub struct Order {
    /// Names the worker in answers.
    pub token: u64,
    /// Read by the worker at its start.
    pub spec: Vec<u8>,
    /// The worker's descriptors, in the order its main function expects.
    pub fds: Vec<OwnedFd>,
    /// Descriptors 1 and 2, where the caller has them.
    pub output: [Option<OwnedFd>; 2],
    /// Who is told.
    pub employer: Weak<dyn Employer>,
}

enum Request {
    Warm(Program),
    Prepare(Need),
    Start(Program, Order),
    Signal { token: u64, signal: Signal },
    KillWithKin { token: u64 },
    CallAt(Instant, Weak<dyn Employer>),
}

/// What the zygote can import once, so that no worker has to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// What functions need that travel by value.
    ByValue,
    /// What `multiprocessing` needs in a process of its own.
    Process,
}

/// How far the zygote is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helper {
    /// None runs.
    None,
    /// It was started and has not said anything yet.
    Starting,
    /// It can fork.
    Ready,
}

/// The handle everybody shares. The thread starts with the first request and lives as long as the process.
pub struct Warden {
    requests: Mutex<VecDeque<Request>>,
    /// What every zygote gets ready for as it starts.
    needs: Mutex<Vec<Need>>,
    /// Made together with the thread; written to when a request waits.
    alarm: OnceLock<Result<OwnedFd, String>>,
    helper: Mutex<Helper>,
}

impl Warden {
    /// A warden without a thread yet.
    pub fn new() -> Arc<Warden> {
        Arc::new(Warden {
            requests: Mutex::default(),
            needs: Mutex::default(),
            alarm: OnceLock::new(),
            helper: Mutex::new(Helper::None),
        })
    }

    /// How far the zygote is.
    pub fn helper(&self) -> Helper {
        *lock(&self.helper)
    }

    /// Starts the zygote in the background if none runs.
    pub fn warm(self: &Arc<Self>, program: Program) -> Result<(), String> {
        self.request(Request::Warm(program))
    }

    /// Workers are about to come that need this: the zygote, and each that comes later, gets ready for them at once.
    pub fn prepare(self: &Arc<Self>, need: Need) {
        {
            let mut needs = lock(&self.needs);
            if needs.contains(&need) {
                return;
            }
            needs.push(need);
        }
        // Without a thread there is no zygote, and the first will be told.
        if self.alarm.get().is_some() {
            let _ = self.request(Request::Prepare(need));
        }
    }

    /// Starts a worker; its employer hears of the outcome.
    pub fn start(self: &Arc<Self>, program: Program, order: Order) -> Result<(), String> {
        self.request(Request::Start(program, order))
    }

    /// Sends a signal to a worker, unless it is gone.
    pub fn signal(self: &Arc<Self>, token: u64, signal: Signal) {
        // Without a thread there is no worker to signal.
        let _ = self.request(Request::Signal { token, signal });
    }

    /// Kills a worker and all processes that it started.
    pub fn kill_with_kin(self: &Arc<Self>, token: u64) {
        // Without a thread there is no worker.
        let _ = self.request(Request::KillWithKin { token });
    }

    /// Calls an employer when that time has come.
    pub fn call_at(self: &Arc<Self>, time: Instant, employer: Weak<dyn Employer>) {
        // Without a thread there is no worker whose time could be up.
        let _ = self.request(Request::CallAt(time, employer));
    }

    fn request(self: &Arc<Self>, request: Request) -> Result<(), String> {
        lock(&self.requests).push_back(request);
        let alarm = self.alarm.get_or_init(|| self.begin()).as_ref().map_err(String::clone)?;
        // A full counter wakes the thread just as well.
        let _ = rustix::io::write(alarm, &1u64.to_ne_bytes());
        Ok(())
    }

    fn begin(self: &Arc<Self>) -> Result<OwnedFd, String> {
        let say = |error: &dyn std::fmt::Display| format!("no thread to start workers from: {error}");
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(|e| say(&e))?;
        let ours = alarm.try_clone().map_err(|e| say(&e))?;
        let warden = Arc::clone(self);
        std::thread::Builder::new()
            .name("forkright-warden".into())
            .spawn(move || Watch::new(warden, ours).run())
            .map_err(|e| say(&e))?;
        Ok(alarm)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A helper interpreter and the socket it listens on.
struct Zygote {
    program: Program,
    socket: OwnedFd,
    child: Child,
    born: Instant,
    /// It said that it can not fork.
    refuses: bool,
    /// Orders sent and not answered: kept to be served by a spawn if it refuses.
    orders: HashMap<u64, Order>,
}

/// A worker the zygote (or we) started.
struct Ward {
    token: u64,
    pid: i32,
    pidfd: OwnedFd,
    employer: Weak<dyn Employer>,
    parent: Parent,
    /// When the pidfd told of its death, while its status is awaited.
    died: Option<Instant>,
    status: Option<Death>,
}

/// Who collects a worker's exit status.
enum Parent {
    /// The zygote with this pid.
    Zygote(u32),
    /// We do: the zygote could not fork.
    Us(Child),
}

struct Watch {
    warden: Arc<Warden>,
    alarm: OwnedFd,
    /// The last one serves; those before it were started under other circumstances and stay while they
    /// have workers, which would die with them.
    zygotes: Vec<Zygote>,
    wards: Vec<Ward>,
    /// Who wants to be called, and when.
    calls: Vec<(Instant, Weak<dyn Employer>)>,
}

impl Watch {
    fn new(warden: Arc<Warden>, alarm: OwnedFd) -> Watch {
        Watch { warden, alarm, zygotes: Vec::new(), wards: Vec::new(), calls: Vec::new() }
    }

    fn run(mut self) {
        loop {
            self.sleep();
            loop {
                let request = lock(&self.warden.requests).pop_front();
                match request {
                    None => break,
                    Some(Request::Warm(program)) => {
                        // The first order would meet the same failure and carry the reason.
                        let _ = self.ensure_zygote(&program);
                    }
                    Some(Request::Prepare(need)) => {
                        if let Some(zygote) = self.zygotes.last() {
                            tell(&zygote.socket, need);
                        }
                    }
                    Some(Request::Start(program, order)) => self.serve(&program, order),
                    Some(Request::Signal { token, signal }) => {
                        if let Some(ward) = self.wards.iter().find(|ward| ward.token == token) {
                            // It may have died this moment; then there is nothing to signal.
                            let _ = pidfd_send_signal(&ward.pidfd, signal);
                        }
                    }
                    Some(Request::KillWithKin { token }) => {
                        if let Some(ward) = self.wards.iter().find(|ward| ward.token == token) {
                            kin::kill(&ward.pidfd, ward.pid);
                        }
                    }
                    Some(Request::CallAt(time, employer)) => self.call_at(time, employer),
                }
            }
            self.listen();
            self.bury();
            self.call();
        }
    }

    /// Calls those whose time has come.
    fn call(&mut self) {
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.calls).into_iter().partition(|(time, _)| *time <= now);
        self.calls = later;
        for (_, employer) in due {
            if let Some(next) = employer.upgrade().and_then(|alive| alive.due()) {
                self.call_at(next, employer);
            }
        }
    }

    /// Each employer is called at one time: the last that was named.
    fn call_at(&mut self, time: Instant, employer: Weak<dyn Employer>) {
        self.calls.retain(|(_, other)| !other.ptr_eq(&employer));
        self.calls.push((time, employer));
    }

    /// Sleeps until a request, a message of the zygote, or a death.
    fn sleep(&self) {
        let mut fds = vec![PollFd::new(&self.alarm, PollFlags::IN)];
        fds.extend(self.zygotes.iter().map(|zygote| PollFd::new(&zygote.socket, PollFlags::IN)));
        let waiting = self.wards.iter().any(|ward| ward.died.is_some());
        let living = self.wards.iter().filter(|ward| ward.died.is_none());
        fds.extend(living.map(|ward| PollFd::new(&ward.pidfd, PollFlags::IN)));
        let now = Instant::now();
        let call = self.calls.iter().map(|(time, _)| time.saturating_duration_since(now)).min();
        let limit = call.into_iter().chain(waiting.then_some(LOOK_AGAIN)).min();
        let limit = limit.map(|limit| Timespec {
            tv_sec: limit.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: limit.subsec_nanos().into(),
        });
        // Interrupted or not, the round that follows looks at everything.
        let _ = poll(&mut fds, limit.as_ref());
        let mut count = [0u8; 8];
        let _ = rustix::io::read(&self.alarm, &mut count);
    }

    fn serve(&mut self, program: &Program, order: Order) {
        if let Some(index) = self.zygotes.len().checked_sub(1)
            && has_hung_up(&self.zygotes[index].socket)
        {
            self.lose_zygote(index, "it closed its socket");
        }
        let zygote = match self.ensure_zygote(program) {
            Ok(zygote) => zygote,
            Err(reason) => return refuse(&order, reason),
        };
        if zygote.refuses {
            match spawn(program, &order) {
                Ok(ward) => self.admit(ward),
                Err(reason) => refuse(&order, reason),
            }
        } else {
            match send_order(&zygote.socket, &order) {
                Ok(()) => drop(zygote.orders.insert(order.token, order)),
                Err(reason) => refuse(&order, reason),
            }
        }
    }

    /// The zygote that serves this program, started if need be.
    fn ensure_zygote(&mut self, program: &Program) -> Result<&mut Zygote, String> {
        if self.zygotes.last().is_none_or(|zygote| zygote.program != *program) {
            let born = Instant::now();
            let (child, socket) = execute(program, None)?;
            let program = program.clone();
            for need in lock(&self.warden.needs).iter() {
                tell(&socket, *need);
            }
            *lock(&self.warden.helper) = Helper::Starting;
            self.zygotes.push(Zygote {
                program,
                socket,
                child,
                born,
                refuses: false,
                orders: HashMap::new(),
            });
        }
        self.zygotes.last_mut().ok_or_else(|| "the helper process is gone".into())
    }

    fn admit(&mut self, ward: Ward) {
        if let Some(employer) = ward.employer.upgrade() {
            employer.started(ward.token, ward.pid);
        }
        self.wards.push(ward);
    }

    /// Takes all that the zygotes have said, and lets go of those that have nothing left to do.
    fn listen(&mut self) {
        let mut index = 0;
        while index < self.zygotes.len() {
            match receive(&self.zygotes[index].socket) {
                Ok(Some((text, fd))) => {
                    if let Err(reason) = self.heed(index, &text, fd) {
                        self.lose_zygote(index, &reason);
                    }
                }
                Ok(None) => index += 1,
                Err(reason) => self.lose_zygote(index, &reason),
            }
        }
        let serving = self.zygotes.len().saturating_sub(1);
        for index in (0..serving).rev() {
            let parent = self.zygotes[index].child.id();
            let busy = !self.zygotes[index].orders.is_empty()
                || self.wards.iter().any(|ward| matches!(ward.parent, Parent::Zygote(id) if id == parent));
            if !busy {
                self.lose_zygote(index, "it was replaced");
            }
        }
    }

    fn heed(&mut self, index: usize, text: &str, fd: Option<OwnedFd>) -> Result<(), String> {
        let zygote = &mut self.zygotes[index];
        let (verb, rest) = text.split_at_checked(2).unwrap_or((text, ""));
        let (first, second) = rest.split_once(' ').unwrap_or((rest, ""));
        match (verb, first.parse::<u64>(), fd) {
            ("S ", Ok(token), Some(pidfd)) => {
                let (Some(order), Ok(pid)) = (zygote.orders.remove(&token), second.parse()) else {
                    return Err(format!("it started a worker nobody ordered: {text:?}"));
                };
                let (employer, parent) = (order.employer.clone(), Parent::Zygote(zygote.child.id()));
                self.admit(Ward { token, pid, pidfd, employer, parent, died: None, status: None });
            }
            ("X ", Ok(pid), _) => {
                let parent = zygote.child.id();
                let ward = self.wards.iter_mut().find(|ward| {
                    ward.pid as u64 == pid && matches!(ward.parent, Parent::Zygote(id) if id == parent)
                });
                if let (Some(ward), Ok(status)) = (ward, second.parse()) {
                    ward.status = Some(Death::from_wait_status(status));
                }
            }
            ("H ", ..) => {
                *lock(&self.warden.helper) = Helper::Ready;
                if here::observe(Constant::ZygoteStart, zygote.born.elapsed().as_secs_f64()) {
                    here::save();
                }
            }
            ("E ", Ok(token), _) => {
                if let Some(order) = zygote.orders.remove(&token) {
                    refuse(&order, second.to_owned());
                }
            }
            ("R ", ..) => {
                zygote.refuses = true;
                let program = zygote.program.clone();
                for (_, order) in std::mem::take(&mut zygote.orders) {
                    self.serve(&program, order);
                }
            }
            _ => return Err(format!("it said something unknown: {text:?}")),
        }
        Ok(())
    }

    /// A zygote is gone or must go, and with it, by their death signals, its workers.
    fn lose_zygote(&mut self, index: usize, reason: &str) {
        let mut zygote = self.zygotes.remove(index);
        if index == self.zygotes.len() {
            *lock(&self.warden.helper) = Helper::None;
        }
        // It may have closed its socket without dying.
        let _ = zygote.child.kill();
        let status = zygote.child.wait().map_or(String::new(), |status| format!(" ({status})"));
        for (_, order) in std::mem::take(&mut zygote.orders) {
            refuse(&order, format!("the helper process that starts workers ended{status}: {reason}"));
        }
    }

    /// Reports the wards that died, once their status is known or no longer worth waiting for.
    fn bury(&mut self) {
        let now = Instant::now();
        for ward in &mut self.wards {
            if ward.died.is_none() && is_readable(&ward.pidfd) {
                ward.died = Some(now);
            }
            if let (Some(_), Parent::Us(child)) = (ward.died, &mut ward.parent) {
                use std::os::unix::process::ExitStatusExt;
                ward.status = child.wait().ok().map(|status| Death::from_wait_status(status.into_raw()));
            }
        }
        let zygotes = &self.zygotes;
        let (dead, alive): (Vec<Ward>, Vec<Ward>) =
            std::mem::take(&mut self.wards).into_iter().partition(|ward| {
                let orphaned = match &ward.parent {
                    Parent::Zygote(id) => !zygotes.iter().any(|zygote| zygote.child.id() == *id),
                    Parent::Us(_) => true,
                };
                ward.died.is_some_and(|at| {
                    ward.status.is_some() || orphaned || now.duration_since(at) > STATUS_PATIENCE
                })
            });
        self.wards = alive;
        for ward in dead {
            if let Some(employer) = ward.employer.upgrade() {
                let is_orphan = ward.status.is_none() && matches!(ward.parent, Parent::Zygote(_));
                let reason = is_orphan.then(|| {
                    "the helper process that it was forked from ended, as do its workers then".into()
                });
                employer.ended(ward.token, ward.pid, ward.status.unwrap_or(Death::Unknown), reason);
            }
        }
    }
}

/// Starts `program` as one worker of its own.
fn spawn(program: &Program, order: &Order) -> Result<Ward, String> {
    let (child, socket) = execute(program, Some(&program.single))?;
    send_order(&socket, order)?;
    let pid = child.id().cast_signed();
    let raw = Pid::from_raw(pid).ok_or("a process without a pid")?;
    let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|error| error.to_string())?;
    let employer = order.employer.clone();
    Ok(Ward { token: order.token, pid, pidfd, employer, parent: Parent::Us(child), died: None, status: None })
}

fn refuse(order: &Order, reason: String) {
    if let Some(employer) = order.employer.upgrade() {
        employer.ended(order.token, 0, Death::Unknown, Some(reason));
    }
}

fn is_readable(fd: &OwnedFd) -> bool {
    !now(fd, PollFlags::IN).is_empty()
}

fn has_hung_up(socket: &OwnedFd) -> bool {
    now(socket, PollFlags::empty()).intersects(PollFlags::HUP | PollFlags::ERR)
}

/// What is to be said of a descriptor at this moment, of these things and of its end.
fn now(fd: &OwnedFd, events: PollFlags) -> PollFlags {
    let mut fds = [PollFd::new(fd, events)];
    let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
    let _ = poll(&mut fds, Some(&at_once));
    fds[0].revents()
}

/// Executes the program with one end of a socket pair as its standard input.
fn execute(program: &Program, extra: Option<&str>) -> Result<(Child, OwnedFd), String> {
    let (executable, arguments) = program.command.split_first().ok_or("no interpreter to start")?;
    let flags = SocketFlags::CLOEXEC;
    let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        .map_err(|error| format!("no socket pair: {error}"))?;
    let child = Command::new(executable)
        .args(arguments)
        .args(extra)
        .stdin(Stdio::from(theirs))
        .spawn()
        .map_err(|error| format!("`{executable}` can not be started: {error}"))?;
    Ok((child, ours))
}

fn tell(socket: &OwnedFd, need: Need) {
    let word = match need {
        Need::ByValue => b"P",
        Need::Process => b"M",
    };
    // That one can't be reached is found out with the next order.
    let _ = send(socket, word, SendFlags::NOSIGNAL);
}

fn send_order(socket: &OwnedFd, order: &Order) -> Result<(), String> {
    let say = |error: &dyn std::fmt::Display| format!("the helper process can not be reached: {error}");
    let spec = rustix::fs::memfd_create("forkright-spec", rustix::fs::MemfdFlags::CLOEXEC)
        .map(File::from)
        .and_then(|mut file| {
            file.write_all(&order.spec).map_err(|_| rustix::io::Errno::NOSPC)?;
            Ok(file)
        })
        .map_err(|error| say(&error))?;
    let mut mask = 0;
    let mut fds = vec![spec.as_fd()];
    for (number, fd) in (1..).zip(&order.output) {
        if let Some(fd) = fd {
            mask |= 1 << number;
            fds.push(fd.as_fd());
        }
    }
    fds.extend(order.fds.iter().map(AsFd::as_fd));
    let text = format!("F {} {mask}", order.token);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err("a worker has more descriptors than fit in one message".into());
    }
    sendmsg(socket, &[IoSlice::new(text.as_bytes())], &mut ancillary, SendFlags::NOSIGNAL)
        .map_err(|error| say(&error))?;
    Ok(())
}

/// The next message, `None` if there is none yet, or why there will be none.
fn receive(socket: &OwnedFd) -> Result<Option<(String, Option<OwnedFd>)>, String> {
    let mut bytes = [0u8; 1024];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = match recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags) {
        Ok(message) if message.bytes == 0 => return Err("it closed its socket".into()),
        Ok(message) => message.bytes,
        Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let mut fd = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = message {
            fd = fds.next();
        }
    }
    Ok(Some((String::from_utf8_lossy(&bytes[..received]).into_owned(), fd)))
}
