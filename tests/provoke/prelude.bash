set +e
exec 2>&1
# Runs a command on a small file system of its own, mounted at ./disk with the given options.
on_disk() { local options=$1; shift; mkdir -p disk; unshare -m bash -c "mount -t tmpfs -o $options none disk && $*"; }
# Runs a command as a person who may write nowhere.
as_nobody() { chmod 755 . "$HOME/.."; setpriv --reuid=65534 --regid=65534 --clear-groups "$@"; }
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
# Runs a command in another language, with the translations of $LOCALES.
foreign() {
  local language=$1; shift
  unshare -m bash -c 'mount --bind "$0/usr/share/locale" /usr/share/locale && exec env LC_ALL=C.UTF-8 LANG=C.UTF-8 LANGUAGE='"$language"' "$@"' "$LOCALES" "$@"
}
# An environment with no package at all, and pip for it.
venv() { "$BASE" -m venv --without-pip v; }
pip() { "$BASE" -m pip --python v/bin/python "$@"; }
uv() { "$(dirname "$PY")/uv" "$@"; }
# A wheel of no contents: name, version, further lines of its metadata.
wheel() {
  "$PY" - "$@" <<'S'
import sys, zipfile
name, version, *more = sys.argv[1:]
info = f"{name}-{version}.dist-info"
with zipfile.ZipFile(f"{name}-{version}-py3-none-any.whl", "w") as file:
    file.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *more, ""]))
    file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    file.writestr(f"{info}/RECORD", "")
S
}
# A project whose setup.py begins with the given line.
package() {
  mkdir -p p; printf '%s\nfrom setuptools import setup\nsetup(name="example", version="1.0")\n' "$1" > p/setup.py
  printf '[build-system]\nrequires = ["setuptools%s", "wheel"]\nbuild-backend = "setuptools.build_meta"\n' "$2" > p/pyproject.toml
}
# Serves the given status on a port of its own, which it prints into the file `port`; TLS where a certificate is given.
serve() {
  "$PY" - "$@" > /dev/null 2>&1 <<'S' &
import http.server, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_error(int(sys.argv[1]))
    do_CONNECT = do_HEAD = do_GET
server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
open("port", "w").write(str(server.server_port))
server.serve_forever()
S
  trap "kill $!" EXIT
  until [ -s port ]; do sleep 0.1; done
  port=$(cat port)
}
certificate() { openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=index.example -addext subjectAltName=IP:127.0.0.1 -keyout key.pem -out cert.pem 2> /dev/null; cat key.pem cert.pem > both.pem; }
kernel() { printf '__global__ void kernel(float* x) { *x = 1.0f; }\n' > kernel.cu; }
# A copy of the toolkit made of links, in which a tool can be exchanged.
view() { mkdir view; cp -rs "$CUDA/bin" "$CUDA/nvvm" view; ln -s "$CUDA/include" "$CUDA/lib64" view; rm view/bin/nvcc; cp "$CUDA/bin/nvcc" view/bin/nvcc; }
# A toolkit of which nothing is there but an nvcc that tells its release.
fake_toolkit() {
  mkdir -p fake/bin; printf '#!/bin/sh\necho "nvcc: NVIDIA (R) Cuda compiler driver"\necho "Cuda compilation tools, release %s, V%s.89"\n' "$1" "$1" > fake/bin/nvcc
  chmod +x fake/bin/nvcc
}
