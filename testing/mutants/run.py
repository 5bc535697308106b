#!/usr/bin/env python3
"""Finds out which check notices which mistake in the protocol.

`catalogue.py` has the mistakes, each as a piece of source with what it would be instead. All of
them are compiled into one copy of the workspace, in `target/mutants`, where the variable
MUTANT turns one on. Then each check is run once without a mutant, which must pass, and with
each mutant one after the other until one fails:

    testing/mutants/run.py             prints a table, and fails if a mutant survives
    testing/mutants/run.py --check     only whether each mutant still has its place (no build)
    testing/mutants/run.py --compile   the same, and whether the copy with all of them compiles
    testing/mutants/run.py NAME...     these mutants only
    testing/mutants/run.py --checks walk      some of the checks: tests, walk, models
    testing/mutants/run.py --every     every check for each mutant, whether it is noticed or not
    testing/mutants/run.py --write     writes the table into docs/verification.md; if mutants
                                       are named, the rows of the others stay as they are

A check that hangs has noticed, too: whoever waits for what never comes. What was found out with
the same programs is not tried again: `target/mutants/known.json`.
"""

import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from catalogue import EQUIVALENT, MUTANTS  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "mutants"
TREE = WORK / "tree"
PAGE = ROOT / "docs" / "verification.md"
KNOWN = WORK / "known.json"

# Tests that find much and say little: the others are named first.
VAGUE = ("fuzzed::", "replays::", "joins::vats_that_compare_at_random", "walk::")

SWITCH = """
/// Which mistake is made, by the variable MUTANT.
pub(crate) mod mutants {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicBool, Ordering};

    pub(crate) fn on(name: &str) -> bool {
        static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
        static SEEN: AtomicBool = AtomicBool::new(false);
        let chosen = CHOSEN.get_or_init(|| std::env::var("MUTANT").ok());
        let on = chosen.as_deref() == Some(name);
        if on && !SEEN.load(Ordering::Relaxed) && !SEEN.swap(true, Ordering::Relaxed) {
            std::io::Write::write_all(&mut std::io::stderr(), b"the mutant is reached\\n").ok();
        }
        on
    }
}
"""


class Unplaced(Exception):
    pass


def place(mutant, source):
    """Where the text between the marks stands, whatever the white space is."""
    before, rest = mutant.where.split("<<<")
    middle, after = rest.split(">>>")
    pattern = "(%s)(%s)(%s)" % tuple(
        r"\s*".join(re.escape(char) for char in part if not char.isspace()) + end
        for part, end in ((before, r"\s*"), (middle, r"\s*"), (after, ""))
    )
    found = [m for m in re.finditer(pattern, source)]
    if len(found) != 1:
        raise Unplaced(f"{mutant.name}: {len(found)} places in {mutant.file}, not one")
    start, end = found[0].span(2)
    return start, start + len(source[start:end].rstrip())


def mutated(source, mutants):
    """The source with all the mutants, each behind its switch."""
    spans = {}
    for mutant in mutants:
        spans.setdefault(place(mutant, source), []).append(mutant)

    def text(start, end, inside):
        out, at = [], start
        while inside:
            # The outermost that begins first.
            span = min(inside, key=lambda span: (span[0], -span[1]))
            own = [other for other in inside if span[0] <= other[0] and other[1] <= span[1]]
            inner = [other for other in own if other != span]
            inside = [other for other in inside if other not in own]
            for other in inside:
                if other[0] < span[1] and span[0] < other[1]:
                    raise Unplaced(f"{spans[span][0].name} and {spans[other][0].name} overlap")
            out.append(source[at : span[0]])
            original = text(*span, inner)
            statement = original.rstrip().endswith((";", "}"))
            switch = "".join(
                f'if crate::mutants::on("{m.name}") {{ {m.to} }} else ' for m in spans[span]
            )
            whole = f"{switch}{{ {original} }}"
            out.append(whole if statement else f"({whole})")
            at = span[1]
        out.append(source[at:end])
        return "".join(out)

    return text(0, len(source), list(spans))


