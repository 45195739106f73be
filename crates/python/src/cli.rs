//! The words of the command line: what may be typed, what it means, and the help. Called by
//! `forkright.__main__`, which does the work; without it usage errors and help would be worded by hand.

use std::io::IsTerminal;
use std::path::PathBuf;

use crate::outward::{Outward as _, import};
use clap::error::ErrorKind;
use clap::{ArgAction, Args, ColorChoice, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use forkright_engine::plan::Plan;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use serde_json::{Value, json};

/// More calls than that are a mistake, not a wish.
const MOST_CALLS: u64 = 1_000_000_000_000;

const EXIT_CODES: &str = "\
Exit codes:
  0    it went well
  1    your code failed: the file, its items() or the function raised, or a worker died; of check: it must stay
  2    what was typed makes no sense, or names what isn't there
  130  interrupted with Ctrl-C";

const COMPARE_EXAMPLES: &str = "\
The function is called once for each item, with the item as its only argument. Items are, in this order:
what --items says; the list that the file's items() returns; nothing, for a function that needs no argument.
The file is loaded as a script is, but `if __name__ == \"__main__\"` does not hold.

Each run is a new process: it loads the file, makes the items, and times one map from its call to its list of
results. So what starting workers costs is in it, and no run profits from the one before. The plans take
turns, round by round. What the function prints is dropped.

Examples:
  forkright compare calc.py:calc
  forkright compare calc.py:calc --calls 4 --plans serial,threads,processes
  forkright compare thumbs.py:shrink --items 'sorted(glob.glob(\"*.jpg\"))' --plans auto,threads=8,2x4
  forkright compare fetch.py:fetch --runs 5 --json > fetch.json";

const CHECK_EXAMPLES: &str = "\
The function is not called: it is read, with all it calls in your own files. The file is loaded in a new process, as
`forkright compare` loads it, and the function is sent to a worker process, which loads it and compares what it reads.
If there are items (what --items says, else the list that the file's items() returns), the first is sent along, and
the function is read as if it were called with it.

Exit codes:
  0    it may leave for worker processes, as far as could be seen
  1    it must stay in its process
  2    that can't be told: the file raised, or what was typed makes no sense

Examples:
  forkright check calc.py:calc
  forkright check thumbs.py:shrink --items 'sorted(glob.glob(\"*.jpg\"))'
  forkright check calc.py:calc --json | jq -r '.findings[].sentence'";

const REPLAY_EXAMPLES: &str = "\
A report keeps what its choices were made from: what the calls asked for, what this machine costs, what was left to do,
what was ruled out. Without other figures each choice is made again as it was then. With them a choice is made
about all calls, from their start, on each such machine, first on the one that was measured. Of a map under a
fixed plan, and of an executor's functions, what was measured is enough for that.

REPORT.json is what `fr.report().to_json()` gives, or what `forkright compare --json` prints: then the run of each
plan whose time is the median is taken. - is standard input.

Exit codes:
  0    it went well
  2    that is no report, or one of another form, or too little was measured; or what was typed makes no sense

Examples:
  forkright replay report.json
  forkright replay report.json --cores 4,16,64 --items 10000
  forkright compare calc.py:calc --plans auto --json | forkright replay - --cores 64
  forkright replay report.json --cores 64 --zygote-start 0.5 --json | jq '.replays[0].choices[1].verdict.plan'";

const WHY_USAGE: &str = "forkright why [OPTIONS] SCRIPT [ARGS]...
       forkright why [OPTIONS] -m MODULE [ARGS]...";

const WHY_EXAMPLES: &str = "\
The program runs as it would alone: its output, arguments, exit code and signals are its own. What was found is
printed to standard error when it has ended. Its threads and its Python child processes are measured, too; it
is slowed down a little; the last line says how much of a core measuring took.

The exit code is the program's. If a file can't be written, that is said, and the exit code is the program's all the same.

Examples:
  forkright why crawl.py --depth 2
  forkright why --html crawl.html crawl.py
  forkright why --cores 4,16,64 -m pytest tests";

const DOCTOR_EXAMPLES: &str = "\
It takes a few seconds, starts threads and processes, and leaves nothing behind but what it learned of the machine: the
figures that a choice goes by are kept in the cache directory, unless the environment says FORKRIGHT_CACHE=off;
FORKRIGHT_CACHE=DIRECTORY has them kept elsewhere.

Examples:
  forkright doctor
  forkright doctor --json
  taskset -c 0 forkright doctor     what would it be on one core?";

/// Runs many calls on the workers that suit them, threads or processes, and shows why.
#[derive(Parser)]
#[command(name = "forkright", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    output: Output,
}

#[derive(Args)]
struct Output {
    /// When to use colours: auto is on a terminal, and not if NO_COLOR is set.
    #[arg(long, global = true, display_order = 101, value_name = "WHEN", value_enum, default_value_t = Color::Auto)]
    color: Color,
}

#[derive(Args)]
struct Document {
    /// Print one JSON document instead of text.
    #[arg(long, display_order = 100)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Subcommand)]
enum Command {
    /// Run the same calls on every kind of worker, side by side, and say which suits them.
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(Compare),
    /// Tell, without a call, whether a function may leave for worker processes, and what is against it.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(Check),
    /// Measure what threads and processes cost on this machine, and say what will hurt.
    #[command(after_help = DOCTOR_EXAMPLES)]
    Doctor(Document),
    /// Measure any Python program: who holds the GIL, who waits for it, and what would suit the program.
    #[command(after_help = WHY_EXAMPLES, override_usage = WHY_USAGE)]
    Why(Why),
    /// Make the choice of a report again, as it was or on a machine with other figures.
    #[command(after_help = REPLAY_EXAMPLES)]
    Replay(Replay),
    /// One run of a comparison, in a process of its own.
    #[command(name = "_run", hide = true)]
    Run { request: String },
}

#[derive(Args)]
struct Compare {
    /// A Python file and the name of a function in it.
    #[arg(value_name = "FILE.py:FUNCTION", value_parser = target)]
    target: (String, String),
    /// How many calls: the items are taken again from the first if they are fewer. Without items, one per core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    calls: Option<u32>,
    /// An expression for the items, evaluated in the file's namespace: 'range(100)'.
    #[arg(long, value_name = "EXPR")]
    items: Option<String>,
    /// Plans, with commas between: names, or sizes such as threads=8, processes=2, 2x8 (processes x threads).
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = plan,
        action = ArgAction::Set,
        default_value = "serial,threads,processes,hybrid,auto"
    )]
    plans: Vec<Value>,
    /// Runs of each plan; if not given, as many as fit into some 20 seconds, and 3 unless that takes too long.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    runs: Option<u32>,
    #[command(flatten)]
    document: Document,
}

