"""Compares dotenv.c with python-dotenv on generated files: `oracle_dotenv.py dotenv_dump [seed [files]]`.

Exit status 77 where python-dotenv is missing or older than 1.2.4: older ones keep a byte order mark, and read
a backslash before a closing quote and `A= # comment` in other ways.
"""

import importlib.metadata
import os
import random
import subprocess
import sys
import tempfile
import time

try:
    import dotenv
    import dotenv.main
    import dotenv.parser
except ImportError:
    print("python-dotenv is not installed")
    sys.exit(77)

VERSION = importlib.metadata.version("python-dotenv")
if tuple(int(part) for part in VERSION.split(".")[:3]) < (1, 2, 4):
    print("python-dotenv", VERSION, "is older than 1.2.4")
    sys.exit(77)

PIECES = [
    "A",
    "B",
    "C",
    "=",
    "=",
    "=",
    "'",
    '"',
    "\\",
    "#",
    " ",
    "\t",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "${A}",
    "${B:-x}",
    "${",
    "}",
    ":",
    "-",
    "export ",
    "export",
    "\\n",
    "\\'",
    '\\"',
    "$",
    "é",
    "x y",
    "\ufeff",
    "A=1\n",
    "B='2'\n",
    'C="${A}3"\n',
]


def expected(path):
    """The names and values of the file, or None where a statement makes no sense."""
    with open(path, encoding="utf-8") as stream:
        if any(binding.error for binding in dotenv.parser.parse_stream(stream)):
            return None
    values = dotenv.main.DotEnv(path, override=False, encoding="utf-8").dict()
    return None if any("=" in name for name in values) else dict(values)


def actual(dump, paths):
    fields = iter(subprocess.run([dump, *paths], check=True, capture_output=True).stdout.decode().split("\0"))
    for _ in paths:
        values = {}
        for name in fields:
            if name in ".!":
                break
            value = next(fields)
            values[name] = value[1:] if value[0] == "=" else None
        yield None if name == "!" else values


def main():
    dump = sys.argv[1]
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else int(time.time())
    files = int(sys.argv[3]) if len(sys.argv) > 3 else 3000
    print("seed", seed, "python-dotenv", VERSION)
    choose = random.Random(seed)
    os.environ["B"] = "of the environment"
    good = 0
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, files, 500):
            paths = []
            for i in range(start, min(files, start + 500)):
                paths.append(os.path.join(folder, str(i)))
                with open(paths[-1], "w", encoding="utf-8", newline="") as stream:
                    stream.write("".join(choose.choices(PIECES, k=choose.randint(1, 14))))
            for path, got in zip(paths, actual(dump, paths)):
                want = expected(path)
                good += bool(want)
                if got != want or (got and list(got) != list(want)):
                    with open(path, "rb") as stream:
                        print(stream.read(), "is", want, "for python-dotenv, here", got)
                    sys.exit(1)
    print(files, "files,", good, "of them with variables and without problems")


main()
