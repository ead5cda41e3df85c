# cudabuild, the toolkit and the cell's Python. What is built later runs as a user that can write neither the runner's
# command files nor cudabuild; its number is none that a runner has.
"python$BOOT_PYTHON" -m venv "$TOOLS"
"$TOOLS/bin/pip" install --quiet --disable-pip-version-check "$CUDABUILD"
id cudabuild > /dev/null 2>&1 || useradd --uid 47110 --home-dir "$WORK/home" cudabuild
mkdir -p "$WORK/home" "$WORK/cache" "$WORK/out"
chown -R cudabuild: "$WORK/home" "$WORK/cache" "$WORK/out"
builder=(setpriv --reuid=cudabuild --regid=cudabuild --init-groups env "HOME=$WORK/home" "CUDABUILD_CACHE=$WORK/cache")
python=$(command -v "python$CELL_PYTHON" || true)
if [ -z "$python" ]; then
  "${builder[@]}" "$TOOLS/bin/uv" python install --quiet "$CELL_PYTHON"
  python=$("${builder[@]}" "$TOOLS/bin/uv" python find --managed-python "$CELL_PYTHON")
fi
echo "CELL_INTERPRETER=$python" >> "$GITHUB_ENV"
[ -z "$CELL_CUDA" ] || "${builder[@]}" "$TOOLS/bin/cudabuild" toolkit install "$CELL_CUDA"
