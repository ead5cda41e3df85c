"""A C extension whose setup.py does not come to an end, in the way that RESTLESS says.

``compile``  a compiler that never comes to the end of its source
``write``    a compiler that writes forever: a file that includes itself twice, 180 levels deep
``bomb``     a fork bomb, of 250 processes at most that start others for as long as they live

Processes that got away from it (setsid, twice detached, with an empty environment) are there beside each.
"""

import os
import subprocess
import sys
import time

from setuptools import setup

TWICE = '#if __INCLUDE_LEVEL__ < 180\n%s\n#include "twice.h"\n#include "twice.h"\n#endif\n'
BOMB = "f() { [ $1 -gt 0 ] && { f $(($1 - 1)) & f $(($1 - 1)) & }; while :; do sleep 0.3 & wait $!; done; }; f 6"


def compile():
    with open("build/twice.h", "w") as file:
        file.write(TWICE % "int a;")
    with open("build/endless.c", "w") as file:
        file.write('#include "twice.h"\n')
    subprocess.Popen(["gcc", "-c", "build/endless.c", "-o", "build/endless.o"])


def write():
    with open("build/twice.h", "w") as file:
        file.write(TWICE % ('"' + 4000 * "x" + '"'))
    subprocess.Popen(["gcc", "-E", "build/twice.h", "-o", "build/endless.i"])
    subprocess.Popen(["gcc", "-E", "build/twice.h", "-o", os.path.join(os.environ["TMPDIR"], "endless.i")])


def bomb():
    subprocess.Popen(["sh", "-c", BOMB])


ways = os.environ.get("RESTLESS")
if ways and "bdist_wheel" in sys.argv:
    os.makedirs("build", exist_ok=True)
    mark = os.environ["RESTLESS_MARK"]
    subprocess.Popen(["setsid", "sh", "-c", "(sleep 600; :) & (env -i setsid sh -c 'sleep 600; : %s' &)" % mark, mark])
    globals()[ways]()
    for tick in range(600):
        print("tick %d" % tick, flush=True)
        time.sleep(0.2)
setup()
