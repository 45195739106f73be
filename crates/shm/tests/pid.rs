//! A process knows its own pid, a forked child its own.

use forkright_shm::pid;

#[test]
fn a_forked_child_and_its_child_know_their_own_pids() {
    assert_eq!(pid::current(), std::process::id());
    // SAFETY: the children call nothing that takes a lock, and leave by `_exit`.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            let known = pid::current() == libc::getpid().cast_unsigned();
            let grandchild = libc::fork();
            if grandchild == 0 {
                libc::_exit(i32::from(pid::current() != libc::getpid().cast_unsigned()));
            }
            let mut status = 1;
            libc::waitpid(grandchild, &raw mut status, 0);
            libc::_exit(i32::from(!known || status != 0));
        }
        let mut status = 1;
        assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
        status
    };
    assert_eq!(status, 0, "a child took itself for another process");
    assert_eq!(pid::current(), std::process::id());
}