def by_file(mutants):
    files = {}
    names = set()
    for mutant in mutants:
        if mutant.name in names:
            raise Unplaced(f"two mutants are called {mutant.name}")
        names.add(mutant.name)
        files.setdefault(mutant.file, []).append(mutant)
    return files


def plant(mutants, libraries, check_only):
    """Copies the workspace with the mutants, which are in these packages."""
    problems, texts = [], {}
    for file, mutants in by_file(mutants).items():
        source = (ROOT / file).read_text()
        try:
            texts[file] = mutated(source, mutants)
        except Unplaced as problem:
            problems.append(str(problem))
    if problems:
        sys.exit("\n".join(["Mend the catalogue in testing/mutants:"] + problems))
    if check_only:
        return
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split("\0")
    for name in filter(None, names):
        source, copy = ROOT / name, TREE / name
        if not source.is_file():
            continue
        content = source.read_bytes()
        if name in texts:
            content = texts[name].encode()
        if name in libraries:
            content += SWITCH.encode()
        if not copy.exists() or copy.read_bytes() != content:
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(content)
            copy.chmod(source.stat().st_mode)


def compile_all(packages):
    """Compiles the code that has mutants, also as it is in models."""
    for package in packages:
        build(package, "--lib", command=("check",))
    build("capnp-threads-core", "--lib", flags="--cfg rpc_model", target="model", command=("check",))


def build(package, *options, flags="", target="target", command=("test", "--no-run")):
    """Builds tests, as `cargo test` does, and returns the programs."""
    env = dict(os.environ, CARGO_INCREMENTAL="0")
    if flags:
        env["RUSTFLAGS"] = flags
    command = ["cargo", *command, "-p", package, *options]
    command += ["--target-dir", str(WORK / target)]
    ran = subprocess.run(command, cwd=TREE, env=env, stderr=subprocess.PIPE, text=True)
    if ran.returncode:
        sys.exit(ran.stderr)
    programs = re.findall(r"Executable .*\((.*)\)", ran.stderr)
    return [TREE / program for program in programs]


class Pauses:
    """Notices when the whole machine stood still, or this program and those it has begun: time
    that is over then tells nothing of a mutant."""

    LONG = 5

    def __init__(self):
        self.last, self.looked = 0, time.monotonic()
        threading.Thread(target=self.look, daemon=True).start()

    def look(self):
        while True:
            time.sleep(1)
            now = time.monotonic()
            if now - self.looked > self.LONG:
                self.last = now
            self.looked = now

    def since(self, moment):
        return self.last > moment or time.monotonic() - self.looked > self.LONG


PAUSES = Pauses()