#[derive(Args)]
struct Check {
    /// A Python file and the name of a function in it.
    #[arg(value_name = "FILE.py:FUNCTION", value_parser = target)]
    target: (String, String),
    /// An expression for the items, evaluated in the file's namespace: 'range(100)'.
    #[arg(long, value_name = "EXPR")]
    items: Option<String>,
    #[command(flatten)]
    document: Document,
}

#[derive(Args)]
struct Replay {
    /// A report as JSON; - for standard input.
    #[arg(value_name = "REPORT.json")]
    file: String,
    /// Choose for machines with these numbers of cores.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4096),
        action = ArgAction::Set
    )]
    cores: Vec<u32>,
    /// Choose for so many calls, instead of those there were.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MOST_CALLS))]
    items: Option<u64>,
    /// Where starting the helper that forks workers takes so long.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    zygote_start: Option<f64>,
    /// Where forking one worker takes so long.
    #[arg(long, value_name = "SECONDS", value_parser = seconds, allow_negative_numbers = true)]
    process_start: Option<f64>,
    #[command(flatten)]
    document: Document,
}

#[derive(Args)]
struct Why {
    /// Write a page with the timeline of all threads to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write a trace that Perfetto and Chrome open to this file.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write all readings and the verdict to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Predict for machines with these numbers of cores, too.
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_parser = clap::value_parser!(u32).range(1..=4096),
        action = ArgAction::Set,
        default_value = "4,16,64"
    )]
    cores: Vec<u32>,
    /// Look a thousand times a second to the end, which takes up to 5 % of a core.
    #[arg(long)]
    thorough: bool,
    /// Run a module as `python -m` does; what follows are its arguments.
    #[arg(short = 'm', value_name = "MODULE")]
    module: Option<String>,
    /// The script and its arguments.
    #[arg(value_name = "SCRIPT [ARGS]", trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<String>,
}

