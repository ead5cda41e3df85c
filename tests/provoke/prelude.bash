set +e
exec 2>&1
# Runs a command on a small file system of its own, mounted at ./disk with the given options.
on_disk() { local options=$1; shift; mkdir -p disk; unshare -m bash -c "mount -t tmpfs -o $options none disk && $*"; }
# Runs a command as a person who may write nowhere.
as_nobody() { chmod 755 . ..; setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
# A shared object of the given C code, and Python importing it as a module.
import_object() { gcc -shared -fPIC -o "$1.so" -x c - -x none "${@:2}" && "$PY" -c "import sys; sys.path.insert(0, '.'); import $1"; }
# g++ waiting for its input, whose compiler proper is then ended by the given signal.
end_compiler() {
  sleep 3 | g++ -x c++ -c -o x.o - & local driver=$!
  local compiler=; while [ -z "$compiler" ]; do compiler=$(ps -o pid=,ppid=,comm= -A | awk -v me=$$ '$3 == "cc1plus" {print $1}' | while read -r each; do tr '\0' ' ' < /proc/$each/environ 2>/dev/null | grep -q "HOME=$HOME " && echo "$each"; done | head -1); done
  kill "-$1" "$compiler"; wait "$driver"
}
hello() { printf '#include <cstdio>\nint main() { std::puts("hello"); }\n' > hello.cpp; }
project() { mkdir -p "$1"; cat > "$1/CMakeLists.txt"; }