class Check:
    def __init__(self, name, arguments, limit, env=None, program=None, folder="rpc-core"):
        self.name, self.arguments, self.limit = name, arguments, limit
        self.env, self.program, self.folder = env or {}, program, folder

    def run(self, mutant):
        """Returns whether the check passed, what it said, whether the mutant's place was
        reached, and all that it printed."""
        while True:
            began = time.monotonic()
            found = self.run_once(mutant)
            if found[0] or not PAUSES.since(began):
                return found

    def run_once(self, mutant):
        env = dict(os.environ, RUST_BACKTRACE="0", **self.env)
        env.pop("MUTANT", None)
        if mutant:
            env["MUTANT"] = mutant.name
        child = subprocess.Popen(
            [self.program, *self.arguments],
            cwd=TREE / self.folder,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        began, said, passed = time.monotonic(), [], None

        def end():
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

        timer = threading.Timer(self.limit, end)
        timer.start()
        failed, reached, summary = [], False, ""
        for line in child.stdout:
            said.append(line)
            reached = reached or "the mutant is reached" in line
            # What follows looks for a shorter walk, which nobody needs here.
            if found := re.search(r"(walk \d+) of \d+ steps.* fails", line):
                failed.append(found.group(1))
                end()
            if found := re.match(r"test (?!result)(\S+) .*FAILED", line):
                failed.append(found.group(1).removeprefix("tests::"))
            if found := re.search(r"(\S+) hangs: it did not end within", line):
                failed.append(found.group(1).removeprefix("tests::"))
            if line.startswith("test result"):
                summary = line.strip()
        status = child.wait()
        timer.cancel()
        if time.monotonic() - began >= self.limit and not failed:
            return False, f"no end in {self.limit} s", reached, "".join(said)
        if status == 0 and not failed:
            return True, summary, reached, "".join(said)
        failed.sort(key=lambda name: (name.startswith(VAGUE), name))
        what = failed[0] if failed else f"status {status}"
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        return False, what + more, reached, "".join(said)


def checks(wanted, walks, limit):
    # Optimized, for walks are many, but not for longer than it takes to make them.
    profile = "profile.release.package.capnp-threads-core"
    fast = ("--release", "--config", f"{profile}.opt-level=1", "--config", f"{profile}.debug=false")
    core = ("capnp-threads-core", "--lib", *fast)
    known = []
    if {"tests", "walk"} & wanted:
        (program,) = build(*core)
        tests = ["--skip", "random_walks", "--test-threads=2"]
        known.append(Check("tests", tests, limit, None, program))
        # Of as many walks as are asked for, one in ten is one in moods.
        walk = ["random_walks_in_moods", "--nocapture", "--test-threads=1"]
        known.append(Check("walk", walk, limit, {"WALK_RUNS": str(10 * walks)}, program))
    if "models" in wanted:
        (program,) = build(*core, flags="--cfg rpc_model", target="model")
        known.append(Check("models", ["models", "--test-threads=2"], limit, None, program))
    return [check for check in known if check.name in wanted]


class Known:
    """What was found out before, with the same programs and the same arguments."""

    def __init__(self, run):
        self.lock = threading.Lock()
        self.keys = {}
        for check in run:
            what = hashlib.sha256(check.program.read_bytes())
            what.update(repr((check.arguments, check.env)).encode())
            self.keys[check.name] = f"{check.name} {what.hexdigest()}"
        before = json.loads(KNOWN.read_text()) if KNOWN.exists() else {}
        self.found = {key: before.get(key, {}) for key in self.keys.values()}

    def get(self, check, mutant):
        return self.found[self.keys[check.name]].get(mutant.name)

    def put(self, check, mutant, said):
        with self.lock:
            self.found[self.keys[check.name]][mutant.name] = said
            KNOWN.write_text(json.dumps(self.found, indent=1))


class Result:
    """What the checks said of a mutant, and which of them noticed it."""

    def __init__(self, mutant):
        self.mutant, self.cells = mutant, {}

    def noticed(self):
        quiet = ("", "survives", "not reached")
        return [name for name in NAMES if self.cells.get(name, "") not in quiet]

    def row(self, checks):
        said = " | ".join(self.cells.get(name, "") for name in checks)
        return f"| `{self.mutant.name}` | {self.mutant.what} | {said} |"


# What the checks are called in the table.
NAMES = {"tests": "tests of the core", "walk": "walks in moods", "models": "models"}


def headed(checks):
    head = "| mutant | what is wrong | " + " | ".join(NAMES[name] for name in checks) + " |"
    return head + "\n" + "|---" * (2 + len(checks)) + "|"


def summary(results, checks, walks):
    noticed = [result.noticed() for result in results]
    counts = ", ".join(
        f"{sum(name in names for names in noticed)} by {NAMES[name]}" for name in checks
    )
    return (
        f"{sum(map(bool, noticed))} of {len(results)} mutants are noticed: {counts}."
        f" Of the walks in moods, {walks} were made for each at most."
    )


def parts_of(page):
    """What a page has before the table, in its place, and behind it."""
    begin, end = "<!-- mutants: begin -->\n", "<!-- mutants: end -->\n"
    before, rest = page.read_text().split(begin)
    table, after = rest.split(end)
    return before + begin, table, end + after


def rows_of(page):
    """The cells behind the name of each mutant in the page's table."""
    found = {}
    for line in parts_of(page)[1].splitlines():
        if row := re.fullmatch(r"\| `(\S+)` \| (.*) \|", line):
            found[row.group(1)] = row.group(2).split(" | ")
    return found


def put_into_page(page, text):
    """Writes the table into the page, between the lines that say so."""
    before, _, after = parts_of(page)
    page.write_text(f"{before}\n{text}\n{after}")


def write(results, walks):
    """Puts the results into the page, whose other rows stay."""
    known = rows_of(PAGE)
    found = {result.mutant.name: result for result in results}
    merged = []
    for mutant in MUTANTS:
        result = Result(mutant)
        result.cells.update(zip(NAMES, known.get(mutant.name, ["", ""])[1:]))
        if mutant.name in found:
            result.cells.update(found[mutant.name].cells)
        if any(result.cells.values()):
            merged.append(result)
    rows = "\n".join(result.row(NAMES) for result in merged)
    none = "\n".join(f"| `{m.name}` | {m.what} | {why} |" for m, why in EQUIVALENT)
    put_into_page(
        PAGE,
        f"{summary(merged, NAMES, walks)}\n\n{headed(NAMES)}\n{rows}\n\n"
        f"These change nothing that could be seen:\n\n"
        f"| change | what is done | why that is no mistake |\n|---|---|---|\n{none}\n",
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--checks", default="tests,walk,models")
    parser.add_argument("--every", action="store_true", help="run every check for each mutant")
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    parser.add_argument("--walks", type=int, default=1000, help="how many walks in moods at most")
    parser.add_argument("--limit", type=int, default=120, help="seconds that a check may take")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="mutants at a time")
    parser.add_argument("--logs", action="store_true", help="keep what each run said")
    options = parser.parse_args()

    everything = MUTANTS + [mutant for mutant, _ in EQUIVALENT]
    plant(everything, ["rpc-core/src/lib.rs"], options.check)
    if options.compile:
        compile_all(["capnp-threads-core"])
    if options.check or options.compile:
        print(f"{len(MUTANTS)} mutants have their places, and {len(EQUIVALENT)} that are none")
        return
    unknown = set(options.names) - {m.name for m in everything}
    if unknown:
        sys.exit(f"no such mutants: {', '.join(sorted(unknown))}")
    chosen = [m for m in everything if m.name in options.names] if options.names else MUTANTS
    run = checks(set(options.checks.split(",")), options.walks, options.limit)
    for check in run:
        passed, said, _, log = check.run(None)
        if not passed:
            sys.exit(f"{log[-4000:]}\n{check.name} fails without any mutant: {said}")
        print(f"{check.name} without a mutant: {said}", flush=True)
    known = Known(run)

    def one(mutant):
        result = Result(mutant)
        for check in run:
            before = known.get(check, mutant)
            if before is None or options.logs:
                passed, said, reached, log = check.run(mutant)
                if options.logs:
                    (WORK / f"{mutant.name}.{check.name}.log").write_text(log)
                before = [passed, ("survives" if reached else "not reached") if passed else said]
                known.put(check, mutant, before)
            passed, result.cells[check.name] = before
            if not passed and not options.every:
                break
        return result

    ran = [check.name for check in run]
    print("\n" + headed(ran), flush=True)
    results = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for result in pool.map(one, chosen):
            print(result.row(ran), flush=True)
            results.append(result)
    print("\n" + summary(results, ran, options.walks))
    if options.write:
        write(results, options.walks)
    survivors = [result.mutant.name for result in results if not result.noticed()]
    if survivors:
        sys.exit("not noticed: " + ", ".join(survivors))


if __name__ == "__main__":
    main()