fn target(text: &str) -> Result<(String, String), String> {
    match text.rsplit_once(':') {
        Some((file, function)) if !file.is_empty() && !function.is_empty() => {
            Ok((file.into(), function.into()))
        }
        _ => Err("a file and a function are wanted, such as `script.py:main`".into()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || "seconds are wanted, such as 0.06, an hour at most".to_owned();
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if (0.0..=3600.0).contains(&seconds) { Ok(seconds) } else { Err(wrong()) }
}

/// A plan as Python takes it: a name, or its processes and threads.
fn plan(text: &str) -> Result<Value, String> {
    let wrong = || {
        "it is no plan; take serial, threads, processes, hybrid, auto, or a size: threads=8, processes=2, 2x8"
            .to_owned()
    };
    let count = |digits: &str| digits.parse::<u32>().map_err(|_| wrong());
    let (processes, threads) = match text.split_once('=').or_else(|| text.split_once('x')) {
        _ if ["auto", "serial", "threads", "processes", "hybrid"].contains(&text) => return Ok(json!(text)),
        Some(("threads", threads)) => (0, count(threads)?),
        Some(("processes", processes)) => (count(processes)?, 1),
        Some((processes, threads)) if !text.contains('=') => (count(processes)?, count(threads)?),
        _ => return Err(wrong()),
    };
    if processes == 0 && !text.starts_with("threads=") {
        return Err("a plan with processes has at least one".into());
    }
    let plan = Plan::new(processes, threads).map_err(|error| error.to_string())?;
    Ok(json!([plan.processes(), plan.threads()]))
}

/// Marks where the arguments of a module begin that `why` runs: those of a script begin with the script itself, but
/// after `-m MODULE` what looks like an option of ours would be taken for one.
fn with_module_apart(mut arguments: Vec<String>) -> Vec<String> {
    let Some(why) = arguments.iter().position(|argument| argument == "why") else { return arguments };
    let mut at = why + 1;
    while let Some(argument) = arguments.get(at) {
        let takes_another =
            ["--html", "--trace", "--json", "--cores", "--color"].contains(&argument.as_str());
        match argument.as_str() {
            "--" => break,
            "-m" if at + 2 <= arguments.len() => {
                arguments.insert(at + 2, "--".into());
                break;
            }
            joined if joined.starts_with("-m") && joined.len() > 2 => {
                arguments.insert(at + 1, "--".into());
                break;
            }
            _ if takes_another => at += 2,
            option if option.starts_with('-') => at += 1,
            _ => break,
        }
    }
    arguments
}

/// What the arguments after the program's name ask for, as JSON. Prints help, version and usage errors itself and
/// raises `SystemExit` then.
#[pyfunction]
pub(crate) fn parse_command(py: Python<'_>, arguments: Vec<String>) -> PyResult<String> {
    let arguments = with_module_apart(arguments);
    let color = match wished(&arguments) {
        "always" => ColorChoice::Always,
        "never" => ColorChoice::Never,
        _ => ColorChoice::Auto,
    };
    let named = std::iter::once("forkright".to_owned()).chain(arguments);
    let parsed = CommandLine::command()
        .color(color)
        .term_width(100)
        .try_get_matches_from(named)
        .and_then(|matches| CommandLine::from_arg_matches(&matches));
    match parsed {
        Ok(line) => Ok(line.describe().to_string()),
        Err(error) => Err(leave(py, &error, color)?),
    }
}

/// The last `--color` of a line that may not be right otherwise.
fn wished(arguments: &[String]) -> &str {
    let pairs = arguments.iter().zip(arguments.iter().skip(1));
    let apart = pairs.filter(|(option, _)| *option == "--color").map(|(_, when)| when.as_str());
    let together = arguments.iter().filter_map(|argument| argument.strip_prefix("--color="));
    apart.chain(together).last().unwrap_or("auto")
}

/// Prints what clap has to say, through Python's streams, which may have been replaced.
fn leave(py: Python<'_>, error: &clap::Error, color: ColorChoice) -> PyResult<PyErr> {
    let (stream, is_terminal) = if error.use_stderr() {
        ("stderr", std::io::stderr().is_terminal())
    } else {
        ("stdout", std::io::stdout().is_terminal())
    };
    let colorful = match color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => is_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let text = error.render();
    let text = if colorful { text.ansi().to_string() } else { text.to_string() };
    import(py, "sys")?.getattr(stream)?.invoke_method("write", (text,))?;
    let code = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => 0,
        _ => 2,
    };
    Ok(PySystemExit::new_err(code))
}

impl CommandLine {
    fn describe(self) -> Value {
        let mut described = match self.command {
            Command::Compare(compare) => json!({
                "command": "compare",
                "file": compare.target.0,
                "function": compare.target.1,
                "calls": compare.calls,
                "items": compare.items,
                "plans": compare.plans,
                "runs": compare.runs,
                "json": compare.document.json,
            }),
            Command::Check(check) => json!({
                "command": "check",
                "file": check.target.0,
                "function": check.target.1,
                "items": check.items,
                "json": check.document.json,
            }),
            Command::Doctor(document) => json!({ "command": "doctor", "json": document.json }),
            Command::Why(why) => json!({
                "command": "why",
                "html": why.html,
                "trace": why.trace,
                "json": why.json,
                "cores": why.cores,
                "thorough": why.thorough,
                "module": why.module,
                "program": why.program,
            }),
            Command::Replay(replay) => json!({
                "command": "replay",
                "file": replay.file,
                "cores": replay.cores,
                "items": replay.items,
                "zygote_start": replay.zygote_start,
                "process_start": replay.process_start,
                "json": replay.document.json,
            }),
            Command::Run { request } => json!({ "command": "_run", "request": request }),
        };
        let color = match self.output.color {
            Color::Auto => "auto",
            Color::Always => "always",
            Color::Never => "never",
        };
        described["color"] = json!(color);
        described
    }
}
