//! Keeps what was measured of a machine in a file, for the next process. All that has to do with that file is here, and
//! none of it may fail, or hold anybody up: a file that can't be read or makes no sense is as good as none, and where
//! none can be written nothing is kept.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

use crate::estimate::Constants;

/// The version of the file's form.
const FORM: u32 = 1;
/// More bytes than any such file has.
const MOST: u64 = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Kept {
    form: u32,
    constants: Constants,
}

/// The directory to keep it in, if it is to be kept: what `FORKRIGHT_CACHE` says, or the user's cache directory.
pub fn directory(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|path| !path.as_os_str().is_empty());
    match variable("FORKRIGHT_CACHE") {
        Some(wish) if ["", "off", "0"].iter().any(|off| wish.as_os_str() == *off) => None,
        Some(directory) => Some(directory),
        // The specification has relative ones ignored.
        None => set("XDG_CACHE_HOME")
            .filter(|path| path.is_absolute())
            .or_else(|| Some(set("HOME")?.join(".cache")))
            .map(|cache| cache.join("forkright")),
    }
}

/// What is kept there; nothing if that can't be told.
pub fn load(path: &Path) -> Constants {
    read(path).unwrap_or_default()
}

fn read(path: &Path) -> Option<Constants> {
    // What is no file but a pipe must not hold us up.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let mut text = Vec::with_capacity(1024);
    file.take(MOST).read_to_end(&mut text).ok()?;
    let kept: Kept = serde_json::from_slice(&text).ok()?;
    (kept.form == FORM).then(|| kept.constants.checked())
}

/// Puts it there, whole or not at all. Whether it did.
pub fn save(path: &Path, constants: &Constants) -> bool {
    write(path, constants).is_some()
}

fn write(path: &Path, constants: &Constants) -> Option<()> {
    let text = serde_json::to_vec(&Kept { form: FORM, constants: constants.clone() }).ok()?;
    let directory = path.parent()?;
    if !directory.is_dir() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory).ok()?;
    }
    let mut name = path.file_name()?.to_owned();
    name.push(format!(".{}", std::process::id()));
    let draft = directory.join(name);
    // One that a process left which was killed and had the same pid.
    let _ = fs::remove_file(&draft);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(&text));
    let done = written.and_then(|()| fs::rename(&draft, path));
    if done.is_err() {
        let _ = fs::remove_file(&draft);
    }
    done.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::Constant;

    /// A directory that goes with the test.
    struct Room(PathBuf);

    impl Room {
        fn new(name: &str) -> Room {
            let room = std::env::temp_dir().join(format!("forkright-cache-{name}-{}", std::process::id()));
            fs::create_dir_all(&room).expect("there is room for temporary files");
            Room(room)
        }
    }

    impl Drop for Room {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn measured() -> Constants {
        let mut constants = Constants::default();
        for _ in 0..4 {
            constants.add(Constant::Hop, 3e-5);
        }
        constants
    }

    fn where_to(variables: &[(&str, &str)]) -> Option<PathBuf> {
        let find = |name: &str| variables.iter().find(|(variable, _)| *variable == name);
        directory(|name| find(name).map(|(_, value)| PathBuf::from(value)))
    }

    #[test]
    fn what_is_saved_is_loaded_and_nothing_else_lies_about() {
        let room = Room::new("saved");
        let path = room.0.join("deep/down/machine.json");
        assert!(save(&path, &measured()) && save(&path, &measured()));
        assert_eq!(load(&path), measured());
        let files: Vec<_> = fs::read_dir(room.0.join("deep/down")).expect("it was made").collect();
        assert_eq!(files.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_as_good_as_nothing() {
        let room = Room::new("nonsense");
        let path = room.0.join("machine.json");
        assert_eq!(load(&path), Constants::default());
        for text in [
            "",
            "{",
            "[]",
            "\0",
            r#"{"form": 2, "constants": {}}"#,
            r#"{"form": 1, "constants": {"hop": 7}}"#,
        ] {
            fs::write(&path, text).expect("it is ours");
            assert_eq!(load(&path), Constants::default(), "{text}");
        }
        fs::write(&path, vec![b' '; 1 << 20]).expect("it is ours");
        assert_eq!(load(&path), Constants::default());
        assert_eq!(load(&room.0), Constants::default(), "a directory");
        assert!(save(&path, &measured()));
        assert_eq!(load(&path), measured(), "it is replaced");
    }

    #[test]
    fn a_pipe_in_its_place_holds_nobody_up() {
        let room = Room::new("pipe");
        let path = room.0.join("machine.json");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, Mode::RWXU, 0)
            .expect("pipes can be made here");
        assert_eq!(load(&path), Constants::default());
    }

    #[test]
    fn where_nothing_can_be_written_nothing_is_kept() {
        let room = Room::new("unwritable");
        fs::write(room.0.join("file"), "").expect("it is ours");
        assert!(!save(&room.0.join("file/machine.json"), &measured()));
        fs::create_dir(room.0.join("machine.json")).expect("it is ours");
        assert!(!save(&room.0.join("machine.json"), &measured()), "a directory is in its place");
        assert_eq!(fs::read_dir(&room.0).expect("it is there").count(), 2, "no draft is left");
    }

    #[test]
    fn it_is_kept_where_the_environment_says() {
        let at = |path: &str| Some(PathBuf::from(path));
        assert_eq!(where_to(&[("HOME", "/h")]), at("/h/.cache/forkright"));
        assert_eq!(where_to(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), at("/x/forkright"));
        assert_eq!(where_to(&[("HOME", "/h"), ("XDG_CACHE_HOME", "x")]), at("/h/.cache/forkright"));
        assert_eq!(where_to(&[("HOME", "/h"), ("FORKRIGHT_CACHE", "/f")]), at("/f"));
        for off in ["", "off", "0"] {
            assert_eq!(where_to(&[("HOME", "/h"), ("FORKRIGHT_CACHE", off)]), None);
        }
        assert_eq!(where_to(&[("HOME", "")]), None);
        assert_eq!(where_to(&[]), None);
    }
}
